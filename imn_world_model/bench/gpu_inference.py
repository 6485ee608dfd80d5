"""A model file on ONNX Runtime's providers: latency, images a second, winners as on the CPU."""
import json
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from imn_world_model.bench.gpu_parts import Row, missing
from imn_world_model.rendering.robot_camera import render
from imn_world_model.rendering.robot_scene import clip_scene
from imn_world_model.rendering.shapes3d import FACTOR_SIZES, Shapes3D
from imn_world_model.robot.session import PROVIDERS, Session

TABLE = 'inference'
BATCHES = (1, 4, 16, 64, 256)
# Images at a time when winners are compared: TensorRT has an engine for so many.
FEW = 1
SECONDS = 2.5
LEAST_CALLS = 5
# Scenes that the compared pictures show, and views of each; a log that no training saw.
SCENES, VIEWS, SEED = 48, 10, 31
# Pixels by which a view is moved.
MOVED = 10


def measure(model: str, provider: str, name: str, answers: str, seconds: float = SECONDS,
            batches: tuple[int, ...] = BATCHES, scenes: int = SCENES) -> Iterator[Row]:
    """
    Time every batch size on one provider, and compare its winners.

    :param model: an exported file.
    :param provider: short name.
    :param name: of the rows.
    :param answers: ``.npz`` with the CPU's winners of the float32 file; made by the CPU's run.
    :param seconds: for each batch size, roughly.
    :param batches: images at a time.
    :param scenes: see :data:`SCENES`.
    """
    path = Path(model)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter('always')
        session = Session(path, [provider], 0)
    if session.provider != PROVIDERS[provider]:
        yield missing(TABLE, name, '; '.join(str(item.message) for item in told))
        return
    size = int(session.shape('reconstruction')[1])
    rng = np.random.default_rng(0)
    for batch in batches:
        images = rng.integers(0, 256, (batch, size, size, 3), dtype=np.uint8)
        yield Row(TABLE, f'{name}, batch {batch}', timed(session, images, seconds))
    file = Path(answers)
    if provider == 'cpu' and not file.exists():
        images = pictures(session.metadata, size, scenes)
        np.savez(file, allow_pickle=False, images=images, **winners(session, images))
    elif file.exists():
        with np.load(file) as known:
            found = winners(session, known['images'])
            same = found['identity'] == known['identity']
            both = same & (found['active'] == known['active']).all(1)
        yield Row(TABLE, f'{name}, winners as float32 on the CPU',
                  {'images': len(same), 'same identity': float(same.mean()),
                   'same modules too': float(both.mean())})


def timed(session: Session, images: np.ndarray, seconds: float) -> dict[str, float]:
    """
    Time calls from an array to answers in arrays, copies to a card and back included.

    :param images: (B, S, S, 3) uint8.
    :param seconds: for all of it, roughly.
    :return: ``p50 ms`` and ``p99 ms`` of a call, ``images/s``, number of ``calls``.
    """
    for _ in range(2):                                # a CUDA graph is recorded by the first
        session.run(images)
    times: list[float] = []
    while sum(times) < seconds or len(times) < LEAST_CALLS:
        start = time.perf_counter()
        session.run(images)
        times.append(time.perf_counter() - start)
    p50, p99 = np.percentile(times, (50, 99))
    return {'p50 ms': 1e3 * float(p50), 'p99 ms': 1e3 * float(p99),
            'images/s': len(images) * len(times) / sum(times), 'calls': len(times)}


def winners(session: Session, images: np.ndarray) -> dict[str, np.ndarray]:
    """:return: ``identity`` (K,) and ``active`` (K, m)."""
    found = [session.run(np.ascontiguousarray(images[start:start + FEW]))
             for start in range(0, len(images), FEW)]
    return {key: np.concatenate([answer[key] for answer in found])
            for key in ('identity', 'active')}


def pictures(metadata: dict[str, str], size: int, scenes: int) -> np.ndarray:
    """
    Draw what a shipped model was trained for; needs numpy alone.

    :param metadata: of the file; its region of interest tells the robot's camera from 3Dshapes.
    :param size: S, side of its input.
    :param scenes: K / :data:`VIEWS`.
    :return: (K, S, S, 3) uint8.
    """
    roi = json.loads(metadata['config'])['crop']['roi']
    rng = np.random.default_rng(SEED)
    if not roi:
        return Shapes3D(size).images(rng.integers(0, FACTOR_SIZES, (scenes * VIEWS, 6)))
    x, y, width, height = roi
    if width % size or height % size:
        raise ValueError(f'the region of interest {roi} is no multiple of {size} pixels')
    found = []
    for clip in range(scenes):
        scene = clip_scene(SEED, clip)
        frame = render(scene, scene.view(1.0), rng)
        for across, down in rng.integers(-MOVED, MOVED + 1, (VIEWS, 2)):
            part = frame[y + down:y + down + height, x + across:x + across + width]
            cells = part.reshape(size, height // size, size, width // size, 3)
            found.append(np.round(cells.mean((1, 3))).astype(np.uint8))
    return np.stack(found)


def half_precision(model: str, out: str) -> Iterator[Row]:
    """
    Write a model's float16 form, as ``export --float16`` does it.

    :param model: an exported file.
    :param out: to write.
    """
    from imn_world_model.exporting.graph import export_onnx
    from imn_world_model.exporting.restore import FOLDED, restore
    whole = restore(Path(model))
    metadata = {key: value for key, value in whole.metadata.items() if key != FOLDED}
    examples = np.zeros((0,), np.uint8)
    export_onnx(whole.network, Path(out), metadata | {'precision': 'float16'}, examples,
                whole.strategy, 'float16', whole.familiarity)
    yield Row(TABLE, 'float16 file', {'MB': Path(out).stat().st_size / 1e6})
