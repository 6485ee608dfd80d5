"""What the README shows is short, true and runs."""
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from images import picture, raw
from imn_msgs.msg import Identity, Transform
from ros_graph import NodeProcess, ask, wait_until
from sensor_msgs.msg import Image

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md'))]


def test_the_readme_is_read_in_a_few_minutes() -> None:
    assert len((ROOT / 'README.md').read_text().splitlines()) <= 150


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r'\]\(([^)#\s]+)', page.read_text())
    missing = [link for link in links if '://' not in link and not (page.parent / link).exists()]
    assert not missing


def test_the_subscriber_in_the_readme_is_the_example() -> None:
    shown = re.search(r'```python\n(.*?)```', (ROOT / 'README.md').read_text(), re.S)
    assert shown is not None

    def lines(text: str) -> list[str]:
        return [line for line in text.splitlines() if line.strip()]
    assert lines(shown.group(1)) == lines((ROOT / 'examples' / 'listen.py').read_text())


def test_the_example_hears_the_node(graph, tiny_model, tmp_path) -> None:
    node = NodeProcess('imn_world_model.nodes.perception', tmp_path / 'node',
                       {'model': tiny_model, 'image_topics': ['/camera/image']})
    heard = tmp_path / 'heard'
    with heard.open('wb') as output:
        listener = subprocess.Popen([sys.executable, ROOT / 'examples' / 'listen.py'],
                                    stdout=output, stderr=subprocess.STDOUT)
    try:
        answers = [graph.collect(kind, f'/imn/{name}')
                   for kind, name in ((Identity, 'identity'), (Transform, 'transform'))]
        publisher = graph.node.create_publisher(Image, '/camera/image', 10)

        def told() -> bool:
            identity, _ = ask(publisher, answers, lambda frame: raw(frame, picture(1)), 'look')
            text = heard.read_text()
            return f'{identity.label} ({identity.confidence:.2f})' in text and '[[' in text
        wait_until(told, 'name and coordinates from examples/listen.py')
    finally:
        listener.send_signal(signal.SIGINT)
        listener.wait(20)
        node.stop()
