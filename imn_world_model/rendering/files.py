"""Images in a file with the layout of 3Dshapes'."""
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
from tqdm import tqdm

from imn_world_model.base.cli import atomic_path
from imn_world_model.base.errors import UserError
from imn_world_model.rendering.shapes3d import (
    FACTOR_SIZES,
    IMAGE_SIZE,
    NUM_IMAGES,
    Shapes3D,
    factors_of_index,
)

ORIENTATIONS = FACTOR_SIZES[5]
NUM_SCENES = NUM_IMAGES // ORIENTATIONS
# One scene of the full file; also small enough that reading one image at random stays cheap.
CHUNK_ROWS = ORIENTATIONS
TASK_ROWS = 32 * CHUNK_ROWS
THREADS = 2


def draw(total: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """
    Random numbers below ``total``, none twice before all were drawn once.

    :param total: how many there are.
    :param count: how many to draw.
    :param rng: source of randomness.
    :return: (count,) int64.
    """
    rounds = [rng.permutation(total) for _ in range(count // total)]
    return np.concatenate([*rounds, rng.choice(total, count % total, replace=False)])


def draw_factors(count: int, seed: int, clips: str = 'none', views: int = ORIENTATIONS
                 ) -> tuple[np.ndarray, np.ndarray | None]:
    """
    Choose what to render.

    :param count: number of images.
    :param seed: the same seed gives the same choice.
    :param clips: ``none``; ``scene`` for groups of one scene seen from ``views`` different
        orientations, in the order of an orbit; ``object`` for groups that share only the shape,
        all else drawn anew, as in a log in which the object stays and everything about it changes.
    :param views: images per group.
    :return: factor indices (count, 6) int64, and clip numbers (count,) int64 or ``None``.
    :raises UserError: if the numbers do not go together.
    """
    rng = np.random.default_rng(seed)
    if clips == 'none':
        return factors_of_index(draw(NUM_IMAGES, count, rng)), None
    if count % views:
        raise UserError(f'--count {count} is not a multiple of --views {views}: '
                        f'use {max(1, count // views) * views} or {-(-count // views) * views}')
    if clips == 'scene' and views > ORIENTATIONS:
        raise UserError(f'a scene has {ORIENTATIONS} orientations, --views {views} asks for more')
    groups = count // views
    clip = np.repeat(np.arange(groups), views)
    if clips == 'scene':
        scene = draw(NUM_SCENES, groups, rng)
        orientation = np.stack([
            np.sort(rng.choice(ORIENTATIONS, views, replace=False))[::rng.choice((-1, 1))]
            for _ in range(groups)])
        return factors_of_index((scene[:, None] * ORIENTATIONS + orientation).ravel()), clip
    factors = rng.integers(0, FACTOR_SIZES, (count, len(FACTOR_SIZES)))
    factors[:, 4] = rng.integers(0, FACTOR_SIZES[4], groups)[clip]
    return factors, clip


def compressed_blocks(renderer: Shapes3D, factors: np.ndarray, rows: int) -> list[bytes]:
    """
    Render one task's images as the file's compressed chunks.

    :param renderer: with the geometry already prepared.
    :param factors: (N, 6) integers.
    :param rows: images per chunk.
    :return: one zlib stream per chunk; the last one is filled up with black.
    """
    images = renderer.images(factors)
    missing = -len(images) % rows
    if missing:
        images = np.concatenate((images, np.zeros((missing, *images.shape[1:]), np.uint8)))
    return [zlib.compress(images[start:start + rows].tobytes(), 1)
            for start in range(0, len(images), rows)]


def render_tasks(renderer: Shapes3D, factors: np.ndarray, rows: int) -> Iterator[list[bytes]]:
    """:return: the compressed chunks of all images in order, task by task, a few in flight."""
    starts = range(0, len(factors), TASK_ROWS)
    with ThreadPoolExecutor(THREADS) as pool:
        pending = []
        for start in starts:
            pending.append(pool.submit(compressed_blocks, renderer,
                                       factors[start:start + TASK_ROWS], rows))
            if len(pending) > 2 * THREADS:
                yield pending.pop(0).result()
        for task in pending:
            yield task.result()


def write(path: Path, factors: np.ndarray, clip: np.ndarray | None = None,
          size: int = IMAGE_SIZE) -> None:
    """
    Render images into a file with the layout of the published 3Dshapes file.

    :param path: the file to make; it appears only when complete.
    :param factors: (N, 6) integers.
    :param clip: (N,) clip numbers, written as a dataset of that name.
    :param size: pixels per side.
    """
    renderer = Shapes3D(size)
    cases = np.unique(np.ravel_multi_index(tuple(factors[:, 3:].T), FACTOR_SIZES[3:]))
    for _ in tqdm(renderer.prepare(cases), 'geometry', len(cases), leave=False):
        pass
    rows = min(CHUNK_ROWS, len(factors))
    with atomic_path(path) as temporary, h5py.File(temporary, 'w') as file:
        images = file.create_dataset(
            'images', (len(factors), size, size, 3), np.uint8, compression='gzip',
            compression_opts=1, chunks=(rows, size, size, 3))
        file.create_dataset('labels', data=renderer.labels(factors))
        if clip is not None:
            file.create_dataset('clip', data=clip.astype(np.int64))
        row = 0
        with tqdm(total=len(factors), desc='images', unit='image') as bar:
            for blocks in render_tasks(renderer, factors, rows):
                for block in blocks:
                    images.id.write_direct_chunk((row, 0, 0, 0), block)
                    row += rows
                bar.update(min(row, len(factors)) - bar.n)
