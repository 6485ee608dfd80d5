"""Training steps a second by batch and image size, with the card's load."""
import logging
import time
import warnings
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import lightning
import numpy as np
import torch

from imn_world_model.base.config import override
from imn_world_model.bench.gpu_machine import load
from imn_world_model.bench.gpu_parts import Row
from imn_world_model.data.frames import Frames
from imn_world_model.learning.hardware import device_for
from imn_world_model.learning.learner import Learner
from imn_world_model.learning.loading import FrameBatches
from imn_world_model.learning.presets import preset

TABLE = 'training'
PRESETS = {64: 'clips', 32: 'clips32'}
BATCHES = (64, 512)
IMAGES, CLIP = 4096, 8
WARM_UP = 5
# Far more than there is time for.
STEPS = 1_000_000
SECONDS = 8.0


class Clock(lightning.Callback):
    """
    Counts the steps of some seconds, from the end of a warm-up to a finished device.

    :param seconds: after which training ends.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds, self.begin, self.first, self.rate = seconds, 0.0, 0, float('nan')

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any, **__: Any) -> None:
        """Look at the clock."""
        step = trainer.global_step
        if step < WARM_UP:
            return
        if not self.begin:
            finish()
            self.begin, self.first = time.perf_counter(), step
        elif time.perf_counter() - self.begin > self.seconds:
            finish()
            self.rate = (step - self.first) / (time.perf_counter() - self.begin)
            trainer.should_stop = True


def finish() -> None:
    """Wait for what a card was given to do."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def measure(accelerator: str, size: int, seconds: float = SECONDS,
            batches: tuple[int, ...] = BATCHES, steps: int = STEPS) -> Iterator[Row]:
    """
    Time whole steps in Lightning's loop, batches included, while the winner is searched for.

    Images are random: what a step costs does not depend on them.

    :param accelerator: see :func:`hardware.device_for`.
    :param size: of the images, 64 or 32.
    :param seconds: for each batch size.
    :param batches: images in a step.
    :param steps: at most.
    """
    logging.getLogger('lightning.pytorch').setLevel(logging.ERROR)
    warnings.simplefilter('ignore')
    device = device_for(accelerator)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (IMAGES, size, size, 3), dtype=np.uint8)
    none = np.zeros(IMAGES, np.int64)
    frames = Frames(images, np.repeat(np.arange(IMAGES // CLIP), CLIP), none.astype(np.uint8),
                    none, none, none, none, ('random',), ('random',), {}, {}, '', (), ())
    for batch in batches:
        config = override(preset(PRESETS[size]), [
            f'train.batch_size={batch}', f'train.steps={steps}', 'train.single_identity_steps=0',
            'train.all_modules_steps=0', 'train.subspace_steps=0'])
        clock = Clock(seconds)
        trainer = lightning.Trainer(
            accelerator=device.type, devices=1, max_steps=steps, max_epochs=-1,
            enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
            logger=False, callbacks=[clock], use_distributed_sampler=False, limit_val_batches=0)
        learner, batches_of = Learner(config), FrameBatches(frames, config, None)
        card = f'GPU-{torch.cuda.get_device_properties(0).uuid}' if device.type == 'cuda' else ''
        with load(card) if card else nullcontext() as busy:
            trainer.fit(learner, batches_of)
        values = {'steps/s': clock.rate, 'images/s': batch * clock.rate}
        if busy is not None:
            values['load'] = busy.share
        yield Row(TABLE, f'{device.type}, {size}x{size}, batch {batch}', values)
