"""A page on which identities are named, and the names in the model file."""
import base64
import json
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import yaml
from browser import CHROMIUM, browser
from images import picture, views
from ros_graph import wait_until

from imn_world_model import infer
from imn_world_model.base.errors import UserError
from imn_world_model.enrolment.given_names import read_names, write_names
from imn_world_model.enrolment.typical import typical, varied
from imn_world_model.label import main
from imn_world_model.robot.inference import ImnModel

# Of the model `knowing_model`, by number of the thing.
LABELS = {1: 'cup', 2: 'box', 3: 'ball'}


@pytest.fixture(scope='module', autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('IMN_CACHE_DIR', str(tmp_path_factory.mktemp('cache')))
        yield


def clip(folder: Path, thing: int, count: int, first: int) -> Path:
    """:return: a folder of numbered pictures of a thing."""
    folder.mkdir(parents=True)
    for number, view in enumerate(views(thing, count, first)):
        cv2.imwrite(str(folder / f'frame_{number:03}.png'), view[..., ::-1])
    return folder


@pytest.fixture(scope='module')
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """:return: six clips; the box is seen most, then the ball, then the cup."""
    folder = tmp_path_factory.mktemp('log')
    for thing, count in ((1, 5), (2, 9), (3, 7)):
        for number in range(2):
            clip(folder / f'{LABELS[thing]}_{number}', thing, count, 200 + 50 * number)
    return folder


@pytest.fixture(scope='module')
def unnamed(knowing_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """:return: the model before anybody named its identities."""
    out = tmp_path_factory.mktemp('unnamed') / 'model.onnx'
    write_names(knowing_model, ('identity 0', 'identity 1', 'identity 2'), out)
    return out


def rows(page: str) -> dict[str, tuple[str, list[np.ndarray]]]:
    """:return: of each row, by its identity's name: what the input holds, and its pictures."""
    found = {}
    for row in page.split('<div class="row"')[1:]:
        label, value = (re.search(pattern, row) for pattern in (r'data-key="(.*?)"',
                                                                r'value="(.*?)"'))
        assert label and value
        pictures = [cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), 1)[..., ::-1]
                    for data in re.findall(r'base64,([^"]+)"', row)]
        found[label[1]] = value[1], pictures
    return found


def labelled(data: list[Path], model: Path, out: Path) -> str:
    main(['--model', str(model), '--data', *map(str, data), '--out', str(out)])
    return out.read_text()


def test_each_row_shows_its_identity(knowing_model: Path, log: Path, tmp_path: Path,
                                     capsys: pytest.CaptureFixture[str]) -> None:
    page = labelled([log], knowing_model, tmp_path / 'page.html')
    assert 'page.html: 3 identities; open it in a browser' in capsys.readouterr().out
    found = rows(page)
    assert list(found) == ['box', 'ball', 'cup']      # that which won most is the first
    assert [int(count) for count in re.findall(r'won (\d+) images', page)] == [18, 14, 10]
    model = ImnModel(knowing_model, ['cpu'])
    known = {label: model.prepare(picture(thing)) for thing, label in LABELS.items()}
    for label, (value, pictures) in found.items():
        assert value == label and len(pictures) == 8
        for image in pictures:
            away = {other: np.abs(image.astype(float) - known[other]).mean() for other in known}
            assert min(away, key=away.__getitem__) == label
    assert not re.search(r'(src|href)="(?!data:)', page), 'fetched from elsewhere'


def test_names_that_nobody_gave_are_no_names(unnamed: Path, log: Path, tmp_path: Path) -> None:
    found = rows(labelled([log / 'cup_0'], unnamed, tmp_path / 'page.html'))
    assert {label: (value, len(pictures)) for label, (value, pictures) in found.items()} == {
        'identity 0': ('', 5), 'identity 1': ('', 0), 'identity 2': ('', 0)}
    assert 'no picture' in (tmp_path / 'page.html').read_text()


def test_what_is_novel_is_shown_last(knowing_model: Path, log: Path) -> None:
    model = ImnModel(knowing_model, ['cpu'])
    scores = [model.predict(prepared(model, thing)).score for thing in LABELS]
    model.novelty_threshold = float(np.median(scores))     # familiar looks, and novel all the same
    for one in typical(model, [log]):
        novel = model.predict(one.pictures).novel
        assert 0 < one.novel < one.won and not novel[0]
        assert (np.diff(novel.astype(int)) >= 0).all()


