"""What a training step costs with the winner search, against a plain Lie-group VAE's."""
import logging
import warnings

import lightning
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from imn_world_model.base.config import Config, override
from imn_world_model.bench.timing import compare
from imn_world_model.learning.batches import pixels
from imn_world_model.learning.learner import Learner
from imn_world_model.learning.presets import preset

PRESET = 'clips'
SECONDS = 60.0
STEPS = 10


def run(name: str = PRESET, seconds: float = SECONDS, accelerator: str = 'cpu'
        ) -> dict[str, float]:
    """
    Time whole steps: forward, winner search, backward, optimiser.

    The plain Lie-group VAE is the same network with one identity and no choice: one encode, one
    decode. It is also what training runs before identities come apart.

    :param name: preset.
    :param seconds: for all of it, roughly.
    :param accelerator: Lightning's name of the hardware.
    :return: images per second by kind of step, and cost ratios ``x``.
    """
    logging.getLogger('lightning.pytorch').setLevel(logging.ERROR)
    config = preset(name)
    side = config.model.image_size
    image = pixels(torch.randint(0, 256, (config.train.batch_size, side, side, 3),
                                 dtype=torch.uint8), side)
    alone, choosing = config.train.steps, ['train.single_identity_steps=0',
                                           'train.all_modules_steps=0']
    ways = {'plain Lie-group VAE': [f'train.single_identity_steps={alone}'],
            'fast search': [*choosing, 'train.search=fast'],
            'exhaustive search': [*choosing, 'train.search=exhaustive']}
    times = compare({way: Steps(override(config, settings), image, accelerator)
                     for way, settings in ways.items()}, seconds, rounds=3)
    figures = {f'{name} {way} images/s': STEPS * len(image) / value
               for way, value in times.items()}
    plain = times['plain Lie-group VAE']
    return figures | {f'{name} {way} / plain x': times[way] / plain
                      for way in ('fast search', 'exhaustive search')}


class Repeated(Dataset):
    """The same batch at every step."""

    def __init__(self, image: Tensor) -> None:
        self.image = image

    def __len__(self) -> int:
        return STEPS

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        return {'image': self.image}


class Steps:
    """
    The same few training steps again and again, in Lightning's own loop.

    :param config: the whole run.
    :param image: (B, 3, H, W) in [0, 1].
    :param accelerator: Lightning's name of the hardware.
    """

    def __init__(self, config: Config, image: Tensor, accelerator: str = 'cpu') -> None:
        self.accelerator = accelerator
        self.learner = Learner(config)
        self.batches: DataLoader = DataLoader(Repeated(image), batch_size=None)

    def __call__(self) -> None:
        """Take the steps."""
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')                      # that nothing is logged or saved
            lightning.Trainer(accelerator=self.accelerator, barebones=True, max_steps=STEPS).fit(
                self.learner, self.batches)
