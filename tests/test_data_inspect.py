"""``data inspect``: the table says what is there, the contact sheet shows it."""
import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from recordings import COMPRESSED, compressed, drive, scene, write_bag

from imn_world_model.data.__main__ import main
from imn_world_model.data.inspect import MARGIN, TILE


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('IMN_CACHE_DIR', str(tmp_path / 'cache'))


def test_inspect_tells_topics_rates_gaps_stamps_and_faults(tmp_path: Path,
                                                           capsys: pytest.CaptureFixture[str]
                                                           ) -> None:
    messages = drive(3, 6) + [
        ('/camera/depth/image', COMPRESSED, 10 ** 9, compressed(scene(0), 10 ** 9)),
        ('/camera/image', COMPRESSED, 10 ** 12, compressed(scene(0, 9), 5 * 10 ** 8))]
    messages[4][3].data = np.frombuffer(b'broken', np.uint8)
    bag = write_bag(tmp_path / 'bag', messages)
    main(['inspect', str(bag), '--out', str(tmp_path / 'out'), '--still', '0'])
    table = capsys.readouterr().out
    assert ('frames recorded 20, used 18, standing still 0, broken 1, left out 1, lost 0'
            in table)
    rows = [line.split('  ') for line in table.splitlines()]
    rows = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    assert ['topic', 'encoding', 'pixels', 'frames', 'broken', 'still', 'Hz', 'back', 'unstamped',
            'clips', 'length', 'cut by'] in rows
    assert ['/camera/image', 'jpeg', '64x48', '18', '1', '0', '10.0', '1', '0', '4', '1-6',
            'gap 2, stamp going back 1'] in rows
    assert ['/camera/depth/image', COMPRESSED,
            'left out, 1 message: depth or mask by its name; --topics takes it'] in rows
    assert '! 1 broken frame left out' in table
    summary = json.loads((tmp_path / 'out' / 'inspect.json').read_text())
    assert summary['num_clips'] == 4 and sum(summary['split'].values()) == 18
    assert sum(clip['used'] for clip in summary['clips']) == 18
    assert summary['clips'][1] == {
        'source': str(bag), 'topic': '/camera/image', 'first_frame': 6, 'last_frame': 11,
        'stamp': 11 * 10 ** 9, 'used': 6, 'split': summary['clips'][1]['split']}


def test_contact_sheet_shows_each_clip_in_a_row(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / 'bag', drive(3, 6))
    main(['inspect', str(bag), '--out', str(tmp_path / 'out'), '--still', '0'])
    sheet = cv2.imread(str(tmp_path / 'out' / 'contact_sheet.png'))
    assert sheet is not None
    for clip in range(3):
        for k in range(6):
            tile = sheet[4 + clip * (TILE + 4):, MARGIN + k * (TILE + 4):][:TILE, :TILE, ::-1]
            expected = cv2.resize(scene(clip, k)[:, 8:56], (TILE, TILE))
            assert np.abs(tile.astype(int) - expected).mean() < 12


def test_gap_and_still_move_the_cuts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    standing = [('/camera/image', COMPRESSED, k * 10 ** 8, compressed(scene(0), k * 10 ** 8))
                for k in range(1, 11)]
    bag = write_bag(tmp_path / 'bag', standing)
    main(['inspect', str(bag), '--out', str(tmp_path / 'out')])
    assert 'used 1, standing still 9' in capsys.readouterr().out
    main(['inspect', str(bag), '--out', str(tmp_path / 'out'), '--still', '0', '--gap', '0.05'])
    assert '10     1-1     gap 9' in capsys.readouterr().out
    main(['inspect', str(bag), '--out', str(tmp_path / 'out'), '--still', '0', '--max-clip', '4'])
    assert '3      2-4     length 2' in capsys.readouterr().out


def test_inspect_of_nothing_leaves_with_one_line(tmp_path: Path) -> None:
    result = subprocess.run([sys.executable, '-m', 'imn_world_model.data', 'inspect',
                             str(tmp_path / 'nowhere')], capture_output=True, text=True,
                            cwd=Path(__file__).parents[1])
    assert result.returncode == 2 and result.stdout == ''
    assert result.stderr.startswith('error: ') and result.stderr.count('\n') == 1
