"""Loaded frames as batches of each step."""
from collections.abc import Iterator
from typing import Literal

import lightning
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from imn_world_model.base.config import Config
from imn_world_model.data.frames import Frames, ImageRows
from imn_world_model.learning.augment_on_device import CHANGES, changed
from imn_world_model.learning.batches import Batches, RecognizerViews, pixels

TRAIN, VALIDATION = 0, 1
# Share of a card's free memory that training images may take to stay there.
CARD_SHARE = 0.25
MAX_VALIDATION_IMAGES = 1024


class FrameBatches(lightning.LightningDataModule):
    """
    Training and validation batches of loaded frames.

    :param frames: all frames with their splits.
    :param config: the whole run.
    :param labels: (N,) class of every frame for the ID classifier, else ``None``.
    """

    def __init__(self, frames: Frames, config: Config, labels: np.ndarray | None) -> None:
        super().__init__()
        self.config = config
        self.views: RecognizerViews | None = None
        chosen = np.flatnonzero(frames.split == TRAIN)
        self.images = Rows(frames.images, chosen)
        self.clip = frames.clip[chosen]
        self.labels = None if labels is None else labels[chosen]
        if self.labels is not None:                   # what one label bears is one object
            self.clip = self.labels
        held_out = np.flatnonzero(frames.split == VALIDATION)
        few = np.random.default_rng(config.train.seed).permutation(held_out)
        self.validation = np.asarray(frames.images[np.sort(few[:MAX_VALIDATION_IMAGES])])
        self.on_card: Tensor | None = None

    def keep_on(self, device: torch.device) -> None:
        """
        Leave the training images on a device, from which batches are then cut.

        :param device: not the CPU, which has them.
        """
        self.on_card = torch.from_numpy(
            np.asarray(self.images[np.arange(len(self.images))])).to(device)

    def fits(self, device: torch.device) -> bool:
        """:return: whether the training images may stay on a card."""
        size = len(self.images) * 3 * self.config.model.side ** 2
        return size < CARD_SHARE * torch.cuda.mem_get_info(device)[0]

    def on_after_batch_transfer(self, batch: dict[str, Tensor], dataloader_idx: int
                                ) -> dict[str, Tensor]:
        """
        Make a batch's images of bytes, on the device that it has come to.

        :param batch: see :class:`Batches`.
        :param dataloader_idx: Lightning's.
        """
        if 'rows' in batch:
            rows = batch.pop('rows')
            if self.on_card is None or self.on_card.device != rows.device:
                self.keep_on(rows.device)
            assert self.on_card is not None
            changes = {name: batch.pop(name) for name in CHANGES if name in batch}
            views = changed(self.on_card[rows], **changes)
            batch['image'] = pixels(views, self.config.model.image_size)
        elif 'views' in batch:
            batch['image'] = pixels(batch.pop('views'), self.config.model.image_size)
        return batch

    def train_dataloader(self) -> DataLoader:
        """:return: the batches of all steps that are left."""
        train, trainer = self.config.train, self.trainer
        assert trainer is not None
        device = trainer.strategy.root_device
        raw: Literal['', 'views', 'rows'] = ''
        if device.type == 'cuda':
            raw = 'rows' if self.fits(device) else 'views'
        batches = Batches(self.images, self.clip, self.config, self.labels,
                          trainer.global_rank, trainer.world_size, self.views, raw)
        steps = RemainingSteps(trainer, train.steps)
        return DataLoader(batches, sampler=steps, batch_size=None, num_workers=train.workers,
                          pin_memory=bool(raw))

    def val_dataloader(self) -> DataLoader:
        """:return: validation images, each once."""
        image = torch.from_numpy(self.validation).movedim(-1, 1).float() / 255.0
        return DataLoader(Images(image), batch_size=self.config.train.batch_size)


class RemainingSteps(Sampler):
    """
    The steps from where training stands: from 0, or from the checkpoint it resumes.

    Its length stays that of the whole run, by which Lightning counts.

    :param trainer: knows the optimiser steps done.
    :param steps: of the whole run.
    """

    def __init__(self, trainer: lightning.Trainer, steps: int) -> None:
        self.trainer, self.steps = trainer, steps

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.trainer.global_step, self.steps))

    def __len__(self) -> int:
        return self.steps


class Images(Dataset):
    """
    Single images as :class:`Learner` takes them in batches.

    :param image: (K, 3, S, S) float32 in [0, 1].
    """

    def __init__(self, image: Tensor) -> None:
        self.image = image

    def __len__(self) -> int:
        return len(self.image)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {'image': self.image[index]}


class Rows:
    """
    Chosen rows of a memory-mapped array, read when asked for.

    :param array: (N, ...).
    :param rows: (K,) row numbers.
    """

    def __init__(self, array: ImageRows, rows: np.ndarray) -> None:
        self.array, self.rows = array, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: np.ndarray) -> np.ndarray:
        return self.array[self.rows[index]]
