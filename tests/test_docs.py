"""The site builds without a warning, and what its pages show is what the code has."""
import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from imn_world_model.nodes.motion import MotionSettings
from imn_world_model.nodes.parameters import Settings
from imn_world_model.robot.tracking import TrackingOptions

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / 'docs'


@pytest.fixture(scope='module')
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """:return: the site's folder, built as `make docs` does."""
    folder = tmp_path_factory.mktemp('site')
    done = subprocess.run(
        # Without --quiet, which keeps warnings from --strict.
        [sys.executable, '-m', 'mkdocs', 'build', '--strict', '--site-dir', folder],
        cwd=ROOT, env=os.environ | {'NO_MKDOCS_2_WARNING': '1'}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_site_has_every_page_and_nothing_from_elsewhere(site: Path) -> None:
    for page in DOCS.rglob('*.md'):
        text = (site / page.relative_to(DOCS)).with_suffix('.html').read_text()
        fetched = re.findall(r'<(?:script|img|link)[^>]*(?:src|href)="(https?:[^"]+)', text)
        assert fetched == []


def test_equations_and_docstrings_are_rendered(site: Path) -> None:
    shown = (site / 'how_it_works.html').read_text()
    assert shown.count('<math') == (DOCS / 'how_it_works.md').read_text().count('$$') // 2
    assert '$$' not in shown and 'arithmatex' not in shown
    network = (site / 'api' / 'model.html').read_text()
    assert 'id="imn_world_model.model.imn.IndependentModularNetwork.forward"' in network
    assert ':mod:' not in network and ':param' not in network


def test_lines_of_code_in_how_it_works_are_the_codes() -> None:
    blocks = re.findall(r'```python title="(.*?)"\n(.*?)```',
                        (DOCS / 'how_it_works.md').read_text(), re.S)
    assert len(blocks) > 8
    for name, lines in blocks:
        assert lines in (ROOT / name).read_text(), f'{name} no longer has\n{lines}'


def rows(page: str, heading: str) -> dict[str, list[str]]:
    """:return: of the table under a heading, the other cells by the first."""
    section = (DOCS / page).read_text().partition(f'## {heading}\n')[2].partition('\n## ')[0]
    cells = [[cell.strip() for cell in line.strip('|').split('|')]
             for line in section.splitlines() if line.startswith('|')]
    return {row[0]: row[1:] for row in cells[2:]}


@pytest.mark.parametrize(('heading', 'kinds'), [
    ('Parameters of the perception node', (Settings,)),
    ('Parameters of the state estimator', (TrackingOptions, MotionSettings))])
def test_every_parameter_is_told_with_its_default(heading: str, kinds: tuple[type, ...]) -> None:
    table = {name.strip('`* '): row[0].strip('`')
             for name, row in rows('ros_reference.md', heading).items()}
    known = {field.name: field.default for kind in kinds for field in fields(kind)}
    assert table.keys() == known.keys()
    for name, default in known.items():
        default = default[0] if isinstance(default, tuple) else default
        # An empty text stands for what the table says in words.
        text = str(default).lower() if isinstance(default, bool) else str(default)
        assert not text or table[name] == text, name


def test_every_message_is_told() -> None:
    shown = (DOCS / 'ros_reference.md').read_text()
    messages = ROOT / 'ros2_ws' / 'src' / 'imn_msgs'
    for path in [*messages.glob('msg/*.msg'), *messages.glob('srv/*.srv')]:
        assert f'--8<-- "{path.relative_to(ROOT)}"' in shown


def test_messages_in_troubleshooting_are_the_codes() -> None:
    code = ' '.join(path.read_text() for path in (ROOT / 'imn_world_model').rglob('*.py'))
    # Texts that go on in the next line, and what is filled in.
    code = re.sub(r"'\s+f?'", '', re.sub(r'\{[^{}]*\}', '...', code))
    told = [message for line in (DOCS / 'troubleshooting.md').read_text().splitlines()
            for message in re.findall('`([^`]+)`', line.split('|')[1] if '|' in line else '')
            if ' ' in message and not message.startswith('ros2 ')]
    assert len(told) > 12
    for message in told:
        for part in message.split('...'):
            assert part.strip(' %s:') in code, message


def test_ten_questions_are_answered_with_files_that_are_there() -> None:
    table = rows('contributing.md', 'Where would I change ...')
    assert len(table) >= 10
    for question, (answer, *_) in table.items():
        files = re.findall('`([^`]+/[^`]+)`', answer)
        assert files, question
        for file in files:
            name, _, inside = file.partition(':')
            assert (ROOT / name).exists(), f'{question} {file}'
            assert not inside or inside in (ROOT / name).read_text(), f'{question} {file}'


def test_pictures_are_told_of_in_words() -> None:
    for page in DOCS.rglob('*.md'):
        for words in re.findall(r'!\[(.*?)\]', page.read_text(), re.S):
            assert len(words) > 20, page