def prepared(model: ImnModel, thing: int) -> np.ndarray:
    return np.stack([model.prepare(view) for view in views(thing, 10, 200)])


def test_pictures_are_of_many_clips_and_of_all_parts_of_few() -> None:
    rank, clips = np.arange(12), np.repeat([0, 1, 2], [8, 2, 2])
    assert clips[varied(rank, clips, 3)].tolist() == [0, 1, 2]
    assert varied(rank[::-1].copy(), clips, 3).tolist() == [11, 9, 7]
    # One clip only: the best of each quarter, best quarter first.
    rank = np.array([5, 0, 9, 8, 3, 2, 7, 1])
    assert varied(rank, np.zeros(8, int), 4).tolist() == [1, 7, 5, 3]
    assert varied(rank, np.zeros(8, int), 20).tolist() == [1, 7, 5, 4, 0, 6, 3, 2]
    assert len(varied(rank[:0], rank[:0], 4)) == 0


def test_answers_have_the_new_names_and_nothing_else_changes(
        knowing_model: Path, unnamed: Path, log: Path, tmp_path: Path,
        capsys: pytest.CaptureFixture[str]) -> None:
    names, out = tmp_path / 'names.yaml', tmp_path / 'new.onnx'
    names.write_text('identity 0: "red  cup"\nidentity 2: \'ball: big, ü\'\n')
    main(['--model', str(unnamed), '--names', str(names), '--out', str(out)])
    assert 'new.onnx: 2 of 3 identities have another name' in capsys.readouterr().out
    assert ImnModel(out).labels == ('red cup', 'identity 1', 'ball: big, ü')
    answers = tmp_path / 'answers.jsonl'
    for thing, label in ((1, 'red cup'), (2, 'identity 1'), (3, 'ball: big, ü')):
        infer.main(['--model', str(out), '--data', str(log / f'{LABELS[thing]}_0'), '--out',
                    str(answers)])
        assert {json.loads(line)['label'] for line in answers.read_text().splitlines()} == {label}
    old, new = onnx.load(knowing_model), onnx.load(out)
    for proto in (old, new):
        entry = next(item for item in proto.metadata_props if item.key == 'labels')
        entry.value = ''
    assert old.SerializeToString(deterministic=True) == new.SerializeToString(deterministic=True)


@pytest.mark.parametrize(('text', 'message'), [
    ('hat: cap', "no identity is labelled 'hat'; there are cup, box, ball"),
    ('cup: ""', "the name of 'cup' is empty; give one, or leave the line out"),
    ('cup:', "the name of 'cup' is None, not a text; put it in quotes"),
    ('cup: 7', "the name of 'cup' is 7, not a text; put it in quotes"),
    ('cup: mug\nbox: mug', "'cup' and 'box' would both be 'mug'; give two names, or make them"),
    ('cup: ball', "'cup' and 'ball' would both be 'ball'"),
    ('cup: mug\ncup: hat', "names 'cup' twice; leave one line out"),
    ('cup: [', 'is not YAML'), ('- cup', 'holds no names; give lines such as'),
    ('', 'holds no names'), ('cup: \udce4', 'is no text (UTF-8)')])
