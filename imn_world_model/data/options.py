"""How recordings become frames."""
from dataclasses import dataclass, field
from pathlib import Path

from imn_world_model.data.regions import Regions
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
