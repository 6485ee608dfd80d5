"""
A network that was trained on a thousand made-up objects: do fast searches find its winners?

Random identities would not tell: they decode to noise that is far from every picture, and from
each other. Here each identity was learnt from pictures of an object of its own (some coloured
ellipses), which is turned, zoomed, shifted and lit anew in each picture. Which picture shows which
object is given, so that no stage of training depends on what is judged here.
"""
import copy
import logging
import warnings
from dataclasses import replace

import cv2
import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import TQDMProgressBar
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from imn_world_model.base.config import override
from imn_world_model.exporting.agreement import search_agreement
from imn_world_model.exporting.search_fit import fit_shortlist
from imn_world_model.learning.discovery import Discovery
from imn_world_model.learning.learner import Learner
from imn_world_model.learning.names import NameLearner
from imn_world_model.learning.presets import preset
from imn_world_model.model.imn import IndependentModularNetwork
from imn_world_model.model.recognition import Recognizer
from imn_world_model.model.winner import coarse_to_fine

SIDE = 32
STEPS = 900
# Images of every size's objects that searches are compared on.
COMPARED = 400
FITTED = 1000
# Of an object's picture: turn in degrees, log zoom, shift as a share of the side, log brightness.
TURN, ZOOM, SHIFT, LIGHT = 25.0, 0.2, 0.1, 0.3


class Objects:
    """
    Made-up objects.

    :param count: how many.
    :param seed: of what they look like.
    """

    def __init__(self, count: int, seed: int = 0) -> None:
        self.count = count
        self.pictures = np.stack([_picture(np.random.default_rng((seed, k)))
                                  for k in range(count)])                # (count, 64, 64, 4)

    def view(self, kind: int, rng: np.random.Generator) -> np.ndarray:
        """:return: (SIDE, SIDE, 3) uint8, an object before a plain background."""
        large = self.pictures[kind]
        centre = (len(large) - 1) / 2
        turn = np.asarray(cv2.getRotationMatrix2D(
            (centre, centre), rng.uniform(-TURN, TURN), np.exp(rng.uniform(-ZOOM, ZOOM))), float)
        turn[:, 2] += rng.uniform(-SHIFT, SHIFT, 2) * len(large)
        moved = cv2.warpAffine(large, turn, large.shape[1::-1]).astype(np.float32)
        share = moved[..., 3:] / 255.0
        back = rng.uniform(60, 200, 3)
        light = np.exp(rng.uniform(-LIGHT, LIGHT))
        mixed = light * (moved[..., :3] * share + back * (1 - share))
        return cv2.resize(mixed.clip(0, 255).astype(np.uint8), (SIDE, SIDE),
                          interpolation=cv2.INTER_AREA)

    def views(self, kinds: np.ndarray, seed: tuple[int, ...]) -> np.ndarray:
        """:return: (K, SIDE, SIDE, 3) uint8, a view of each."""
        rng = np.random.default_rng(seed)
        return np.stack([self.view(int(kind), rng) for kind in kinds])


def _picture(rng: np.random.Generator) -> np.ndarray:
    """:return: (64, 64, 4) uint8, some ellipses, and where they are."""
    picture = np.zeros((64, 64, 4), np.uint8)
    for _ in range(rng.integers(3, 7)):
        x, y = (int(value) for value in rng.integers(20, 44, 2))
        axes = int(rng.integers(4, 18)), int(rng.integers(4, 18))
        colour = (*(int(value) for value in rng.integers(0, 256, 3)), 255)
        cv2.ellipse(picture, (x, y), axes, int(rng.integers(180)), 0, 360, colour, -1)
    return picture


class ObjectBatches(Dataset):
    """Batches of views; item ``step`` is that step's batch, with what both trainings ask for."""

    def __init__(self, objects: Objects, steps: int, batch: int,
                 recognizer: Recognizer | None = None) -> None:
        self.objects, self.steps, self.batch, self.recognizer = objects, steps, batch, recognizer

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        """:return: ``image``; ``name``, or ``clip`` and ``seen`` where there is a recognizer."""
        kinds = np.random.default_rng((1, step)).integers(self.objects.count, size=self.batch)
        image = as_tensor(self.objects.views(kinds, (2, step)))
        if self.recognizer is None:
            return {'image': image, 'name': torch.from_numpy(kinds)}
        with torch.no_grad():
            seen = self.recognizer.features(as_tensor(self.objects.views(kinds, (3, step))))
        return {'image': image, 'clip': torch.from_numpy(kinds), 'seen': seen}


