"""
Every command that README and tutorial show is run, or named with the test that runs it.

A command that stands in neither table fails `test_every_command_has_its_row`.
"""
import importlib
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from ros_graph import ROOT, wait_until

from imn_world_model import simulate

README, TUTORIAL = ROOT / 'README.md', ROOT / 'docs' / 'tutorial.md'
MODULE = 'python -m imn_world_model.'
# Words that a command of ours, or of ROS or a package manager, begins with.
PROGRAMS = ('.venv/bin/', 'colcon ', 'export ', 'git ', 'make ', 'mkdir ', 'perception ', 'pip ',
            'play ', 'python ', 'python3 ', 'ros2 ', 'rosdep ', 'source ')


@dataclass(frozen=True)
class Elsewhere:
    """:param test: that runs the command, `file::function`; ``''`` where none can."""

    test: str


@dataclass(frozen=True)
class Small:
    """
    Run here, with more or other options.

    :param options: put in place of those of the same name, or added.
    """

    options: str = ''


WORKSPACE = 'test_workspace.py::'
NODE = Elsewhere('test_commands.py::test_the_tutorials_node_answers_the_tutorials_log')
BUILT = Elsewhere(f'{WORKSPACE}test_plain_colcon_build_brings_messages_package_and_executables')
PIP = Elsewhere(
    f'{WORKSPACE}test_rosdep_and_the_readmes_pip_line_bring_all_that_the_package_needs')
SITE = Elsewhere('test_docs.py::test_the_site_has_every_page_and_nothing_from_elsewhere')
LAUNCH = Elsewhere('test_launch.py::test_arguments_reach_the_node_from_where_the_user_stands')
# By the make target of this very run, or on a machine that has network, root or a robot.
MACHINE = Elsewhere('')
TRAIN = '--preset debug --accelerator cpu --quiet'

