"""What a recording holds: a table in words and a contact sheet."""
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from imn_world_model.data.frames import Frames
from imn_world_model.data.sources import DEPTH_WORDS

SPLITS = ('train', 'validation', 'test')
CLIPS_SHOWN = 12
FRAMES_PER_CLIP = 8
TILE = 96
MARGIN = 150               # pixels to the left of a row, for its name


def describe(frames: Frames, gap: float) -> str:
    """
    A table per source: topics, frames, rates, gaps, clips, what was left out.

    :param frames: everything that was read.
    :param gap: seconds that count as a gap.
    """
    lines: list[str] = []
    for report in frames.reports:
        lines.append(f'{report["source"]}  ({report["kind"]})')
        lines.append(f'  frames recorded {report["recorded"]}, used {report["used"]}, '
                     f'standing still {report.get("still", 0)}, broken {report.get("broken", 0)}, '
                     f'lost {report.get("lost", 0)}')
        for topic, kind in sorted(report.get('all_topics', {}).items()):
            note = report['left_out'].get(topic, '')
            depth = any(word in topic.lower() for word in DEPTH_WORDS)
            lines.append(f'  topic {topic}  {kind}' + (f'  left out: {note}' if note else '')
                         + ('  (depth or mask by its name)' if depth and not note else ''))
        for resolution, count in sorted(report.get('resolutions', {}).items()):
            lines.append(f'  {count} frames {resolution.strip()}')
        if report['source'] in frames.sources:
            lines += _clip_lines(frames, frames.sources.index(report['source']), gap)
        lines += [f'  ! {problem}' for problem in report.get('problems', ())]
    counts = np.bincount(frames.split, minlength=3)
    clips = [len(np.unique(frames.clip[frames.split == k])) for k in range(3)]
    parts = (f'{name} {count} frames of {number} clips'
             for name, count, number in zip(SPLITS, counts, clips, strict=True))
    lines.append('split: ' + ', '.join(parts))
    return '\n'.join(lines)


def _clip_lines(frames: Frames, source: int, gap: float) -> list[str]:
    lines = []
    for topic in np.unique(frames.topic[frames.source == source]):
        own = (frames.source == source) & (frames.topic == topic)
        length = np.unique(frames.clip[own], return_counts=True)[1]
        line = (f'  {len(length)} clips of {length.min()} to {length.max()} frames in '
                f'{frames.topics[topic] or "the file"}')
        stamp = frames.stamp[own] / 1e9
        if (stamp > 0).all() and len(stamp) > 1:
            step = np.diff(stamp)
            rate = 1.0 / np.median(step[step > 0]) if (step > 0).any() else float('nan')
            line += (f', {rate:.1f} Hz, {int((step > gap).sum())} gaps over {gap:g} s, '
                     f'{int((step < 0).sum())} stamps going back')
        else:
            line += f', {int((stamp == 0).sum())} frames without a stamp'
        lines.append(line)
    return lines


def contact_sheet(frames: Frames) -> np.ndarray:
    """
    Frames spread evenly over each of the first clips, a row per clip.

    :return: (H, W, 3) uint8 RGB.
    """
    clips = np.unique(frames.clip)
    shown = clips[np.unique(np.linspace(0, len(clips) - 1, CLIPS_SHOWN).astype(int))]
    if np.unique(frames.clip, return_counts=True)[1].max() == 1:
        return _sheet(frames, [('', np.linspace(0, len(clips) - 1, CLIPS_SHOWN * FRAMES_PER_CLIP)
                                .astype(int)[k::CLIPS_SHOWN]) for k in range(CLIPS_SHOWN)])
    rows: list[tuple[str, np.ndarray]] = []
    for clip in shown:
        own = np.flatnonzero(frames.clip == clip)
        pick = own[np.unique(np.linspace(0, len(own) - 1, FRAMES_PER_CLIP).astype(int))]
        rows.append((f'clip {clip}, {len(own)} frames|{SPLITS[frames.split[own[0]]]}', pick))
    return _sheet(frames, rows)


def _sheet(frames: Frames, rows: list[tuple[str, np.ndarray]]) -> np.ndarray:
    sheet = np.full((len(rows) * (TILE + 4) + 4, MARGIN + FRAMES_PER_CLIP * (TILE + 4), 3), 255,
                    np.uint8)
    for r, (text, pick) in enumerate(rows):
        top = 4 + r * (TILE + 4)
        for k, line in enumerate(text.split('|')):
            cv2.putText(sheet, line, (6, top + 40 + 20 * k), cv2.FONT_HERSHEY_SIMPLEX, 0.42,
                        (0, 0, 0), 1, cv2.LINE_AA)
        for c, i in enumerate(pick):
            left = MARGIN + c * (TILE + 4)
            tile = cv2.resize(frames.images[int(i)], (TILE, TILE), interpolation=cv2.INTER_AREA)
            sheet[top:top + TILE, left:left + TILE] = tile
    return sheet


def write_sheet(path: Path, sheet: np.ndarray) -> None:
    """Write the contact sheet as PNG."""
    valid, data = cv2.imencode('.png', cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))
    assert valid
    path.write_bytes(data.tobytes())


def summary(frames: Frames) -> dict[str, Any]:
    """:return: the reports and the split as what JSON can hold."""
    return {'sources': list(frames.reports), 'notes': list(frames.notes),
            'split': dict(zip(SPLITS, np.bincount(frames.split, minlength=3).tolist(),
                              strict=True)),
            'clips': int(len(np.unique(frames.clip)))}
