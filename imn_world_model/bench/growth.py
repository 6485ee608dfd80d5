"""
How the cost of finding the winner grows with the number of modules and of identities.

The cost is an untrained network's of the base sizes; whether the winner is the right one is asked
of a network that was trained for it, see :mod:`bench.many`.
"""
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from matplotlib import pyplot

from imn_world_model.base.cli import atomic_path
from imn_world_model.base.config import ModelConfig
from imn_world_model.base.marks import MARK
from imn_world_model.bench import many
from imn_world_model.bench.timing import compare
from imn_world_model.bench.winner import (
    OnePass,
    finished,
    untrained,
    untrained_shortlist,
    wait_for,
)
from imn_world_model.exporting.calibration import Calibration
from imn_world_model.exporting.deployed import DeployedNetwork
from imn_world_model.exporting.graph import export_onnx, run_metadata
from imn_world_model.model.imn import IndependentModularNetwork
from imn_world_model.model.winner import coarse_to_fine, exhaustive
from imn_world_model.robot.inference import ImnModel

MODULES = (3, 4, 5, 6, 7, 8)
IDENTITIES = (2, 5, 20, 56, 200, 1000)
# More take seconds an image.
MAX_EXHAUSTIVE = 20
TRAINING_BATCH = 64
# Sizes that the trained network is cut to.
COMPARED = (5, 56, 1000)
LABELS = {'exhaustive': 'exhaustive search', 'fast': "the robot's search",
          'training': "a training step's, batch 64", 'floor': 'one encode, one decode'}


def run(picture: Path, seconds: float = 4.0, steps: int = many.STEPS, device: str = 'cpu'
        ) -> dict[str, float]:
    """
    Time one image in torch, with m modules and 5 identities, and with 5 modules and n identities;
    the exported file with 5 and with most identities; compare winners.

    :param picture: PNG to write.
    :param seconds: for each pair of sizes.
    :param steps: of training the network whose winners are compared.
    :param device: of all that is timed and trained, ``cpu`` or ``cuda``.
    :return: milliseconds of one image, ratios ``x``, shares of images with the same winner.
    """
    figures: dict[str, float] = {}
    for m, n in [(m, 5) for m in MODULES] + [(5, n) for n in IDENTITIES if n != 5]:
        times = compare(_ways(m, n, device), seconds, rounds=5)
        if 'training' in times:
            times['training'] /= TRAINING_BATCH
        figures |= {f'm {m} n {n} {name} ms': 1000 * value for name, value in times.items()}
    _plot(figures, picture)
    most = max(IDENTITIES)
    for name in ('fast', 'training'):
        figures[f'n {most} / n 5, {name} x'] = (figures[f'm 5 n {most} {name} ms']
                                                / figures[f'm 5 n 5 {name} ms'])
    figures |= _exported(most, seconds, device)
    objects = many.Objects(max(COMPARED))
    network = many.trained(objects, steps, accelerator=device).to(device)
    return figures | many.agreements(network, objects, COMPARED)


def _ways(m: int, n: int, device: str) -> dict[str, Callable[[], object]]:
    """:return: name -> a search, to be timed; ``training`` of a whole batch, encoding left out."""
    config = ModelConfig(num_modules=m, num_identities=n)
    network = untrained(config).network.to(device)
    image = torch.randint(0, 256, (1, config.image_size, config.image_size, 3), dtype=torch.uint8,
                          device=device)
    shortlist = untrained_shortlist(config, network).to(device)
    ways = {'floor': OnePass(network), 'fast': DeployedNetwork(network, shortlist)}
    if n <= MAX_EXHAUSTIVE:
        ways['exhaustive'] = DeployedNetwork(network, exhaustive)
    calls: dict[str, Callable[[], object]] = {
        name: partial(finished, way, image) for name, way in ways.items()}
    if m == 5:
        calls['training'] = _Training(network)
    return calls


class _Training:
    """The search of a training step."""

    def __init__(self, network: IndependentModularNetwork) -> None:
        side = network.config.image_size
        self.network = network
        self.image = torch.rand(TRAINING_BATCH, 3, side, side, device=network.masks.device)
        with torch.no_grad():
            self.encoding = network.encode(self.image)

    def __call__(self) -> None:
        self.network.search(self.image, self.encoding, coarse_to_fine)
        wait_for(self.image.device)


def _exported(most: int, seconds: float, device: str) -> dict[str, float]:
    """:return: ms of the exported search in ONNX Runtime with 5 and with most identities."""
    models = {}
    with tempfile.TemporaryDirectory() as folder:
        for n in (5, most):
            example = untrained(ModelConfig(num_identities=n))
            file = Path(folder) / f'{n}.onnx'
            export_onnx(example.network, file, run_metadata(
                example, 'growth', ['x'] * n, Calibration(float('-inf'), 1.0)),
                np.zeros((0,)), untrained_shortlist(example.config.model, example.network))
            models[n] = ImnModel(file, [device])
    image = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
    times = compare({str(n): partial(model.predict, image) for n, model in models.items()},
                    seconds)
    return {f'exported, n {n} ms': 1000 * times[str(n)] for n in models} | {
        f'exported, n {most} / n 5 x': times[str(most)] / times['5']}


def _plot(figures: dict[str, float], picture: Path) -> None:
    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.8), sharey=True, layout='constrained')
    sides = ((axes[0], MODULES, 'm {} n 5 {} ms', 'compositional modules m (5 identities)'),
             (axes[1], IDENTITIES, 'm 5 n {} {} ms', 'identities n (5 modules)'))
    for axis, sizes, key, label in sides:
        for name, text in LABELS.items():
            there = [size for size in sizes if key.format(size, name) in figures]
            if len(there) > 1:
                axis.plot(there, [figures[key.format(size, name)] for size in there], marker='o',
                          label=text)
        axis.set(xlabel=label, yscale='log')
        axis.grid(alpha=0.3)
    axes[1].set_xscale('log')
    for axis, sizes in ((axes[0], MODULES), (axes[1], IDENTITIES)):
        axis.set_xticks(sizes, [str(size) for size in sizes])
        axis.minorticks_off()
    axes[0].set_ylabel('ms per image, torch, 64x64')
    axes[1].legend(fontsize='small')
    with atomic_path(picture) as scratch:
        figure.savefig(scratch, dpi=110, format='png', metadata=MARK)
    pyplot.close(figure)