def as_tensor(images: np.ndarray) -> Tensor:
    """:return: (K, 3, S, S) float32 in [0, 1] of (K, S, S, 3) uint8."""
    return torch.from_numpy(images).movedim(-1, 1).float() / 255.0


def trained(objects: Objects, steps: int = STEPS, progress: bool = True,
            accelerator: str = 'cpu') -> IndependentModularNetwork:
    """
    A network with an identity for each object.

    :param objects: to learn.
    :param steps: of the network, and half as many of the recognizer before.
    :param progress: whether to show bars.
    :param accelerator: Lightning's name of the hardware; the network is on the CPU afterwards.
    """
    torch.manual_seed(0)
    n = objects.count
    config = override(preset('objects32'), [
        f'model.num_identities={n}', 'model.turn=keep', 'model.background=keep',
        'model.recognizer_components=0', 'model.recognizer_outlines=0',
        'model.recognizer_colours=0',
        f'train.steps={steps}', 'train.batch_size=64',
        f'train.all_modules_steps={2 * steps // 3}', 'train.revive_every=0'])
    recognizer = Recognizer(config.model)
    names = NameLearner(recognizer, torch.randn(n, config.model.recognizer_features), config,
                        steps // 2)
    _fit(names, ObjectBatches(objects, steps // 2, 64), progress, accelerator)
    recognizer.eval()
    signature = nn.functional.normalize(names.signature.detach(), dim=1)
    found = Discovery(recognizer.state_dict(), signature, torch.arange(n), 0.0)
    learner = Learner(config, 0, found)
    assert learner.clips is not None
    learner.clips.begin(torch.arange(n), 1e9)         # what shows which object is known
    _fit(learner, ObjectBatches(objects, steps, config.train.batch_size, recognizer), progress,
         accelerator)
    return learner.network.eval()


def _fit(learner: lightning.LightningModule, batches: ObjectBatches, progress: bool,
         accelerator: str) -> None:
    logging.getLogger('lightning.pytorch').setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')               # that nothing is logged or saved
        lightning.Trainer(
            accelerator=accelerator, max_steps=len(batches), max_epochs=-1, logger=False,
            enable_checkpointing=False, enable_model_summary=False, gradient_clip_val=200.0,
            enable_progress_bar=progress, callbacks=[TQDMProgressBar()] if progress else [],
        ).fit(learner.train(), DataLoader(batches, batch_size=None))


def with_identities(network: IndependentModularNetwork, n: int,
                    recognizer: bool) -> IndependentModularNetwork:
    """:return: a copy with the first n identities, with or without what names them."""
    smaller = copy.deepcopy(network)
    smaller.config = replace(network.config, num_identities=n)
    smaller.identities.matrices = nn.Parameter(network.identities.matrices[:n].detach().clone())
    if not recognizer:
        smaller.recognizer = None
        smaller.loss_config = replace(network.loss_config, image_tail=0.0)
    return smaller.eval()


def agreements(network: IndependentModularNetwork, objects: Objects, sizes: tuple[int, ...],
               progress: bool = True) -> dict[str, float]:
    """
    How often the searches of the robot and of a training step find the exhaustive one's identity.

    :param network: of :func:`trained`.
    :param objects: that it was trained on.
    :param sizes: numbers of identities, each of the first n objects' images.
    :param progress: whether to show bars.
    :return: shares by name.
    """
    figures: dict[str, float] = {}
    for recognizer in (True, False):
        kind = 'with recognizer' if recognizer else 'without'
        for n in sizes:
            some = with_identities(network, n, recognizer)
            rng = np.random.default_rng((4, n))
            fresh = objects.views(rng.integers(n, size=COMPARED), (5, n))
            shortlist = fit_shortlist(
                some, objects.views(rng.integers(n, size=FITTED), (6, n)), progress)
            for name, strategy in (('robot', shortlist), ('training', coarse_to_fine)):
                found = search_agreement(some, fresh, strategy, progress=progress)
                figures[f'n {n} {kind}, search of {name}: same identity'] = found['identity']
    return figures
