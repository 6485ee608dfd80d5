"""A training from beginning to end: Lightning, checkpoints, the run folder."""
import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from imn_world_model.base.cli import disk_of
from imn_world_model.base.config import Config
from imn_world_model.base.errors import UserError
from imn_world_model.data.frames import Frames
from imn_world_model.learning import votes
from imn_world_model.learning.batches import Turned, backgrounds_of
from imn_world_model.learning.begin import (
    began_alike,
    clear,
    held,
    refuse_if_done,
)
from imn_world_model.learning.discovery import Discoverer, Discovery, views_for
from imn_world_model.learning.learner import MAX_GRADIENT_NORM, Learner
from imn_world_model.learning.loading import MAX_VALIDATION_IMAGES, FrameBatches
from imn_world_model.learning.run import (
    CHECKPOINT,
    add_recognizer,
    load_run,
    read_checkpoint,
    save_tensors,
    without_recognizer,
    write_run,
)
from imn_world_model.learning.trainer import lightning_options
from imn_world_model.model.pictures import write_pictures


class WholeCheckpoints(TorchCheckpointIO):
    """Checkpoints written beside the last one: a full disk costs neither it nor the message."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any,
                        storage_options: Any = None) -> None:
        """Write ``checkpoint`` to ``path``, whole or not at all."""
        save_tensors(checkpoint, Path(path))


def train(config: Config, frames: Frames, folder: Path, data: dict, resume: bool = False,
          accelerator: str = 'auto', devices: int = 1, nodes: int = 1,
          progress: bool = True, over: bool = False) -> None:
    """
    Train and leave a run folder.

    :param config: the whole run.
    :param frames: images of ``config.model.side``.
    :param folder: the run folder.
    :param data: what to keep of the data's origin, see :func:`run.write_run`.
    :param resume: go on from the folder's last checkpoint.
    :param accelerator: Lightning's name of the hardware.
    :param devices: processes on each machine.
    :param nodes: machines.
    :param progress: whether to show a progress bar.
    :param over: take the place of a run that is in the folder.
    :raises UserError: when data, configuration, hardware or checkpoint do not fit, the folder is
        in use, its disk is full, or the loss diverges.
    """
    hardware = lightning_options(accelerator, devices, nodes, config.train.precision)
    with held(folder), disk_of(folder, 'free some, then train again, with --resume if there is a '
                                       'checkpoint'):
        if not (resume or over):
            refuse_if_done(folder)
        _train(config, frames, folder, data, resume, hardware, progress)


def _train(config: Config, frames: Frames, folder: Path, data: dict, resume: bool,
           hardware: dict[str, Any], progress: bool) -> None:
    lightning.seed_everything(config.train.seed, verbose=False)
    labels = None
    if config.loss.classifier_weight > 0:
        labels = frames.labels[data['label']]
    batches = FrameBatches(frames, config, labels)
    data = {'asked_identities': config.model.num_identities,
            'asked_turn': config.model.turn} | data
    discovery = None
    if config.discovers and (resume or began_alike(folder, config, data)):
        discovery = Discovery.load(folder)
    if resume:
        _try_checkpoint(folder, config, data['num_labels'], discovery)
    else:
        clear(folder, keep_discovery=discovery is not None)
    write_run(folder, config, data)
    if config.discovers:
        backgrounds = backgrounds_of(batches.images, config)
        if discovery is None:
            discoverer = Discoverer(config, batches.images, batches.clip, backgrounds,
                                    hardware, progress)
            discovery = discoverer.run()
            discovery.save(folder)
            views = discoverer.views
        else:
            images = Turned(batches.images) if found_lying(config, discovery) else batches.images
            views = views_for(config, images, backgrounds, discovery.anyhow)
        found = replace(config.model, num_identities=len(discovery.signature))
        if found_lying(config, discovery):
            frames = replace(frames, images=Turned(frames.images))
            found = replace(found, turn='level')
        elif found.turn == 'auto':
            found = replace(found, turn='keep')
        config = replace(config, model=found)
        batches = FrameBatches(frames, config, labels)
        write_run(folder, config, data)
        lightning.seed_everything(config.train.seed, verbose=False)
    first = without_recognizer(config) if config.train.naming_steps else config
    learner = Learner(first, data['num_labels'], discovery)
    if discovery is not None:
        recognizer = copy.deepcopy(learner.network.recognizer)
        assert recognizer is not None
        batches.views = views.through(recognizer.eval().features)
    every = min(config.train.checkpoint_every, config.train.steps)
    checkpoints = ModelCheckpoint(folder / 'checkpoints', filename='last',
                                  every_n_train_steps=every, save_on_train_epoch_end=True,
                                  enable_version_counter=False)
    callbacks: list[lightning.Callback] = [checkpoints]
    if progress:
        # Showing the loss waits for a card to come to it.
        callbacks.append(TQDMProgressBar(refresh_rate=20 if torch.cuda.is_available() else 1))
    # The logger empties the file that it is given; a resumed run goes on in another.
    parts = len(list(folder.glob('metrics*')))
    trainer = lightning.Trainer(
        max_epochs=-1, max_steps=config.train.steps, val_check_interval=every,
        use_distributed_sampler=False, num_sanity_val_steps=0,
        gradient_clip_val=MAX_GRADIENT_NORM, log_every_n_steps=25,
        limit_val_batches=1.0 if len(batches.validation) else 0,
        enable_progress_bar=progress, enable_model_summary=False,
        callbacks=callbacks, plugins=[WholeCheckpoints()],
        logger=[CSVLogger(folder, name='', version=f'metrics-{parts}' if parts else 'metrics'),
                TensorBoardLogger(folder, name='', version='tensorboard')],
        **hardware)
    trainer.fit(learner, batches, ckpt_path=folder / CHECKPOINT if resume else None,
                weights_only=True if resume else None)
    if config.train.naming_steps:
        recognizer = votes.learn(learner.network.cpu().eval(), frames, config, hardware, progress)
        if recognizer is not None and trainer.is_global_zero:
            add_recognizer(folder, recognizer)
    if trainer.is_global_zero:
        examples = batches.validation if len(batches.validation) else batches.images[
            np.arange(min(MAX_VALIDATION_IMAGES, len(batches.images)))]
        write_pictures(load_run(folder).network, examples, folder / 'pictures')


def _try_checkpoint(folder: Path, config: Config, num_labels: int,
                    discovery: Discovery | None) -> None:
    """
    Load a checkpoint on trial, before anything is written.

    :raises UserError: when it does not fit.
    """
    state = read_checkpoint(folder / CHECKPOINT)
    first = without_recognizer(config) if config.train.naming_steps else config
    try:
        Learner(first, num_labels, discovery).load_state_dict(state['state_dict'])
    except (RuntimeError, KeyError) as error:
        raise UserError(f'checkpoint {folder / CHECKPOINT} does not fit what it shall go on '
                        'with; leave --set out, or train a new run') from error


def found_lying(config: Config, discovery: Discovery) -> bool:
    """:return: whether objects turned out to lie any way, in pictures read as they are."""
    return config.model.turn == 'auto' and discovery.turned
