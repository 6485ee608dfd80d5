"""What config/ holds: all parameters; layouts show topics that the node publishes."""
import json
import re
from dataclasses import fields

import yaml
from ros_graph import ROOT

from imn_world_model.nodes.parameters import Settings, convert

CONFIG = ROOT / 'config'
DOCS = (ROOT / 'docs' / 'ros.md').read_text()


def topics(text: str) -> set[str]:
    """:return: full names of the topics in a file."""
    return set(re.findall(r'"?(/[a-z_]+(?:/[a-z_]+)*)', text))


def test_parameters_file_names_every_parameter_with_its_default():
    file = yaml.safe_load((CONFIG / 'perception.yaml').read_text())
    given = file['/**']['ros__parameters']
    defaults = {field.name: field.default for field in fields(Settings)}
    assert set(given) == set(defaults) - {'model'}
    for name, value in given.items():
        if name != 'image_topics':
            assert convert(name, value, defaults[name]) == defaults[name], name


def test_foxglove_layout_shows_each_panel_once_and_topics_that_exist():
    layout = json.loads((CONFIG / 'foxglove.json').read_text())
    panels: list[str] = []

    def walk(part: dict | str) -> None:
        if isinstance(part, str):
            panels.append(part)
            return
        assert part['direction'] in ('row', 'column') and 0 < part['splitPercentage'] < 100
        walk(part['first'])
        walk(part['second'])

    walk(layout['layout'])
    assert sorted(panels) == sorted(layout['configById'])
    assert_documented(json.dumps(layout['configById']), {'/imn/objects', '/imn/annotations'})


def test_rviz_configuration_shows_topics_that_exist():
    config = yaml.safe_load((CONFIG / 'objects.rviz').read_text())
    displays = config['Visualization Manager']['Displays']
    assert all({'Class', 'Name', 'Enabled'} <= set(display) for display in displays)
    shown = [display['Topic']['Value'] for display in displays if 'Topic' in display]
    assert_documented(' '.join(shown), {'/imn/debug_image', '/imn/marker'})


def assert_documented(text: str, needed: set[str]) -> None:
    """Check that the topics are those of docs/ros.md, or the camera's."""
    named = topics(text)
    assert needed <= named
    for topic in named - {'/camera/image_raw', '/diagnostics'}:
        assert f'`{topic.removeprefix("/imn/")}`' in DOCS, topic