README_TABLE = {
    'make demo': Elsewhere('test_demo.py::test_demo_answers_the_shipped_log_and_leaves_picture_'
                           'and_recording'),
    'make test': MACHINE,
    'make docs': SITE,
    'python3 -m venv .venv && . .venv/bin/activate': MACHINE,
    'pip install torch==2.13.0 -c constraints.txt': MACHINE,
    "pip install '.[train,ros]' -c constraints.txt": Elsewhere(
        'test_release.py::test_the_wheel_runs_offline_with_its_model'),
    f'{MODULE}data inspect logs/': Small(),
    f'{MODULE}train --data logs/ --preset log32': Small(
        f'{TRAIN} --name log32-seed0 --set train.steps=4'),
    f'{MODULE}evaluate --run runs/log32-seed0 --data logs/ --out report': Small(),
    f'{MODULE}export --run runs/log32-seed0 --out model.onnx': Small(),
    f'{MODULE}label --model model.onnx --data logs/ --out names.html': Small(),
    f'{MODULE}infer --model model.onnx --data logs/ --out answers.jsonl': Small(),
    f'{MODULE}dynamics --run runs/log32-seed0 --data logs/': Small(
        '--steps 4 --horizon 3 --seen 2 --batch 4 --hidden 8 --quiet'),
    f'{MODULE}imagine --run runs/log32-seed0 --data logs/ --out film.mp4': Small(
        '--seen 2 --steps 4 --clips 1 --split all'),
    f'{MODULE}bench': Elsewhere('test_bench_winner.py::test_growth_times_every_size_and_draws_it'),
    f'{MODULE}simulate --out logs/drive --clips 240 --frames 24 --rate 2 --seed 1': Small(
        '--clips 1 --frames 2 --jobs 1'),
    f'{MODULE}render --out shapes.h5 --count 48000 --clips object --views 8': Small(
        '--count 16 --size 16'),
    'mkdir -p ws/src && cd ws/src && git clone REPOSITORY imn_world_model && cd ..': MACHINE,
    'rosdep install --from-paths src --ignore-src -y': PIP,
    'python3 -m venv --system-site-packages .venv && touch .venv/COLCON_IGNORE && '
    '. .venv/bin/activate': PIP,
    "pip install onnxruntime filterpy lz4 mcap 'numpy<2' 'protobuf>=4.22' rosbags zstandard": PIP,
    'colcon build': BUILT,
    'source install/setup.bash': BUILT,
    'ros2 launch imn_world_model perception.launch.py model:=model.onnx '
    'image_topics:=/front/image_raw,/left/image_raw/compressed': LAUNCH,
    '.venv/bin/perception --ros-args -p image_topics:=/front/image_raw': NODE,
    'ros2 topic echo /imn/identity --field label': MACHINE,
}
TUTORIAL_TABLE = {
    'make setup': MACHINE,
    'export REPO=$PWD && . .venv/bin/activate': MACHINE,
    'mkdir -p /tmp/tutorial && cd /tmp/tutorial': MACHINE,
    f'{MODULE}simulate --out logs/drive --clips 12 --frames 12 --rate 2 --seed 5': Small(
        '--frames 5 --jobs 1'),
    f'{MODULE}data inspect logs/': Small(),
    f'{MODULE}train --data logs/ --preset debug --roi 128 48 384 384': Small(
        '--accelerator cpu --quiet'),
    f'{MODULE}evaluate --run runs/debug-seed0 --data logs/ --ground-truth-topic /ground_truth '
    '--out report': Small(),
    f'{MODULE}export --run runs/debug-seed0 --out model.onnx --label shape --ground-truth-topic '
    '/ground_truth --weights float16': Small(),
    f'{MODULE}infer --model model.onnx --data logs/ --out answers.jsonl': Small(),
    'perception --ros-args -p model:=model.onnx -p image_topics:=/camera/image_raw/compressed':
        NODE,
    'python $REPO/examples/listen.py': NODE,
    'play --ros-args -p bag:=logs/drive -p rate:=4.0 -p listener:=/camera/image_raw/compressed':
        NODE,
    'ros2 launch imn_world_model perception.launch.py model:=model.onnx': LAUNCH,
    'ros2 topic echo /imn/identity': MACHINE,
    'ros2 bag play': MACHINE,
    f'{MODULE}infer --data logs/ --out shipped.jsonl': Small(),
    f'{MODULE}evaluate --run $REPO/export/demo_run --data logs/ --ground-truth-topic '
    '/ground_truth --split train --out shipped_report': Small(),
    f'{MODULE}simulate --out logs/long --clips 240 --frames 24 --rate 2 --seed 1': Small(
        '--clips 1 --frames 2 --jobs 1'),
    f'{MODULE}train --data logs/long --preset log --roi 128 48 384 384': Small(
        f'{TRAIN} --data logs/drive --set train.steps=4 --name log-seed0'),
}
TABLES = {README: README_TABLE, TUTORIAL: TUTORIAL_TABLE}


def shown(page: Path) -> dict[str, list[str]]:
    """
    Read a page's commands.

    :return: in the page's order, each with the lines of output that are shown below it.
    """
    found: dict[str, list[str]] = {}
    last = ''
    pieces = re.finditer(r'```(\w*)([^\n]*)\n(.*?)```|(?<!`)`([^`\n]+)`(?!`)',
                         page.read_text(), re.S)
    for language, title, block, inline in (piece.groups() for piece in pieces):
        if inline is not None:
            if inline.startswith(PROGRAMS) and ' ' in inline.strip():
                found.setdefault(inline, [])
        elif language == '':
            for line in re.sub(r'\\\n\s*', '', block).splitlines():
                last = re.sub(r'\s+#.*', '', line).strip()
                found.setdefault(last, [])
        elif language == 'text' and not title:
            found[last] += block.splitlines()
    return found


def words(command: str, small: Small) -> list[str]:
    """:return: a command's words after the module, its options replaced by those of `small`."""
    def options(given: list[str]) -> dict[str, list[str]]:
        split: dict[str, list[str]] = {}
        for word in given:
            name = word if word.startswith('--') else next(reversed(split), '')
            split.setdefault(name, [])
            if not word.startswith('--'):
                split[name].append(word)
        return split
    text = command.replace('$REPO', str(ROOT)).removeprefix(MODULE)
    merged = options(shlex.split(text)[1:]) | options(shlex.split(small.options))
    return [word for name, values in merged.items() for word in ([name] if name else []) + values]


def run(command: str, small: Small, capsys: pytest.CaptureFixture[str]) -> str:
    """:return: what a command prints, run in this process."""
    module = command.removeprefix(MODULE).split()[0]
    module = f'{module}.__main__' if module in ('data', 'bench') else module
    capsys.readouterr()
    importlib.import_module(f'imn_world_model.{module}').main(words(command, small))
    captured = capsys.readouterr()
    return captured.out + captured.err


