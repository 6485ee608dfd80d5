"""The recognizer learns whose view it sees, where views have names: clips or identities."""
from typing import Any, Protocol

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import TQDMProgressBar
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from imn_world_model.base.config import Config
from imn_world_model.base.errors import UserError
from imn_world_model.model.recognition import TEMPERATURE, Recognizer

# Share of the probability that goes to all names alike, against overconfidence.
SMOOTHING = 0.1
WEIGHT_DECAY = 0.02


class NameLearner(lightning.LightningModule):
    """
    Training of the recognizer alone: whose view is this?

    :param recognizer: to be trained.
    :param signature: (K, learnt d), what the views of each name look like, to begin with.
    :param config: the whole run.
    :param steps: of this training.
    """

    def __init__(self, recognizer: Recognizer, signature: Tensor, config: Config,
                 steps: int) -> None:
        super().__init__()
        self.recognizer, self.steps, self.rate = recognizer, steps, config.train.clip_rate
        self.signature = nn.Parameter(signature.clone())

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """:return: cross-entropy of the names, nats."""
        features = self.recognizer.learnt(batch['image'])
        logits = features @ F.normalize(self.signature, dim=1).T / TEMPERATURE
        loss = F.cross_entropy(logits, batch['name'], label_smoothing=SMOOTHING)
        if not torch.isfinite(loss):
            raise UserError(f'the loss is not finite at step {self.global_step} of the clips; '
                            'lower train.clip_rate')
        self.log('clip_loss', loss, prog_bar=True)
        return loss

    def configure_optimizers(self) -> Any:
        """AdamW under a one-cycle schedule."""
        learnt = [value for value in self.parameters() if value.requires_grad]
        optimizer = torch.optim.AdamW(learnt, lr=self.rate, weight_decay=WEIGHT_DECAY)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, self.rate, total_steps=self.steps + 1)
        return {'optimizer': optimizer,
                'lr_scheduler': {'scheduler': schedule, 'interval': 'step'}}


class Views(Protocol):
    """Makes views of images; the same seed makes the same."""

    def make(self, rows: np.ndarray, seed: tuple[int, ...]) -> Tensor:
        """:return: (B, 3, S, S) in [0, 1], or features (B, d), of image numbers (B,)."""
        ...


class NameBatches(Dataset):
    """
    Batches of views with their names; item ``step`` is that step's batch.

    :param views: makes the views.
    :param rows: (N,) image numbers.
    :param name: (N,) of those images, from 0 on.
    :param config: the whole run.
    :param steps: of this training.
    :param rank: this process.
    :param world_size: number of processes.
    """

    def __init__(self, views: Views, rows: np.ndarray, name: np.ndarray, config: Config,
                 steps: int, rank: int = 0, world_size: int = 1) -> None:
        self.views, self.rows, self.name, self.steps = views, rows, name, steps
        self.config, self.rank, self.world_size = config.train, rank, world_size

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        """:return: ``image`` as :meth:`Views.make` gives it, ``name`` (B,) int64."""
        rng = np.random.default_rng((self.config.seed, 1, step))
        count = min(self.config.clip_batch, len(self.rows))
        chosen = rng.choice(len(self.rows), count, replace=False)
        mine = np.array_split(chosen, self.world_size)[self.rank]
        seed = (self.config.seed, 1, step, self.rank)
        return {'image': self.views.make(self.rows[mine], seed),
                'name': torch.from_numpy(self.name[mine])}


def learn_names(recognizer: Recognizer, signature: Tensor, views: Views, rows: np.ndarray,
                name: np.ndarray, config: Config, steps: int, hardware: dict[str, Any],
                progress: bool) -> tuple[Recognizer, Tensor]:
    """
    Train a recognizer.

    :param recognizer: to begin with.
    :param signature: (K, learnt d), what the views of each name look like, to begin with.
    :param views: of the images.
    :param rows: (N,) image numbers.
    :param name: (N,) of those images, from 0 on.
    :param config: the whole run.
    :param steps: of this training.
    :param hardware: Lightning's options of hardware and precision.
    :param progress: whether to show a bar.
    :return: the recognizer in evaluation mode, and signatures (K, learnt d) of length 1, both on
        the CPU.
    """
    learner = NameLearner(recognizer, signature, config, steps)
    trainer = lightning.Trainer(
        max_steps=steps, max_epochs=-1, logger=False, enable_checkpointing=False,
        enable_model_summary=False, enable_progress_bar=progress, use_distributed_sampler=False,
        callbacks=[TQDMProgressBar()] if progress else [], **hardware)
    batches = NameBatches(views, rows, name, config, steps, trainer.global_rank,
                          trainer.world_size)
    trainer.fit(learner.train(), DataLoader(batches, batch_size=None, shuffle=False,
                                            num_workers=config.train.workers))
    return learner.recognizer.cpu().eval(), F.normalize(learner.signature.detach().cpu(), dim=1)
