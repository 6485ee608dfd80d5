"""A run folder: what training writes and everything after it reads."""
import hashlib
import io
import json
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from imn_world_model.base.cli import atomic_path, write_whole
from imn_world_model.base.config import Config, load_config, save_config
from imn_world_model.base.errors import UserError
from imn_world_model.base.marks import CONFIG as CONFIG
from imn_world_model.base.marks import DATA as DATA
from imn_world_model.data.frames import DataOptions
from imn_world_model.data.regions import Regions
from imn_world_model.model.compact import halved_state
from imn_world_model.model.imn import IndependentModularNetwork
from imn_world_model.model.recognition import Recognizer
from imn_world_model.vision.preprocess import Crop

CHECKPOINT = 'checkpoints/last.ckpt'
DYNAMICS = 'dynamics'                  # folder in a run folder, see dynamics.py
# Of what a checkpoint means. 2: the decoder's layers end in SiLU; the weights of 1 fit, and would
# decode other pictures.
FORMAT = 2


@dataclass(frozen=True)
class Run:
    """
    A trained (or half-trained) model with its circumstances.

    :param path: the run folder.
    :param config: the resolved configuration.
    :param network: weights loaded, in evaluation mode, on the CPU.
    :param data_options: how recordings became frames. Reading them otherwise later would cut other
        clips and mix training frames into the test split.
    :param data_paths: where training read its data.
    :param data_hash: hash of the training data.
    :param step: optimiser steps done.
    """

    path: Path
    config: Config
    network: IndependentModularNetwork
    data_options: DataOptions
    data_paths: tuple[str, ...]
    data_hash: str
    step: int


def write_run(path: Path, config: Config, data: dict[str, Any]) -> None:
    """
    Start a run folder.

    :param path: the folder, made if missing.
    :param config: resolved configuration.
    :param data: ``paths``, ``options`` (:func:`kept_options`), ``content_hash``, ``num_labels``.
    """
    save_config(config, path / CONFIG)
    write_whole(path / DATA, json.dumps({'format': FORMAT} | data, indent=2).encode())


def find_run(path: Path) -> Path:
    """
    Take a run folder for what it is, and the folder that ``train --out`` was given for its run.

    :param path: a run folder, or a folder with one in it.
    :return: the run folder; ``path`` itself where no run is found.
    :raises UserError: when the folder holds several runs.
    """
    if (path / DATA).exists():
        return path
    runs = sorted(file.parent for file in path.glob(f'*/{DATA}')
                  if not file.parent.name.startswith('.'))
    if len(runs) > 1:
        raise UserError(f'{path} holds {len(runs)} runs; give one of '
                        f'{", ".join(map(str, runs))}')
    return runs[0] if runs else path


def read_data(path: Path) -> dict[str, Any]:
    """:return: what :func:`write_run` kept of the data."""
    try:
        data = json.loads((path / DATA).read_text())
    except (FileNotFoundError, json.JSONDecodeError) as error:
        raise UserError(f'{path} is not a run folder: {DATA} is missing or broken; '
                        'give the folder that train wrote, such as runs/NAME') from error
    if data.get('format') != FORMAT:
        raise UserError(f'{path} was trained by a version of imn_world_model with another network '
                        f'(format {data.get("format", 1)}, here {FORMAT}); train again, or use '
                        'that version')
    return data


def load_run(path: str | Path) -> Run:
    """
    Load a run's last checkpoint.

    :param path: the run folder, or a folder with one run in it.
    :raises UserError: when it is no run folder, has no checkpoint, or the checkpoint is broken.
    """
    path = find_run(Path(path))
    data = read_data(path)
    config = load_config(path / CONFIG)
    checkpoint = path / CHECKPOINT
    if not checkpoint.exists():
        raise UserError(f'{path} holds no checkpoint yet ({CHECKPOINT}); let train reach its '
                        'first one (train.checkpoint_every steps)')
    state = read_checkpoint(checkpoint)
    try:
        weights = {name.removeprefix('network.'): value
                   for name, value in state['state_dict'].items() if name.startswith('network.')}
        if config.train.naming_steps and not any('recognizer.' in name for name in weights):
            # Training has not come to it yet, or left it out.
            config = without_recognizer(config)
        network = IndependentModularNetwork(config.model, config.loss, data['num_labels'])
        network.load_state_dict(weights)
    except (RuntimeError, KeyError) as error:
        raise UserError(f'checkpoint {checkpoint} does not fit {CONFIG} beside it; '
                        'restore the run folder or train again') from error
    return Run(path, config, network.eval(), _data_options(data['options'], config),
               tuple(data['paths']), data['content_hash'], state['global_step'])