def general(line: str) -> str:
    """:return: a line of output without what differs between runs: numbers, names, places."""
    line = re.sub(r'/\S+/logs/', 'PLACE/logs/', line)
    line = re.sub(r'(?:(?:cube|sphere|capsule|cylinder)(?: \d+)?(?:, )?)+', 'NAMES', line)
    return ' '.join(re.sub(r'\d+(\.\d+)?(-\d+)?', 'N', line).split())


@pytest.fixture(scope='module')
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """:return: the folder in which the tutorial is followed, with a cache of its own."""
    folder = tmp_path_factory.mktemp('tutorial')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('IMN_CACHE_DIR', str(folder / 'cache'))
        yield folder


@pytest.mark.parametrize('page', TABLES, ids=lambda page: page.name)
def test_every_command_has_its_row(page: Path) -> None:
    assert set(shown(page)) == set(TABLES[page])


def test_tests_that_run_the_others_are_there() -> None:
    named = {row.test for table in TABLES.values() for row in table.values()
             if isinstance(row, Elsewhere)} - {''}
    for test in named:
        file, _, function = test.partition('::')
        assert f'\ndef {function}(' in (ROOT / 'tests' / file).read_text(), test


def test_the_readmes_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                  capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('IMN_CACHE_DIR', str(tmp_path / 'cache'))
    simulate.main(shlex.split('--out logs/room --clips 6 --frames 8 --rate 5 --seed 3 --jobs 1 '
                              '--commands all'))
    for command in shown(README):
        row = README_TABLE[command]
        if isinstance(row, Small):
            run(command, row, capsys)
    for made in ('inspect/contact_sheet.png', 'runs/log32-seed0/checkpoints/last.ckpt',
                 'report/report.html', 'model.onnx', 'names.html', 'answers.jsonl', 'film.mp4',
                 'logs/drive/metadata.yaml', 'shapes.h5'):
        assert (tmp_path / made).exists(), made


def test_the_tutorials_commands_print_what_it_shows(
        place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(place)
    for command, lines in shown(TUTORIAL).items():
        row = TUTORIAL_TABLE[command]
        if not isinstance(row, Small):
            continue
        printed = {general(line) for line in re.split('[\r\n]', run(command, row, capsys))}
        for line in lines:
            if line.startswith('runs/'):
                assert (place / line.split()[0]).exists(), line
            else:
                assert general(line) in printed, f'{command}\nprinted no\n{line}\nbut {printed}'
    assert (place / 'shipped_report' / 'report.html').exists()


def test_the_tutorials_node_answers_the_tutorials_log(place: Path, monkeypatch: pytest.MonkeyPatch
                                                      ) -> None:
    if not (place / 'model.onnx').exists():
        pytest.fail('this needs the model of test_the_tutorials_commands_print_what_it_shows')
    monkeypatch.setenv('REPO', str(ROOT))
    started, logs = [], {}
    commands = [command for command, row in TUTORIAL_TABLE.items()
                if row is NODE and command in shown(TUTORIAL)]
    try:
        for command in commands:
            name, *rest = shlex.split(os.path.expandvars(command))
            program = sys.executable if name == 'python' else Path(sys.prefix) / 'bin' / name
            logs[name] = place / f'{name}.log'
            with logs[name].open('wb') as output:
                started.append(subprocess.Popen([program, *rest], cwd=place, stdout=output,
                                                stderr=subprocess.STDOUT))
        answer = re.compile(r'^(cube|sphere|capsule|cylinder)( \d)? \(\d\.\d\d\)$', re.M)
        wait_until(lambda: answer.search(logs['python'].read_text()),
                   lambda: '\n'.join(path.read_text() for path in logs.values()))
        for command in commands:
            told = logs[command.split()[0]].read_text()
            for line in shown(TUTORIAL)[command]:
                words = line.partition(']: ')[2]
                # The player's last line comes when all was played.
                if words and not words.startswith('played'):
                    assert general(words) in general(told), told
    finally:
        for process in started:
            process.send_signal(signal.SIGINT)
        for process in started:
            process.wait(20)