def test_mistakes_in_names_are_told(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / 'names.yaml'
    path.write_bytes(text.encode(errors='surrogateescape'))
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        read_names(path, ('cup', 'box', 'ball'))
    assert str(path) in str(caught.value)


def test_names_may_change_places(tmp_path: Path) -> None:
    path = tmp_path / 'names.yaml'
    path.write_text('cup: box\nbox: cup\n')
    assert read_names(path, ('cup', 'box', 'ball')) == ('box', 'cup', 'ball')


def command(*arguments: object, without: str = '') -> subprocess.CompletedProcess:
    """:return: of the command, run where one module is not installed."""
    script = (f'import sys; sys.modules.update(dict.fromkeys({without.split()!r}))\n'
              'from imn_world_model.base.cli import run_cli\n'
              'from imn_world_model.label import main\nrun_cli(main)')
    return subprocess.run([sys.executable, '-c', script, *map(str, arguments)],
                          capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(('arguments', 'message'), [
    (['--names', 'names.yaml', '--out', 'MODEL'], 'model.onnx exists; give a name that is free'),
    (['--names', 'names.yaml', '--out', 'out.html'], 'its name must end in .onnx'),
    (['--names', 'names.yaml', '--out', 'out.onnx'], 'names.yaml: No such file'),
    (['--data', 'nowhere', '--out', 'out.html'], 'nowhere does not exist'),
    (['--data', 'nowhere', '--out', 'out.onnx'], 'its name must end in .html'),
    (['--out', 'out.html'], 'give --data for a page, or --names')])
def test_mistakes_are_one_line(unnamed: Path, tmp_path: Path, arguments: list[str],
                               message: str) -> None:
    before = unnamed.read_bytes()
    done = command('--model', unnamed, *(unnamed if word == 'MODEL' else
                                         tmp_path / word if '.' in word else word
                                         for word in arguments))
    assert done.returncode == 2 and message in done.stderr and 'Traceback' not in done.stderr
    assert unnamed.read_bytes() == before and not list(tmp_path.iterdir())


def test_torch_is_not_needed(unnamed: Path, log: Path, tmp_path: Path) -> None:
    names = tmp_path / 'names.yaml'
    names.write_text('identity 0: cup\n')
    for more in (['--data', log, '--out', tmp_path / 'page.html'],
                 ['--names', names, '--out', tmp_path / 'new.onnx']):
        done = command('--model', unnamed, *more, without='torch lightning')
        assert done.returncode == 0, done.stderr
    done = command('--model', unnamed, '--names', names, '--out', tmp_path / 'newer.onnx',
                   without='onnx')
    assert done.returncode == 2 and 'label needs onnx and jinja2' in done.stderr


@pytest.mark.skipif(not CHROMIUM, reason='no chromium: apt-get install chromium')
def test_names_typed_in_a_browser_reach_the_answers(unnamed: Path, log: Path, tmp_path: Path
                                                    ) -> None:
    labelled([log], unnamed, tmp_path / 'page.html')
    names = tmp_path / 'names.yaml'
    with browser(tmp_path / 'profile') as shown:
        shown.call('Browser.setDownloadBehavior', behavior='allow', downloadPath=str(tmp_path))
        shown.open(tmp_path / 'page.html')

        def told(selector: str) -> str:
            return str(shown.run(f'document.querySelector({selector!r}).textContent'))

        assert told('#progress') == '0 of 3 named'
        for name in ('box', "it's a ball", 'box'):
            shown.type(name)
            shown.press('Enter')
        assert told('#progress') == '3 of 3 named'
        assert "--merge box 'identity 0' --out MERGED.onnx" in told('.twice .hint')
        # The last Enter has gone to the button; the cup is above it, the ball above the cup.
        assert shown.run('document.activeElement.id') == 'download'
        shown.run('document.querySelectorAll("input")[2].focus()')
        shown.press('Enter', shift=True)
        assert shown.run('document.activeElement.value') == "it's a ball"
        shown.press('ArrowDown')
        shown.press('Enter')
        shown.press('Enter')
        wait_until(names.exists, lambda: 'no names.yaml came')
        assert yaml.safe_load(names.read_text()) == {'identity 1': 'box',
                                                     'identity 2': "it's a ball"}
        names.unlink()
        shown.run('document.querySelectorAll("input")[2].select()')
        shown.type('cup "of tea"')
        assert not shown.run('document.querySelector(".twice")')
        shown.press('Enter')
        shown.press('Enter')
        wait_until(names.exists, lambda: 'no names.yaml came')
    main(['--model', str(unnamed), '--names', str(names), '--out', str(tmp_path / 'new.onnx')])
    answers = tmp_path / 'answers.jsonl'
    infer.main(['--model', str(tmp_path / 'new.onnx'), '--data', str(log / 'cup_0'), '--out',
                str(answers)])
    assert {json.loads(line)['label']
            for line in answers.read_text().splitlines()} == {'cup "of tea"'}
