"""The layout shows the architecture: commands on top, folders below, imports one way only."""
import subprocess
import sys
from pathlib import Path

import pytest

import imn_world_model
from imn_world_model.__main__ import commands

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / 'imn_world_model'
MOST_LINES = 150


def test_imports_run_one_way_only() -> None:
    done = subprocess.run([Path(sys.executable).parent / 'lint-imports', '--no-cache'], cwd=ROOT,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert ', 0 broken' in done.stdout


def test_at_the_top_lies_only_what_people_type() -> None:
    files = {path.stem for path in PACKAGE.glob('*.py')} - {'__init__', '__main__'}
    assert files <= set(commands())
    for name in files:
        assert len((PACKAGE / f'{name}.py').read_text().splitlines()) <= MOST_LINES, name


def test_every_folder_says_what_it_is() -> None:
    for folder in PACKAGE.iterdir():
        if folder.is_dir() and folder.name != '__pycache__':
            assert (folder / '__init__.py').read_text().startswith('"""'), folder.name


def test_the_package_offers_the_names_that_programs_need() -> None:
    for name in imn_world_model.__all__:
        assert getattr(imn_world_model, name).__name__ == name
    missing = 'NoSuchThing'
    with pytest.raises(AttributeError, match="no 'NoSuchThing'; it offers DataOptions"):
        getattr(imn_world_model, missing)


def test_names_for_the_robot_come_without_torch() -> None:
    program = ('import sys\n'
               'from imn_world_model import ImnModel, UserError, Winner, WorldModel, load_frames\n'
               'print({"torch", "rclpy", "lightning"} & set(sys.modules))')
    done = subprocess.run([sys.executable, '-c', program], cwd=ROOT, capture_output=True,
                          text=True)
    assert done.stdout.strip() == 'set()', done.stdout + done.stderr
