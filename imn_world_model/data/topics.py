"""Which image topics of a recording are used: cameras, each once."""
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

import numpy as np

from imn_world_model.base.errors import UserError
from imn_world_model.data.bags import (
    IMAGE_TYPES,
    BagMessage,
    BagReport,
    known_topics,
    read_bag,
)
from imn_world_model.data.images import message_to_rgb

# Names that drivers give to topics of depth and masks.
DEPTH_WORDS = ('depth', 'disparity', 'mask', 'segmentation', 'confidence', 'range_image')
# Names that nodes give to what they draw; those of the second line are whole words.
DEBUG_WORDS = ('debug', 'annotat', 'overlay', 'visualiz', 'visualis', 'heatmap')
DEBUG_PARTS = ('dbg', 'viz', 'detections')
OWN_NAMESPACE = 'imn'
# What image_transport puts behind a camera's topic.
TRANSPORTS = ('/compressed',)


def unwanted(topic: str, topics: tuple[str, ...]) -> str:
    """
    Judge a topic by its name.

    :param topic: of images.
    :param topics: globs of those wanted; empty for all cameras.
    :return: why it is not used; empty when it is.
    """
    if topics:
        wanted = any(fnmatch(topic, pattern) for pattern in topics)
        return '' if wanted else 'not among --topics'
    name = topic.lower()
    if any(word in name for word in DEPTH_WORDS):
        return 'depth or mask by its name; --topics takes it'
    if OWN_NAMESPACE in name.split('/'):
        return 'output of imn_world_model by its name; --topics takes it'
    if any(word in name for word in DEBUG_WORDS) or any(
            part in DEBUG_PARTS for part in name.replace('/', '_').split('_')):
        return 'output of a node by its name; --topics takes it'
    return ''


def camera_of(topic: str) -> str:
    """:return: the camera's topic, which its raw and its compressed pictures share."""
    for transport in TRANSPORTS:
        topic = topic.removesuffix(transport)
    return topic


@dataclass
class _Seen:
    """When a topic's pictures were taken, and whether the first can be read."""

    stamps: array = field(default_factory=lambda: array('q'))
    span: list[int] = field(default_factory=list)
    readable: bool = False
    looked: bool = False


@dataclass
class Twins:
    """
    Topics with the same pictures as another one.

    :param main: topic -> the one that is read in its place.
    :param taken: topic read -> (N,) ns, sorted, when its pictures were taken.
    :param span: topic read -> first and last time of recording, ns.
    """

    main: dict[str, str] = field(default_factory=dict)
    taken: dict[str, np.ndarray] = field(default_factory=dict)
    span: dict[str, tuple[int, int]] = field(default_factory=dict)

    def has(self, topic: str, stamp: int, recorded: int) -> bool:
        """
        Tell whether a picture is among those of the topic that is read.

        :param topic: of the picture, one of ``main``.
        :param stamp: ns, its own; 0 where unknown.
        :param recorded: ns, when it was recorded.
        """
        main = self.main[topic]
        if not stamp:
            first, last = self.span[main]
            return first <= recorded <= last
        place = int(np.searchsorted(self.taken[main], stamp))
        return place < len(self.taken[main]) and bool(self.taken[main][place] == stamp)


def find_twins(path: Path, topics: tuple[str, ...], scratch: Path | None = None) -> Twins:
    """
    Look which topics of a recording are the same camera.

    Only where its index names twins, or there is none, is the recording read for it, once.

    :param path: a bag folder or a storage file.
    :param topics: globs of the topics wanted.
    :param scratch: where compressed files are unpacked.
    """
    names = known_topics(path)
    if names is not None and not _pairs(names, topics):
        return Twins()
    seen: dict[str, _Seen] = {}
    for message in _images(path, scratch):
        one = seen.setdefault(message.topic, _Seen())
        one.stamps.append(message.own_stamp() or 0)
        one.span = [min([*one.span, message.stamp]), max([*one.span, message.stamp])]
        if not one.looked:
            one.looked, one.readable = True, _is_readable(message)
    found = Twins()
    for pair in _pairs(seen, topics):
        # The one with more pictures; of two with as many the raw one, whose name is shorter.
        main, *others = sorted(pair, key=lambda topic: (not seen[topic].readable,
                                                        -len(seen[topic].stamps), len(topic)))
        found.taken[main] = np.unique(np.asarray(seen[main].stamps, np.int64))
        found.span[main] = seen[main].span[0], seen[main].span[1]
        found.main |= dict.fromkeys(others, main)
    return found


def _pairs(names: Iterable[str], topics: tuple[str, ...]) -> list[list[str]]:
    """:return: topics of each camera that has several."""
    cameras: dict[str, list[str]] = {}
    for name in sorted(names):
        if not unwanted(name, topics):
            cameras.setdefault(camera_of(name), []).append(name)
    return [pair for pair in cameras.values() if len(pair) > 1]


def _images(path: Path, scratch: Path | None) -> Iterator[BagMessage]:
    return (message for message in read_bag(path, BagReport(), scratch)
            if message.kind in IMAGE_TYPES)


def _is_readable(message: BagMessage) -> bool:
    try:
        message_to_rgb(message.decode())
    except UserError:
        return False
    return True
