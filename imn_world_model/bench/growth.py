"""How the cost of finding the winner grows with the number of modules and of identities."""
from functools import partial
from pathlib import Path

import torch
from matplotlib import pyplot

from imn_world_model.bench.timing import compare
from imn_world_model.bench.winner import OnePass, untrained, untrained_shortlist
from imn_world_model.cli import atomic_path
from imn_world_model.config import ModelConfig
from imn_world_model.export import DeployedNetwork
from imn_world_model.marks import MARK
from imn_world_model.winner import exhaustive

MODULES = (3, 4, 5, 6, 7, 8)
IDENTITIES = (2, 5, 10, 15, 20)


def run(picture: Path, seconds: float = 4.0) -> dict[str, float]:
    """
    Time one image in torch, with m modules and 5 identities, and with 5 modules and n identities.

    :param picture: PNG to write.
    :param seconds: for each pair of sizes.
    :return: milliseconds by name.
    """
    figures: dict[str, float] = {}
    for m, n in [(m, 5) for m in MODULES] + [(5, n) for n in IDENTITIES if n != 5]:
        config = ModelConfig(num_modules=m, num_identities=n)
        network = untrained(config).network
        image = torch.randint(0, 256, (1, config.image_size, config.image_size, 3),
                              dtype=torch.uint8)
        ways = {'floor': OnePass(network),
                'fast': DeployedNetwork(network, untrained_shortlist(config, network)),
                'exhaustive': DeployedNetwork(network, exhaustive)}
        with torch.no_grad():
            times = compare({name: partial(way, image) for name, way in ways.items()}, seconds,
                            rounds=5)
        figures |= {f'm {m} n {n} {name} ms': 1000 * value for name, value in times.items()}
    _plot(figures, picture)
    return figures


def _plot(figures: dict[str, float], picture: Path) -> None:
    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.6), sharey=True, layout='constrained')
    sides = ((axes[0], MODULES, 'm {} n 5 {} ms', 'compositional modules m (5 identities)'),
             (axes[1], IDENTITIES, 'm 5 n {} {} ms', 'identities n (5 modules)'))
    for axis, sizes, key, label in sides:
        for name in ('exhaustive', 'fast', 'floor'):
            axis.plot(sizes, [figures[key.format(size, name)] for size in sizes], marker='o',
                      label={'floor': 'one encode, one decode'}.get(name, f'{name} search'))
        axis.set(xlabel=label, yscale='log', xticks=sizes)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel('ms per image, torch, 64x64')
    axes[0].legend()
    with atomic_path(picture) as scratch:
        figure.savefig(scratch, dpi=110, format='png', metadata=MARK)
    pyplot.close(figure)
