"""What the readers of sources hand on: frames before they are decoded, and a report."""
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from imn_world_model.base.errors import UserError
from imn_world_model.data.bags import LFS_MAGIC
from imn_world_model.data.encodings import Levels
from imn_world_model.data.images import Halvings


@dataclass(frozen=True)
class Source:
    """
    Something that holds frames.

    :param kind: how it is read.
    :param path: where it is.
    """

    kind: Literal['bag', 'h5', 'video', 'images', 'lerobot']
    path: Path


@dataclass(frozen=True)
class RawFrame:
    """
    A frame before it is decoded.

    :param topic: image topic; empty for a video; the camera in a LeRobot data set. For images
        the folder's name, where it holds more than one sequence with ``/`` and its pattern.
    :param stamp: ns, 0 where unknown. Of a message its header's, if that is set; of an image
        what its name says.
    :param load: decodes it to (H, W, 3) uint8 RGB, smaller where its argument lets it, see
        :func:`images.compressed_to_rgb`; raises :class:`UserError` when broken.
    :param truth_key: stamp under which a ground-truth topic speaks of it; of an image of a
        sequence its number or time.
    :param held: bytes of memory that it holds until it is decoded.
    :param clip: number of its clip, where the source says so (an episode); else -1.
    :param values: numbers that came with it, such as an action; as many as the report's
        ``value_names``.
    """

    topic: str
    stamp: int
    load: Callable[[Halvings | None], np.ndarray]
    truth_key: int = 0
    held: int = 0
    clip: int = -1
    values: tuple[float, ...] = ()


@dataclass
class SourceReport:
    """
    What was seen on the way through a source.

    :param problems: what could not be read, a line each.
    :param topics: topic -> type, of everything in it.
    :param encodings: image topic -> encoding of its first readable frame.
    :param left_out: topic -> why, of image topics that are not used.
    :param left_count: topic -> messages left out, of those and of unknown types.
    :param sequences: topic of images that follow each other -> pattern of their names and clock,
        see :class:`sequences.Picture`.
    :param truth: stamp -> labels, from the ground-truth topic.
    :param lost: frames known to be recorded that never came; named in ``problems``.
    :param value_names: of the numbers that come with each frame, set before the first one.
    """

    problems: list[str] = field(default_factory=list)
    topics: dict[str, str] = field(default_factory=dict)
    encodings: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    left_count: Counter[str] = field(default_factory=Counter)
    sequences: dict[str, tuple[str, str]] = field(default_factory=dict)
    truth: dict[int, dict[str, Any]] = field(default_factory=dict)
    lost: int = 0
    value_names: tuple[str, ...] = ()


def decoded_in_order(topic: str, stamp: int, load: Callable[[Halvings | None], np.ndarray],
                     truth_key: int = 0) -> RawFrame:
    """:return: a frame decoded here and now, since those after it depend on its levels."""
    try:
        rgb = load(None)
    except UserError as error:
        return RawFrame(topic, stamp, partial(_fail, error), truth_key)
    return RawFrame(topic, stamp, partial(_same, rgb), truth_key, rgb.nbytes)


def _fail(error: UserError, halvings: Halvings | None) -> np.ndarray:
    raise error


def _same(rgb: np.ndarray, halvings: Halvings | None) -> np.ndarray:
    return rgb


def say_levels(levels: dict[str, Levels], report: SourceReport) -> None:
    """Tell, once a topic, of deep samples that do not use all their bits."""
    report.problems += [f'{topic}: {used.said}' for topic, used in levels.items() if used.said]


def is_lfs_pointer(path: Path) -> bool:
    """:return: whether a file only says what Git LFS would put in its place."""
    with path.open('rb') as stream:
        return stream.read(len(LFS_MAGIC)) == LFS_MAGIC
