"""
The perception node before several cameras with several objects each, which it finds by itself.

Pictures are of a textured table on which things of other colours move, 640x480 JPEG, published by
this process to a node in a process of its own. Boxes of a detector cost less: see ``auto``.

    python -m imn_world_model.bench.crowd [--model FILE.onnx]
"""
import argparse
import os
from pathlib import Path

import cv2
import numpy as np

from imn_world_model.base.cli import run_cli
from imn_world_model.base.errors import UserError
from imn_world_model.bench.node import MODEL, Load, bench
from imn_world_model.learning.photographs import texture

CAMERAS, OBJECTS, RATE = 4, 5, 15.0
# Images per second and camera, of which the first without drops is told.
SLOWER = (12.0, 10.0, 7.5, 5.0, 3.0)
COLOURS = ((200, 40, 40), (40, 60, 200), (230, 210, 40), (30, 30, 30), (235, 235, 235))
# Nothing is known of a place at first; of so many pictures it takes.
WARM = 20
WIDTH, HEIGHT, PICTURES = 640, 480, 64


def pictures(objects: int) -> list[bytes]:
    """:return: serialized CompressedImage messages; things go to and fro, each in its row."""
    from rclpy.serialization import serialize_message
    from sensor_msgs.msg import CompressedImage
    rng = np.random.default_rng(0)
    table = cv2.resize(texture(100, rng), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    table[..., 0] = table[..., 2] = table[..., 1] // 2 + 40
    messages = []
    for k in range(PICTURES):
        picture = table.copy()
        swing = 1 - abs(2 * k / PICTURES - 1)
        for row in range(objects):
            x = 80 + (WIDTH - 160) * (swing if row % 2 else 1 - swing)
            middle = round(x), round((row + 0.5) * HEIGHT / objects)
            cv2.ellipse(picture, middle, (44, 30), 0, 0, 360, COLOURS[row % len(COLOURS)], -1)
        noisy = np.clip(picture + rng.normal(0, 2, picture.shape), 0, 255).astype(np.uint8)
        jpeg = cv2.imencode('.jpg', noisy[..., ::-1])[1]
        messages.append(serialize_message(CompressedImage(format='jpeg', data=jpeg.tobytes())))
    return messages


def run(model: Path = MODEL) -> dict[str, float]:
    """
    Measure one camera with one object, whole pictures against ``auto``, and then the crowd.

    :param model: exported .onnx file.
    :return: figures by name; milliseconds, Hz, shares and cores as the names say.
    """
    if not model.is_file():
        raise UserError(f'model {model} does not exist; export one there')
    figures: dict[str, float] = {'machine_load': os.getloadavg()[0]}

    def note(name: str, load: Load) -> None:
        p50, p99 = np.percentile(load.latency, (50, 99)) * 1e3
        figures.update({f'{name}_drops': load.drops, f'{name}_p50_ms': float(p50),
                        f'{name}_p99_ms': float(p99), f'{name}_cores': load.cpu})

    one = pictures(1)
    for regions in ('none', 'auto'):
        with bench(model, 1, one[0], regions=regions) as node:
            node.load(one, RATE, WARM / RATE)
            note(f'one_object_{regions}', node.load(one, RATE))
    figures['auto_ratio'] = figures['one_object_auto_p50_ms'] / figures['one_object_none_p50_ms']
    many = pictures(OBJECTS)
    with bench(model, CAMERAS, many[0], regions='auto') as node:
        node.load(many, RATE, WARM / RATE)
        load = node.load(many, RATE)
        note(f'{CAMERAS}x{OBJECTS}_objects_{RATE:.0f}hz', load)
        figures['objects_found'] = node.objects
        rates = [RATE] if not load.drops else []
        for rate in SLOWER if load.drops else ():
            if not node.load(many, rate).drops:
                rates = [rate]
                break
        figures['rate_without_drops_hz'] = rates[0] if rates else 0.0
    return figures


def main(arguments: list[str] | None = None) -> None:
    """Command line of this part alone."""
    parser = argparse.ArgumentParser(prog='imn_world_model.bench.crowd', description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--model', type=Path, default=MODEL)
    for name, value in run(parser.parse_args(arguments).model.resolve()).items():
        print(f'{name:32} {value:10.3f}')


if __name__ == '__main__':
    run_cli(main)
