"""Files in the 3Dshapes format: images, factor labels for evaluation, and clips."""
import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np
from tqdm import tqdm

from imn_world_model.base.errors import UserError
from imn_world_model.data.cache import built_once, fingerprint
from imn_world_model.data.clips import split_factors
from imn_world_model.data.sources import Source
from imn_world_model.rendering.raycast import SHAPES
from imn_world_model.rendering.shapes3d import FACTOR_VALUES, FACTORS, NUM_IMAGES
from imn_world_model.vision.preprocess import Crop, prepare

# Images read at once: whole chunks of the published file, 12 MiB.
BLOCK = 1000
WHOLE = Crop('none')
ORBIT = 15                 # images of one scene that follow each other in the published file


@dataclass(frozen=True)
class Shapes3DTable:
    """
    A file's images and what is known of them.

    :param images: (N, S, S, 3) uint8, memory-mapped.
    :param clip: (N,) from the file's ``clip``; the published file: one per scene; else one each.
    :param split: (N,) uint8 by held-out factor combinations.
    :param labels: EVALUATION ONLY: factor -> N class names.
    :param fingerprint: of the content.
    """

    images: np.ndarray
    clip: np.ndarray
    split: np.ndarray
    labels: dict[str, list[str | None]]
    fingerprint: str


def load_shapes3d(path: Path, size: int, fractions: tuple[float, float], folder: Path,
                  progress: bool, crop: Crop = WHOLE
                  ) -> Shapes3DTable:
    """
    Map a file's images; compressed files and other sizes are unpacked into the cache once.

    :param path: with ``images`` (N, H, W, 3) uint8 and ``labels`` (N, 6) float64.
    :param size: side of the images wanted.
    :param fractions: share of factor combinations in validation and test.
    :param folder: of the cache.
    :param progress: whether to show a bar.
    :param crop: whether backgrounds are removed; nothing else of it counts.
    :raises UserError: when the file is not of that format, or broken.
    """
    content = fingerprint(Source('h5', path))
    try:
        with h5py.File(path, 'r') as file:
            images = file['images']
            if not isinstance(images, h5py.Dataset):
                raise KeyError
            if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8:
                raise UserError(f'{path}: images are {images.dtype} {images.shape}; the 3Dshapes '
                                'format has uint8 (N, H, W, 3)')
            count = len(images)
            if count == 0:
                raise UserError(f'{path} holds no images')
            values = file['labels'][:]
            clip = file['clip'][:] if 'clip' in file else None
            pixels = _map_images(path, images, size, content, folder, progress, crop)
    except BlockingIOError as error:
        raise UserError(f'{path} is locked: another program writes to it, or its disk knows no '
                        'locks; wait for that program, or set HDF5_USE_FILE_LOCKING=FALSE'
                        ) from error
    except (OSError, KeyError, RuntimeError, TypeError) as error:  # h5py's, of broken files
        cause = 'no images and labels' if isinstance(error, KeyError) else 'broken or no HDF5 file'
        raise UserError(f'{path} is not in the 3Dshapes format ({cause})') from error
    if (values.dtype.kind not in 'fiu' or values.shape != (count, len(FACTORS))
            or (clip is not None and clip.shape != (count,))):
        raise UserError(f'{path}: labels are {values.dtype} {values.shape} for {count} '
                        f'images; the 3Dshapes format has float64 (N, {len(FACTORS)})')
    factors = factor_classes(values)
    if clip is None:
        clip = np.arange(count) // (ORBIT if count == NUM_IMAGES else 1)
    _, clip = np.unique(clip, return_inverse=True)
    labels: dict[str, list[str | None]] = {
        name: [class_names[k] for k in factors[:, column]]
        for column, (name, class_names) in enumerate(_class_names().items())}
    return Shapes3DTable(pixels, clip.astype(np.int64), split_factors(factors, fractions), labels,
                         content)


def factor_classes(values: np.ndarray) -> np.ndarray:
    """
    Published label values to class numbers.

    :param values: (N, 6) float64, such as hue 0.3 or orientation -30.
    :return: (N, 6) int64, the nearest class.
    """
    return np.stack([np.abs(values[:, k, None] - known).argmin(1)
                     for k, known in enumerate(FACTOR_VALUES)], axis=1)


def _class_names() -> dict[str, list[str]]:
    """:return: factor -> what its classes are called: the shape's name, else its value."""
    return {factor: list(SHAPES) if factor == 'shape' else [f'{value:.3g}' for value in values]
            for factor, values in zip(FACTORS, FACTOR_VALUES, strict=True)}


def _map_images(path: Path, images: h5py.Dataset, size: int, content: str, folder: Path,
                progress: bool, crop: Crop) -> np.ndarray:
    """:return: (N, size, size, 3), mapped from the file itself where that is possible."""
    count, height, width = images.shape[:3]
    alone = crop.background == 'remove'
    shape = (count, size, size, 3)
    offset = images.id.get_offset()
    if (height, width) == (size, size) and offset is not None and not alone:
        return np.memmap(path, np.uint8, 'r', offset, shape)
    made = json.dumps([1, size, *(['alone', crop.turn] if alone else [])])
    key = hashlib.sha256(f'{content}{made}'.encode()).hexdigest()[:32]
    target = folder / f'{key}.bin'

    def is_whole(file: Path) -> bool:
        return file.is_file() and file.stat().st_size == int(np.prod(shape))

    with built_once(target, is_whole) as scratch:
        if scratch:
            with scratch.open('wb') as stream:
                for start in tqdm(range(0, count, BLOCK), f'unpacking {path.name}',
                                  unit='k images', leave=False,
                                  disable=not progress):
                    block = images[start:start + BLOCK]
                    if (height, width) != (size, size) or alone:
                        whole = replace(crop, mode='none', roi=None)
                        block = np.stack([prepare(image, size, whole) for image in block])
                    stream.write(block.tobytes())
    return np.memmap(target, np.uint8, 'r', shape=shape)
