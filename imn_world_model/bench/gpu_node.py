"""The perception node's latency with a provider, over DDS."""
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from imn_world_model.bench.gpu_parts import Row
from imn_world_model.bench.node import bench, demo_images

TABLE = 'node'
RATE, SECONDS = 30.0, 8.0


def measure(model: str, provider: str, seconds: float = SECONDS) -> Iterator[Row]:
    """
    Publish the demo log's pictures to a node and wait for its answers.

    :param model: an exported file.
    :param provider: short name; the node takes no other.
    :param seconds: how long.
    """
    images = demo_images()
    with bench(Path(model), 1, images[0], provider) as one:
        load = one.load(images, RATE, seconds)
    p50, p99 = np.percentile(load.latency, (50, 99)) * 1e3
    yield Row(TABLE, f'{provider}, one camera, {RATE:.0f} Hz',
              {'p50 ms': float(p50), 'p99 ms': float(p99), 'drops': load.drops,
               'cores': load.cpu})
