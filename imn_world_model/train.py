"""``python -m imn_world_model.train``: learn identities and transforms without labels."""
import argparse
import copy
import logging
import sys
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from imn_world_model import votes
from imn_world_model.batches import Batches, RecognizerViews, Turned, backgrounds_of
from imn_world_model.begin import (
    began_alike,
    clear,
    digest,
    frame_options,
    held,
    interrupted,
    refuse_if_done,
    refuse_if_held,
)
from imn_world_model.cli import disk_of, run_cli
from imn_world_model.config import Config, load_config, override
from imn_world_model.data.frames import DataOptions, Frames, ImageRows, load_frames
from imn_world_model.data.sequences import MODES
from imn_world_model.discovery import Discoverer, Discovery, views_for
from imn_world_model.errors import UserError
from imn_world_model.hardware import add_accelerator_option, limit_threads
from imn_world_model.learner import MAX_GRADIENT_NORM, Learner
from imn_world_model.pictures import write_pictures
from imn_world_model.preprocess import Crop
from imn_world_model.presets import PRESETS, preset
from imn_world_model.run import (
    CHECKPOINT,
    CONFIG,
    add_recognizer,
    kept_options,
    load_run,
    read_checkpoint,
    save_tensors,
    without_recognizer,
    write_run,
)
from imn_world_model.trainer import lightning_options

USUAL_PRESET = 'clips'
TRAIN, VALIDATION = 0, 1
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

    def train_dataloader(self) -> DataLoader:
        """:return: the batches of all steps that are left."""
        train, trainer = self.config.train, self.trainer
        assert trainer is not None
        batches = Batches(self.images, self.clip, self.config, self.labels,
                          trainer.global_rank, trainer.world_size, self.views)
        steps = RemainingSteps(trainer, train.steps)
        return DataLoader(batches, sampler=steps, batch_size=None, num_workers=train.workers)

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
        callbacks.append(TQDMProgressBar())
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


def main(arguments: list[str] | None = None) -> None:
    """Command line of training."""
    parser = argparse.ArgumentParser(prog='imn_world_model.train', description=__doc__)
    parser.add_argument('--data', nargs='+', type=Path, metavar='PATH',
                        help='3Dshapes .h5, rosbag2 folder, .mcap, .db3, video, image folder, '
                             'or a folder with any mix of them (--resume: default as before)')
    parser.add_argument('--preset', help=f'one of {", ".join(PRESETS)} (default: {USUAL_PRESET})')
    parser.add_argument('--config', type=Path, help='a config.yaml in place of a preset')
    parser.add_argument('--set', nargs='+', default=[], metavar='SECTION.KEY=VALUE',
                        help='change single values, such as train.steps=1000')
    parser.add_argument('--out', type=Path, default=Path('runs'), metavar='DIR',
                        help='where run folders go: the run is DIR/NAME')
    parser.add_argument('--name', help='name of the run folder (default: the preset and seed)')
    parser.add_argument('--resume', action='store_true',
                        help='go on from the last checkpoint of the run folder, with its '
                             'configuration, data and data options')
    parser.add_argument('--topics', nargs='+', default=[], metavar='GLOB',
                        help='image topics to use (default: all)')
    parser.add_argument('--crop', choices=('center', 'none'),
                        help='cut the centre square before resizing (default), or squeeze the '
                             'whole image')
    parser.add_argument('--roi', nargs=4, type=int, metavar=('X', 'Y', 'WIDTH', 'HEIGHT'),
                        help='region of interest in source pixels, cut first')
    parser.add_argument('--boxes', metavar='TOPIC',
                        help='cut out objects: topic of JSON strings with stamp and box (x, y, '
                             'width, height in pixels)')
    parser.add_argument('--regions', choices=('none', 'auto'),
                        help='cut out objects: auto takes what differs from the background of a '
                             'camera that stands still')
    parser.add_argument('--gap', type=float,
                        help='seconds without a frame that end a clip')
    parser.add_argument('--scene-change', type=float,
                        help='grey levels between two frames that end a clip')
    parser.add_argument('--max-clip', type=int,
                        help='frames after which a clip ends anyway')
    parser.add_argument('--still', type=float,
                        help='grey levels of change below which frames are thinned')
    parser.add_argument('--sequences', choices=MODES,
                        help='images of a folder that are one take: by their numbers or times '
                             '(auto), all of a folder, or none')
    parser.add_argument('--label', help='label that the ID classifier learns (preset '
                                        'id_classifier only; default: shape)')
    add_accelerator_option(parser)
    parser.add_argument('--devices', type=int, default=1, help='processes on each machine')
    parser.add_argument('--nodes', type=int, default=1, help='machines')
    parser.add_argument('--quiet', action='store_true', help='no progress bar')
    options = parser.parse_args(arguments)
    limit_threads()
    if options.quiet:
        logging.getLogger('lightning.pytorch').setLevel(logging.WARNING)
    # Lightning's advice on worker counts and metric names is for its developers.
    warnings.filterwarnings('ignore', module='lightning')

    if not (options.data or options.resume):
        parser.error('the following arguments are required: --data')
    start = (load_config(options.config) if options.config
             else preset(options.preset or USUAL_PRESET))
    config = override(start, options.set)
    name = options.name
    if name is None:
        name = f'{options.preset or USUAL_PRESET}-seed{config.train.seed}'
    elif name in ('', '.', '..') or '/' in name:
        raise UserError(f"--name is '{name}'; it names a folder in --out, and has no /")
    folder = options.out / name
    kept: dict[str, Any] = {'start': digest(start)}
    if options.resume:
        before = interrupted(folder, options.set, options)
        config, data_options, kept = before.config, before.data_options, before.data
        named = options.config or options.preset
        if named and kept.get('start', digest(start)) != digest(start):
            print(f'{folder} did not begin with {named}; it goes on with its own {CONFIG}',
                  file=sys.stderr)
    else:
        refuse_if_done(folder)
        data_options = frame_options(options, DataOptions(
            size=config.model.side,
            crop=Crop(background=config.model.background, turn=config.model.turn == 'level')))
    refuse_if_held(folder)
    lightning_options(options.accelerator, options.devices, options.nodes, config.train.precision)
    paths = options.data or [Path(path) for path in kept['paths']]
    frames = load_frames(paths, data_options, progress=not options.quiet)
    for note in frames.notes:
        print(note, file=sys.stderr)
    if kept.get('content_hash', frames.content_hash) != frames.content_hash:
        raise UserError(f'{folder} was trained on other data, or on files in another order; '
                        f'leave --data out to read {", ".join(kept["paths"])}, or train a new run')
    label = options.label or kept.get('label', 'shape')
    data = kept | {'paths': [str(path) for path in paths], 'options': kept_options(data_options),
                   'content_hash': frames.content_hash, 'num_frames': len(frames.images),
                   'num_labels': 0}
    if config.loss.classifier_weight > 0:
        if label not in frames.labels:
            raise UserError(f"the data has no label '{label}' for the ID classifier; "
                            f'it has {", ".join(frames.labels) or "none"}')
        unlabelled = int((frames.labels[label] < 0).sum())
        if unlabelled:
            raise UserError(f"{unlabelled} of {len(frames.images)} frames have no label "
                            f"'{label}'; the ID classifier needs one for each")
        data |= {'label': label, 'num_labels': int(frames.labels[label].max()) + 1}
    train(config, frames, folder, data, options.resume, options.accelerator, options.devices,
          options.nodes, progress=not options.quiet)
    print(f'trained {config.train.steps} steps; the run is in {folder}')


if __name__ == '__main__':
    run_cli(main)
