"""
A network back from its ONNX file, for what learns on after training (:mod:`enroll`).

Most weights are in the graph under their own names. Those that the exporter folded into others are
kept beside them in the metadata, see :func:`folded_weights`.
"""
import base64
import io
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from imn_world_model.base.config import Config, from_dict
from imn_world_model.base.errors import UserError
from imn_world_model.exporting.compact_onnx import HALF
from imn_world_model.exporting.shortlist import Shortlist, Sketch
from imn_world_model.model.familiarity import Familiarity
from imn_world_model.model.imn import IndependentModularNetwork
from imn_world_model.model.winner import Strategy, exhaustive
from imn_world_model.robot.inference import ImnModel

# Key of metadata_props.
FOLDED = 'folded_weights'


@dataclass(frozen=True)
class Restored:
    """
    What an exported file was made of.

    :param network: in evaluation mode, on the CPU.
    :param strategy: how the winner is found.
    :param familiarity: of its identities; ``None`` without a recognizer.
    :param config: of the run; its seed and steps are training's.
    :param metadata: the file's ``metadata_props``.
    """

    network: IndependentModularNetwork
    strategy: Strategy
    familiarity: Familiarity | None
    config: Config
    metadata: dict[str, str]


def folded_weights(model: onnx.ModelProto, deployed: nn.Module) -> str:
    """
    What a graph does not hold under its own name.

    :param model: exported.
    :param deployed: what it was exported from.
    :return: a compressed ``.npz`` as base64.
    """
    graph = {item.name: item for item in model.graph.initializer}
    missing: dict[str, Any] = {}
    for name, value in _needed(deployed):
        item = graph.get(name)
        array = value.detach().cpu().numpy()
        if item is None or not np.array_equal(numpy_helper.to_array(item), array):
            missing[name] = array
    buffer = io.BytesIO()
    np.savez(buffer, **missing)
    return base64.b85encode(zlib.compress(buffer.getvalue(), 9)).decode()


def _needed(deployed: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """:return: the weights that cannot be had otherwise, by name."""
    recognizer: Any = deployed.get_submodule('network').recognizer
    given = recognizer is not None and recognizer.kind != 'conv'
    for name, value in deployed.state_dict().items():
        if given and name.startswith('network.recognizer.body.'):
            continue                                  # comes with its package
        if not name.startswith('network.classifier.'):     # of no use on a robot
            yield name, value


def restore(path: Path) -> Restored:
    """
    Read a file that export wrote.

    :param path: the ``.onnx`` file.
    :raises UserError: when it is missing or broken, or was written before files could be read
        back.
    """
    ImnModel(path, ['cpu'])                           # says what is wrong with a file
    model = onnx.load(path)
    metadata = {item.key: item.value for item in model.metadata_props}
    if FOLDED not in metadata:
        raise UserError(f'{path} was exported by a version that kept no weights to learn on '
                        'from; export its run again')
    values = {item.name.removesuffix(HALF): numpy_helper.to_array(item)
              for item in model.graph.initializer}
    with np.load(io.BytesIO(zlib.decompress(base64.b85decode(metadata[FOLDED])))) as folded:
        values |= dict(folded)
    weights = {name: torch.from_numpy(np.array(value)) for name, value in values.items()}
    described = json.loads(metadata['config'])
    config = from_dict({key: described[key] for key in ('model', 'loss', 'train')})
    try:
        network = _network(config, _below(weights, 'network.'))
        strategy = _strategy(json.loads(metadata['search']), _below(weights, 'strategy.'))
        known = _below(weights, 'familiarity.')
        familiarity = Familiarity(**known) if known else None
    except (RuntimeError, KeyError) as error:
        raise UserError(f'{path} does not hold all weights of its network ({error}); export its '
                        'run again') from error
    return Restored(network, strategy, familiarity, config, metadata)


def _below(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in weights.items()
            if name.startswith(prefix)}


def _network(config: Config, weights: dict[str, Tensor]) -> IndependentModularNetwork:
    network = IndependentModularNetwork(config.model, config.loss)
    own = network.state_dict()
    # A body that comes with its package is in the graph under the names of its parts, too.
    given = {name: value for name, value in own.items()
             if name.startswith('recognizer.body.') and config.model.recognizer != 'conv'}
    network.load_state_dict({
        name: value.float() if value.dtype == torch.float16 else value
        for name, value in weights.items()
        if name in own or name == 'recognizer.centre'} | given)
    return network.eval()


def _strategy(facts: dict[str, Any], weights: dict[str, Tensor]) -> Strategy:
    if 'decoded' not in facts:
        return exhaustive
    first, second = (Sketch(torch.cat((weights[f'{name}.readout'],
                                       weights[f'{name}.bias'][None])))
                     for name in ('first', 'second'))
    return Shortlist(weights['subsets'], weights['components'], weights['mean'], first, second,
                     facts['sketched_again'], facts['decoded'])
