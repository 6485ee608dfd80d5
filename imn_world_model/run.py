"""A run folder: what training writes and everything after it reads."""
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from imn_world_model.config import Config, load_config, save_config
from imn_world_model.errors import UserError
from imn_world_model.model import IndependentModularNetwork
from imn_world_model.preprocess import Crop

CONFIG = 'config.yaml'
DATA = 'data.json'
CHECKPOINT = 'checkpoints/last.ckpt'


@dataclass(frozen=True)
class Run:
    """
    A trained (or half-trained) model with its circumstances.

    :param path: the run folder.
    :param config: the resolved configuration.
    :param network: weights loaded, in evaluation mode, on the CPU.
    :param crop: how images were cut before they were resized.
    :param topics: globs of the image topics that were used; empty for all.
    :param data_paths: where training read its data.
    :param data_hash: hash of the training data.
    :param step: optimiser steps done.
    """

    path: Path
    config: Config
    network: IndependentModularNetwork
    crop: Crop
    topics: tuple[str, ...]
    data_paths: tuple[str, ...]
    data_hash: str
    step: int


def write_run(path: Path, config: Config, data: dict[str, Any]) -> None:
    """
    Start a run folder.

    :param path: the folder, made if missing.
    :param config: resolved configuration.
    :param data: ``paths``, ``crop``, ``content_hash``, ``notes``, ``num_labels`` ...
    """
    path.mkdir(parents=True, exist_ok=True)
    save_config(config, path / CONFIG)
    (path / DATA).write_text(json.dumps(data, indent=2))


def read_data(path: Path) -> dict[str, Any]:
    """:return: what :func:`write_run` kept of the data."""
    try:
        return json.loads((path / DATA).read_text())
    except (FileNotFoundError, json.JSONDecodeError) as error:
        raise UserError(f'{path} is not a run folder: {DATA} is missing or broken; '
                        'give the folder that train wrote, such as runs/NAME') from error


def load_run(path: str | Path) -> Run:
    """
    Load a run's last checkpoint.

    :param path: the run folder.
    :raises UserError: when it is no run folder, has no checkpoint, or the checkpoint is broken.
    """
    path = Path(path)
    data = read_data(path)
    config = load_config(path / CONFIG)
    checkpoint = path / CHECKPOINT
    if not checkpoint.exists():
        raise UserError(f'{path} holds no checkpoint yet ({CHECKPOINT}); let train reach its '
                        'first one (train.checkpoint_every steps)')
    try:
        state = torch.load(checkpoint, map_location='cpu', weights_only=True)
        weights = {name.removeprefix('network.'): value
                   for name, value in state['state_dict'].items() if name.startswith('network.')}
        network = IndependentModularNetwork(config.model, config.loss, data['num_labels'])
        network.load_state_dict(weights)
    except (OSError, RuntimeError, KeyError, EOFError, ValueError) as error:
        raise UserError(f'checkpoint {checkpoint} cannot be read ({type(error).__name__}); '
                        'train again or restore the file') from error
    crop = Crop(mode=data['crop']['mode'],
                roi=tuple(data['crop']['roi']) if data['crop']['roi'] else None)
    return Run(path, config, network.eval(), crop, tuple(data['topics']), tuple(data['paths']),
               data['content_hash'], state['global_step'])