def without_recognizer(config: Config) -> Config:
    """:return: a configuration as it is before images take their names from clips."""
    return replace(config, model=replace(config.model, recognizer='none'),
                   train=replace(config.train, naming_steps=0))


def weights_hash(network: IndependentModularNetwork) -> str:
    """:return: tells a network's weights from others': which files belong together."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(name.encode() + value.numpy().tobytes())
    return digest.hexdigest()[:16]


def keep_for_evaluation(run: Run, folder: Path) -> None:
    """
    Copy what evaluation and export need of a run: a third of its size, no state to resume from.

    :param run: loaded.
    :param folder: to write; replaced when it is there.
    """
    with atomic_path(folder) as scratch:
        scratch.mkdir()
        for name in (CONFIG, DATA):
            shutil.copy(run.path / name, scratch)
        for metrics in sorted(run.path.glob('metrics*')):
            shutil.copytree(metrics, scratch / metrics.name)
        if (run.path / DYNAMICS).exists():
            shutil.copytree(run.path / DYNAMICS, scratch / DYNAMICS)
        (scratch / CHECKPOINT).parent.mkdir()
        state = halved_state(run.network.state_dict())
        weights = {f'network.{name}': value for name, value in state.items()}
        save_tensors({'state_dict': weights, 'global_step': run.step}, scratch / CHECKPOINT)
        if folder.exists():
            shutil.rmtree(folder)


def save_tensors(values: Any, path: Path) -> None:
    """
    Write what torch can save, whole or not at all; a full disk is an :class:`OSError`.

    :param values: nested dictionaries of tensors and numbers.
    :param path: the file.
    """
    buffer = io.BytesIO()
    torch.save(values, buffer)
    write_whole(path, buffer.getvalue())


def can_resume(path: Path) -> bool:
    """
    Tell whether training can go on from a run's checkpoint.

    :param path: the run folder; its checkpoint is there.
    :return: False for one that :func:`keep_for_evaluation` wrote.
    :raises UserError: when the checkpoint is broken.
    """
    return 'optimizer_states' in read_checkpoint(path / CHECKPOINT)


def add_recognizer(folder: Path, recognizer: Recognizer) -> None:
    """
    Add to a run what was learnt after its last step.

    :param folder: of the run; its checkpoint is there.
    """
    state = read_checkpoint(folder / CHECKPOINT)
    state['state_dict'] |= {f'network.recognizer.{name}': value
                            for name, value in recognizer.state_dict().items()}
    save_tensors(state, folder / CHECKPOINT)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """:return: what a checkpoint file holds; a :class:`UserError` names a broken one."""
    try:
        return torch.load(path, map_location='cpu', weights_only=True)
    # Damage shows in many ways: no archive, a torn one, no pickle.
    except (OSError, RuntimeError, EOFError, ValueError, LookupError, UnpicklingError) as error:
        raise UserError(f'checkpoint {path} cannot be read ({type(error).__name__}); '
                        'restore the file, or remove the run folder and train again') from error


def kept_options(options: DataOptions) -> dict[str, Any]:
    """:return: the options that decide on clips and splits, as what JSON can hold."""
    kept = {name: value for name, value in asdict(options).items()
            if name in ('topics', 'gap', 'scene_change', 'max_clip', 'still', 'fractions', 'seed',
                        'regions', 'sequences')}
    # What is left of a picture beyond this is the network's affair.
    return kept | {'crop': {'mode': options.crop.mode, 'roi': options.crop.roi}}


def _data_options(kept: dict[str, Any], config: Config) -> DataOptions:
    """:return: the options again, at the image size of the network."""
    roi = kept['crop']['roi']
    values = kept | {'crop': Crop(kept['crop']['mode'], tuple(roi) if roi else None,
                                  config.model.background, config.model.turn == 'level'),
                     'topics': tuple(kept['topics']), 'fractions': tuple(kept['fractions']),
                     'regions': Regions(**kept.get('regions', {})),
                     # Of a run that kept none: every image was a clip of its own.
                     'sequences': kept.get('sequences', 'none')}
    return DataOptions(size=config.model.side, **values)
