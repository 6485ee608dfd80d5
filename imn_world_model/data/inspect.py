"""What a recording holds: a table in words and a contact sheet."""
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from imn_world_model.base.marks import mark
from imn_world_model.data.frames import Frames
from imn_world_model.data.parts import ITEMS
from imn_world_model.data.storage import printable

SPLITS = ('train', 'validation', 'test')
CLIPS_SHOWN = 12
FRAMES_PER_CLIP = 8
TILE = 96
MARGIN = 260               # pixels to the left of a row, for its name
NAME = 34                  # letters of a name that fit there


HEADS = ('topic', 'encoding', 'pixels', 'frames', 'broken', 'still', 'Hz', 'back', 'unstamped',
         'clips', 'length', 'cut by')
CAUSES = {'gap': 'gap', 'backward': 'stamp going back', 'scene': 'scene', 'length': 'length',
          'camera': 'another camera', 'episode': 'episode'}


def describe(frames: Frames) -> str:
    """
    A table per source: a row per image topic, then what is not used and what could not be read.

    :param frames: everything that was read.
    """
    lines: list[str] = []
    for report in frames.reports:
        lines += [f'{report["source"]}  ({report["kind"]})',
                  '  ' + ', '.join(f'{name} {report.get(key, 0)}' for name, key in (
                      ('frames recorded', 'recorded'), ('used', 'used'),
                      ('standing still', 'still'), ('broken', 'broken'), ('left out', 'left'),
                      ('lost', 'lost')))]
        rows = [_row(topic, report) for topic in {**report.get('figures', {}),
                                                  **report.get('broken_of', {})}]
        if rows:
            lines += [f'  {line}' for line in _table([HEADS, *rows])]
        types = report.get('all_topics', {})
        one = ITEMS.get(report['kind'], 'message')
        for topic, reason in report.get('left_out', {}).items():
            count = report['left_count'][topic]
            lines.append(f'  {topic}  {types.get(topic, "")}  left out, '
                         f'{count} {one}{"s" * (count != 1)}: {reason}')
        others = [f'{topic} ({kind})' for topic, kind in sorted(types.items())
                  if topic not in report['left_out'] and topic not in report['figures']]
        if others:
            lines.append('  without frames: ' + ', '.join(others))
        lines += [f'  ! {problem}' for problem in report.get('problems', ())]
    counts = np.bincount(frames.split, minlength=3)
    clips = [len(np.unique(frames.clip[frames.split == k])) for k in range(3)]
    parts = (f'{name} {count} frames of {number} clips'
             for name, count, number in zip(SPLITS, counts, clips, strict=True))
    lines.append('split: ' + ', '.join(parts))
    return '\n'.join(lines)


def _row(topic: str, report: dict[str, Any]) -> tuple[str, ...]:
    """:return: one image topic's cells, in the order of ``HEADS``."""
    figures = report['figures'].get(topic, {})
    cuts = (f'{CAUSES[cause]} {count}' for cause, count in figures.get('cuts', {}).items()
            if count)
    pixels = ' '.join(sorted(report['resolutions'].get(topic, ())))
    rate = figures.get('rate', 0.0)
    length = (f'{figures["shortest"]}-{figures["longest"]}' if figures else '')
    return (topic or '-', report['encodings'].get(topic, ''), pixels,
            str(figures.get('frames', 0)), str(report['broken_of'].get(topic, 0)),
            str(figures.get('still', 0)), f'{rate:.1f}' if rate else '-',
            str(figures.get('backward', '-')), str(figures.get('unstamped', '-')),
            str(figures.get('clips', 0)), length, ', '.join(cuts) or '-')


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    """:return: lines of columns as wide as they need to be."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ['  '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows]


def contact_sheet(frames: Frames) -> np.ndarray:
    """
    Frames spread evenly over clips, a row per clip; every topic of every source has its rows.

    :return: (H, W, 3) uint8 RGB.
    """
    pairs = np.stack((frames.source, frames.topic), axis=1)
    groups = np.unique(pairs, axis=0)
    share = max(1, CLIPS_SHOWN // len(groups))
    rows: list[tuple[str, np.ndarray]] = []
    for source, topic in groups:
        own = np.flatnonzero((frames.source == source) & (frames.topic == topic))
        names = [Path(frames.sources[source]).name, frames.topics[topic]]
        clips = np.unique(frames.clip[own])
        if len(clips) == len(own):                    # single images: a row shows several
            rows.append(_named([*names, f'{len(own)} single image{"s" * (len(own) > 1)}'], own))
            continue
        for clip in _spread(clips, share):
            inside = own[frames.clip[own] == clip]
            rows.append(_named([*names, f'clip {clip}, {len(inside)} frames, '
                                        f'{SPLITS[frames.split[inside[0]]]}'], inside))
    return _sheet(frames, rows)


def _spread(items: np.ndarray, count: int) -> np.ndarray:
    """:return: up to that many items at even distances."""
    return items[np.unique(np.linspace(0, len(items) - 1, count).astype(int))]


def _named(names: list[str], rows: np.ndarray) -> tuple[str, np.ndarray]:
    short = (name if len(name) <= NAME else '...' + name[3 - NAME:] for name in names if name)
    return '|'.join(short), _spread(rows, FRAMES_PER_CLIP)


def _sheet(frames: Frames, rows: list[tuple[str, np.ndarray]]) -> np.ndarray:
    sheet = np.full((len(rows) * (TILE + 4) + 4, MARGIN + FRAMES_PER_CLIP * (TILE + 4), 3), 255,
                    np.uint8)
    for r, (text, pick) in enumerate(rows):
        top = 4 + r * (TILE + 4)
        for k, line in enumerate(text.split('|')):
            # OpenCV dies of letters that are none.
            cv2.putText(sheet, printable(line), (6, top + 36 + 20 * k),
                        cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
        for c, i in enumerate(pick):
            left = MARGIN + c * (TILE + 4)
            tile = cv2.resize(frames.images[int(i)], (TILE, TILE), interpolation=cv2.INTER_AREA)
            sheet[top:top + TILE, left:left + TILE] = tile
    return sheet


def write_sheet(path: Path, sheet: np.ndarray) -> None:
    """Write the contact sheet as PNG."""
    valid, data = cv2.imencode('.png', cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))
    assert valid
    path.write_bytes(mark(data.tobytes()))


def summary(frames: Frames) -> dict[str, Any]:
    """:return: the reports, the split and every clip as what JSON can hold."""
    _, first, count = np.unique(frames.clip, return_index=True, return_counts=True)
    last = first + count - 1
    clips = [{'source': frames.sources[frames.source[i]], 'topic': frames.topics[frames.topic[i]],
              'first_frame': int(frames.index[i]), 'last_frame': int(frames.index[j]),
              'stamp': int(frames.stamp[i]), 'used': int(k), 'split': SPLITS[frames.split[i]]}
             for i, j, k in zip(first, last, count, strict=True)]
    split = np.bincount(frames.split, minlength=3).tolist()
    return {'sources': list(frames.reports), 'notes': list(frames.notes),
            'split': dict(zip(SPLITS, split, strict=True)), 'num_clips': len(clips),
            'clips': clips}
