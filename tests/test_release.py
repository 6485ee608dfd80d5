"""A release: one version everywhere, commands that are listed, a wheel that runs by itself."""
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import cv2
import pytest
import yaml
from images import picture

import imn_world_model
from imn_world_model.__main__ import commands, main
from imn_world_model.base.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
VERSION = imn_world_model.__version__
# What a wheel is made of; the rest is large or none of its business.
LEFT_OUT = shutil.ignore_patterns('.*', 'build', 'dist', 'docs', 'ros2_ws', 'runs', 'site',
                                  'tests', '*_run')


@pytest.mark.parametrize('manifest', ['package.xml', 'ros2_ws/src/imn_msgs/package.xml'])
def test_manifests_of_ros_have_the_packages_version(manifest: str) -> None:
    assert re.findall('<version>(.*?)</version>', (ROOT / manifest).read_text()) == [VERSION]


def test_citation_and_changelog_have_the_packages_version() -> None:
    assert yaml.safe_load((ROOT / 'CITATION.cff').read_text())['version'] == VERSION
    headings = re.findall(r'^## \[(.*?)\]', (ROOT / 'CHANGELOG.md').read_text(), re.M)
    assert headings[:2] == ['Unreleased', VERSION]


def test_the_image_installs_what_the_readme_says() -> None:
    line = next(line for line in (ROOT / 'README.md').read_text().splitlines()
                if line.startswith('pip install onnxruntime'))
    wanted = line.removeprefix('pip install ').partition('#')[0].strip()
    assert wanted in (ROOT / 'Dockerfile').read_text()


def test_every_command_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    package = Path(imn_world_model.__file__).parent
    typed = {path.parent.name if path.stem == '__main__' else path.stem
             for path in [*package.glob('*.py'), *package.glob('*/__main__.py')]
             if 'run_cli(main)' in path.read_text()}
    assert commands().keys() == typed - {'imn_world_model'}
    main([])
    shown = capsys.readouterr().out
    assert all(f'\n  {name} ' in shown and purpose in shown
               for name, purpose in commands().items())


def test_a_command_typed_as_a_word_is_told_how(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match=r'python -m imn_world_model\.train --data logs'):
        main(['train', '--data', 'logs'])
    with pytest.raises(UserError, match="no command 'trian'; there are bench, calibrate, data"):
        main(['trian'])


def test_the_wheel_runs_offline_with_its_model(tmp_path: Path) -> None:
    copy = tmp_path / 'copy'
    shutil.copytree(ROOT, copy, ignore=LEFT_OUT)

    def run(*words: object, cwd: Path = tmp_path) -> str:
        # Not what this process would find: the package must come from the wheel.
        done = subprocess.run(list(map(str, words)), cwd=cwd, capture_output=True, text=True,
                              env={'PATH': '/usr/bin:/bin', 'IMN_CACHE_DIR': str(tmp_path)})
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    pip = (sys.executable, '-m', 'pip', '--disable-pip-version-check')
    run(*pip, 'wheel', '.', '--no-index', '--no-deps', '--no-build-isolation', '-w', tmp_path,
        cwd=copy)
    shutil.rmtree(copy)
    wheel, = tmp_path.glob('*.whl')
    run(sys.executable, '-m', 'venv', '--without-pip', 'fresh')
    python = tmp_path / 'fresh' / 'bin' / 'python'
    run(*pip, '--python', python, 'install', '--no-index', '--no-deps', wheel)
    # The libraries that it depends on: those of this environment, but not the package itself.
    site = next((tmp_path / 'fresh').glob('lib/python*/site-packages'))
    (site / 'libraries.pth').write_text(sysconfig.get_paths()['purelib'])

    assert run(python, '-m', 'imn_world_model', '--version') == f'imn_world_model {VERSION}\n'
    (tmp_path / 'pictures').mkdir()
    cv2.imwrite(str(tmp_path / 'pictures' / 'one.png'), picture(1, 480, 640))
    out = run(python, '-m', 'imn_world_model.infer', '--data', 'pictures', '--out', 'o.jsonl')
    assert out == 'o.jsonl: 1 frames by demo on CPUExecutionProvider\n'
    assert (tmp_path / 'o.jsonl').read_text().count('\n') == 1


@pytest.mark.parametrize('name', ['demo.onnx', 'shapes3d.onnx'])
def test_shipped_models_keep_to_the_limit_of_contributing(name: str) -> None:
    assert (ROOT / 'export' / name).stat().st_size <= 8_000_000
