"""How a training begins: alone in its folder; anew, or with what an interrupted one left."""
import argparse
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from lightning.pytorch.utilities import rank_zero_only

from imn_world_model.base.cli import FULL
from imn_world_model.base.config import Config, load_config, override, to_dict
from imn_world_model.base.errors import UserError
from imn_world_model.data.frames import DataOptions
from imn_world_model.data.options import frame_options
from imn_world_model.learning.discovery import FILE as DISCOVERY
from imn_world_model.learning.run import (
    CHECKPOINT,
    CONFIG,
    DATA,
    can_resume,
    load_run,
    read_data,
)

LOCK = '.lock'
# What training writes beside configuration and data.
WRITTEN = ('checkpoints', 'metrics*', 'tensorboard', 'pictures')
# Options of the command line that decide what a frame and a clip are.
FLAGS: dict[str, Callable[[DataOptions], Any]] = {
    '--topics': lambda options: options.topics,
    '--crop': lambda options: options.crop.mode,
    '--roi': lambda options: options.crop.roi,
    '--boxes': lambda options: options.regions.boxes,
    '--regions': lambda options: 'auto' if options.regions.auto else 'none',
    '--gap': lambda options: options.gap,
    '--scene-change': lambda options: options.scene_change,
    '--max-clip': lambda options: options.max_clip,
    '--still': lambda options: options.still,
    '--sequences': lambda options: options.sequences,
}


@dataclass(frozen=True)
class Interrupted:
    """
    What a run goes on with.

    :param config: its own, with the changes that ``--set`` asks for.
    :param data: see :func:`run.write_run`.
    :param data_options: how its recordings became frames.
    """

    config: Config
    data: dict[str, Any]
    data_options: DataOptions


def interrupted(folder: Path, settings: list[str], given: argparse.Namespace) -> Interrupted:
    """
    Look at a run that is to go on; nothing is written.

    :param folder: the run folder.
    :param settings: of ``--set``.
    :param given: the command line, see :func:`options.frame_options`; ``label`` too.
    :raises UserError: when the run cannot go on, or not with what is asked for.
    """
    saved = load_config(folder / CONFIG)
    config = override(saved, settings)
    data = read_data(folder)
    if not (folder / CHECKPOINT).exists():
        raise UserError(f'{folder} holds no checkpoint to resume from; train without --resume')
    if not can_resume(folder):
        raise UserError(f'{folder} was kept for evaluation, without the state of the '
                        'optimiser; train a new run')
    run = load_run(folder)                            # whole, and of these sizes
    for name, old in asdict(saved.model).items():
        new = getattr(config.model, name)
        if new != old:
            raise UserError(f'model.{name} of {folder} is {old} and cannot become {new}; leave '
                            'it out of --set, or train a new run')
    if (config.loss.classifier_weight > 0) != (saved.loss.classifier_weight > 0):
        raise UserError(f'loss.classifier_weight of {folder} is {saved.loss.classifier_weight}: '
                        'a run goes on with its classifier, or without; train a new run')
    if config.train.steps < run.step:
        raise UserError(f'{folder} has done {run.step} steps, train.steps is '
                        f'{config.train.steps}; give more with --set train.steps=NUMBER')
    if config.discovers and not (folder / DISCOVERY).exists():
        raise UserError(f'{folder / DISCOVERY} is missing; restore it, or train a new run')
    asked = frame_options(given, run.data_options)
    for flag, value in FLAGS.items():
        if value(asked) != value(run.data_options):
            raise UserError(f'{folder} was trained with {flag} {value(run.data_options)}, not '
                            f'{value(asked)}; leave {flag} out, or train a new run')
    if given.label is not None and given.label != data.get('label', given.label):
        raise UserError(f"{folder} was trained with --label {data['label']}, not {given.label}; "
                        'leave --label out, or train a new run')
    del data['format']
    return Interrupted(config, data, run.data_options)


def digest(config: Config) -> str:
    """:return: a short name for a configuration, to tell whether it is another one."""
    return hashlib.sha256(json.dumps(to_dict(config)).encode()).hexdigest()[:16]


def began_alike(folder: Path, config: Config, data: dict[str, Any]) -> bool:
    """
    Tell whether a start that came to nothing may lend this one what it found.

    :param folder: the run folder.
    :param config: as asked for.
    :param data: see :func:`run.write_run`; with ``asked_identities`` and
        ``asked_turn``.
    """
    try:
        before, other = read_data(folder), load_config(folder / CONFIG)
    except UserError:
        return False
    names = 'content_hash', 'asked_identities', 'asked_turn'
    # What was found takes the place of what was asked for.
    model = replace(config.model, num_identities=other.model.num_identities,
                    turn=other.model.turn)
    return (replace(config, model=model) == other
            and all(before.get(name) == data[name] for name in names)
            and json.dumps(before['options']) == json.dumps(data['options']))


def refuse_if_done(folder: Path) -> None:
    """:raises UserError: when a folder holds a run that a new one would replace."""
    if (folder / CHECKPOINT).exists() and is_leader():
        raise UserError(f'{folder} already holds a run; use --resume to go on or --name for a '
                        'new one')


def clear(folder: Path, keep_discovery: bool) -> None:
    """
    Remove what an earlier start left in a run folder, so that the two do not mix.

    :param folder: the run folder; another one is left alone.
    :param keep_discovery: whether the first stage's find stays.
    """
    if not (folder / DATA).exists() or not is_leader():
        return
    for pattern in (*WRITTEN, *(() if keep_discovery else (DISCOVERY,))):
        for left in folder.glob(pattern):
            shutil.rmtree(left) if left.is_dir() else left.unlink()


def is_leader() -> bool:
    """:return: whether this is the first of a training's processes, which alone begins a run."""
    node = os.environ.get('NODE_RANK', os.environ.get('GROUP_RANK', '0'))
    return getattr(rank_zero_only, 'rank', 0) == 0 and node == '0'


def refuse_if_held(folder: Path) -> None:
    """
    Look, before long work, whether another training writes to a folder.

    :param folder: the run folder, which need not exist.
    :raises UserError: when one does.
    """
    if (folder / LOCK).exists():
        with held(folder):
            pass


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """
    Keep other trainings out of a run folder.

    :param folder: the run folder, made if missing.
    :raises UserError: when another training writes to it.
    """
    if not is_leader():                               # its leader holds the folder
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise UserError(f'another training writes to {folder}; wait for its end, or give --name '
                        'for a run of its own') from error
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and (error.errno in FULL or error.filename):
            raise
        print(f'{folder} cannot be locked ({error}); nothing keeps a second training out of it',
              file=sys.stderr)
    try:
        yield
    finally:
        lock.release()
