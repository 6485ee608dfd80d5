"""How recordings become frames, and how a command line says so."""
import argparse
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from imn_world_model.data.regions import Regions
from imn_world_model.data.sequences import MODES
from imn_world_model.vision.preprocess import Crop


@dataclass(frozen=True)
class DataOptions:
    """
    How recordings become frames.

    :param size: side of the frames, pixels.
    :param crop: what is cut before resizing.
    :param topics: globs of the image topics to use; empty for all.
    :param gap: seconds without a frame that end a clip.
    :param scene_change: difference of two frames, in grey levels of a 16x16 thumbnail, that ends
        a clip.
    :param max_clip: frames after which a clip is ended anyway.
    :param still: frames are left out until the picture has changed by as many grey levels.
    :param fractions: share of clips (3Dshapes: of factor combinations) in validation and test.
    :param seed: of the split of clips.
    :param ground_truth_topic: topic of JSON strings whose values become labels. Evaluation only.
    :param regions: how objects are found in larger pictures; in place of ``crop``.
    :param sequences: which pictures of a folder are one take, see :func:`sequences.arrange`.
    :param cache_dir: of decoded frames; ``None`` for :func:`cache.default_cache_dir`.
    :param workers: decoding threads; 0 for one per core.
    """

    size: int = 64
    crop: Crop = field(default_factory=Crop)
    topics: tuple[str, ...] = ()
    gap: float = 1.0
    scene_change: float = 40.0
    max_clip: int = 1000
    still: float = 0.2
    fractions: tuple[float, float] = (0.05, 0.1)
    seed: int = 0
    ground_truth_topic: str | None = None
    regions: Regions = field(default_factory=Regions)
    sequences: str = 'auto'
    cache_dir: Path | None = None
    workers: int = 0


def add_reading_options(parser: argparse.ArgumentParser) -> None:
    """Add what every command that reads recordings for training has; ``None`` where not given."""
    defaults = DataOptions()
    parser.add_argument('--topics', nargs='+', default=[], metavar='GLOB',
                        help='image topics to use (default: all)')
    parser.add_argument('--crop', choices=('center', 'none'),
                        help='cut the centre square before resizing (default), or squeeze the '
                             'whole image')
    parser.add_argument('--roi', nargs=4, type=int, metavar=('X', 'Y', 'WIDTH', 'HEIGHT'),
                        help='region of interest in source pixels, cut first')
    parser.add_argument('--boxes', metavar='TOPIC',
                        help='cut out objects: topic of a Detection2DArray or RegionOfInterest '
                             '(the largest box counts), or of JSON strings with stamp and box '
                             '(x, y, width, height in pixels)')
    parser.add_argument('--regions', choices=('none', 'auto'),
                        help='cut out objects: auto takes what differs from the background of a '
                             'camera that stands still')
    parser.add_argument('--gap', type=float,
                        help=f'seconds without a frame that end a clip (default: {defaults.gap})')
    parser.add_argument('--scene-change', type=float,
                        help='grey levels between two frames that end a clip '
                             f'(default: {defaults.scene_change})')
    parser.add_argument('--max-clip', type=int,
                        help='frames after which a clip ends anyway '
                             f'(default: {defaults.max_clip})')
    parser.add_argument('--still', type=float,
                        help='grey levels of change below which frames are thinned '
                             f'(default: {defaults.still})')
    parser.add_argument('--sequences', choices=MODES,
                        help='images of a folder that are one take: by their numbers or times '
                             '(auto), all of a folder, or none')


def frame_options(given: argparse.Namespace, start: DataOptions) -> DataOptions:
    """
    Data options with what the command line says of them; ``None`` there says nothing.

    :param given: with what :func:`add_reading_options` adds.
    :param start: the options where nothing is said.
    """
    def said(**values: Any) -> dict[str, Any]:
        return {name: value for name, value in values.items() if value is not None}

    roi = tuple(given.roi) if given.roi else None
    auto = None if given.regions is None else given.regions == 'auto'
    return replace(
        start, crop=replace(start.crop, **said(mode=given.crop, roi=roi)),
        regions=replace(start.regions, **said(boxes=given.boxes, auto=auto)),
        **said(topics=tuple(given.topics) if given.topics else None, gap=given.gap,
               scene_change=given.scene_change, max_clip=given.max_clip, still=given.still,
               sequences=given.sequences))
