"""The dynamics of a run as ONNX files beside its perception, checked against torch."""
import json
import logging
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from imn_world_model.base.cli import atomic_path
from imn_world_model.base.errors import UserError
from imn_world_model.model.imn import IndependentModularNetwork
from imn_world_model.prediction.flow import GroupFlow
from imn_world_model.prediction.transitions import decode
from imn_world_model.robot.world_model import (
    DRAW_INPUTS,
    DRAW_OUTPUTS,
    DYNAMICS_FORMAT,
    DYNAMICS_SUFFIX,
    MAX_STEP,
    MOVE_INPUTS,
    MOVE_OUTPUTS,
    PICTURE_SUFFIX,
)

OPSET = 18
# As for the perception's matrices: relative to the largest number; pictures in grey levels.
TOLERANCE, PICTURE_TOLERANCE = 1e-4, 1


class DeployedFlow(nn.Module):
    """
    One step of the flow, as :data:`world_model.MOVE_INPUTS` name its arguments.

    :param flow: trained.
    """

    def __init__(self, flow: GroupFlow) -> None:
        super().__init__()
        self.flow = flow

    def forward(self, mean: Tensor, variance: Tensor, identity: Tensor, action: Tensor,
                seconds: Tensor) -> tuple[Tensor, Tensor]:
        """See :meth:`flow.GroupFlow.step`; identity is (B,) int64."""
        numbers = torch.arange(self.flow.config.num_identities, device=identity.device)
        one_hot = (identity[:, None] == numbers).to(mean.dtype)
        return self.flow.step(mean, variance, one_hot, action, seconds)


class DeployedPicture(nn.Module):
    """
    What coordinates look like, as :data:`world_model.DRAW_INPUTS` name its arguments.

    :param network: the perception.
    """

    def __init__(self, network: IndependentModularNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, mean: Tensor, identity: Tensor, active: Tensor) -> Tensor:
        """:return: (B, H, W, 3) uint8."""
        shown = decode(self.network, mean, identity, active).clamp(0.0, 1.0) * 255.0
        return shown.round().to(torch.uint8).permute(0, 2, 3, 1)


def export_dynamics(network: IndependentModularNetwork, flow: GroupFlow, path: Path,
                    weights: str) -> tuple[Path, Path]:
    """
    Write FILE.dynamics.onnx and FILE.picture.onnx beside FILE.onnx, or raise.

    :param network: the perception, in evaluation mode.
    :param flow: its dynamics.
    :param path: FILE.onnx.
    :param weights: tells which perception they belong to.
    :return: the two files.
    :raises UserError: when ONNX Runtime's answers differ from torch's.
    """
    sizes = flow.config
    metadata = {'imn_dynamics_version': DYNAMICS_FORMAT, 'weights': weights,
                'action_names': json.dumps(sizes.action_names),
                'action_units': json.dumps(sizes.action_units),
                'trust': json.dumps(flow.trust.tolist())}
    move, draw = path.with_suffix(DYNAMICS_SUFFIX), path.with_suffix(PICTURE_SUFFIX)
    rng = np.random.default_rng(0)
    _export(DeployedFlow(flow).eval(), move, MOVE_INPUTS, MOVE_OUTPUTS, metadata,
            [_moves(rng, count, flow) for count in (3, 1, 16)])
    _export(DeployedPicture(network).eval(), draw, DRAW_INPUTS, DRAW_OUTPUTS, metadata,
            [_draws(rng, count, flow) for count in (3, 1, 16)])
    return move, draw


def _means(rng: np.random.Generator, count: int, flow: GroupFlow) -> np.ndarray:
    sizes = flow.config
    flat = flow.centre.numpy() + flow.spread.numpy() * rng.normal(size=(count, len(flow.centre)))
    return flat.reshape(count, sizes.num_modules, sizes.num_latents).astype(np.float32)


def _moves(rng: np.random.Generator, count: int, flow: GroupFlow) -> tuple[np.ndarray, ...]:
    """:return: random inputs of the flow."""
    mean = _means(rng, count, flow)
    action = rng.normal(size=(count, flow.config.num_actions)) * flow.action_scale.numpy()
    return (mean, rng.uniform(0.01, 1.0, mean.shape).astype(np.float32),
            rng.integers(0, flow.config.num_identities, count), action.astype(np.float32),
            rng.uniform(0.0, MAX_STEP, count).astype(np.float32))


def _draws(rng: np.random.Generator, count: int, flow: GroupFlow) -> tuple[np.ndarray, ...]:
    """:return: random inputs of the decoder."""
    return (_means(rng, count, flow), rng.integers(0, flow.config.num_identities, count),
            rng.random((count, flow.config.num_modules)) < 0.7)


@torch.no_grad()
def _export(module: nn.Module, path: Path, inputs: tuple[str, ...], outputs: tuple[str, ...],
            metadata: dict[str, str], examples: list[tuple[np.ndarray, ...]]) -> None:
    with atomic_path(path) as scratch:
        with warnings.catch_warnings():
            # The exporter's own deprecations and its remarks on operators left untranslated.
            warnings.simplefilter('ignore')
            logging.getLogger('torch.onnx').setLevel(logging.ERROR)
            batch = torch.export.Dim('batch', min=1)
            torch.onnx.export(
                module, tuple(map(torch.from_numpy, examples[0])), str(scratch),
                input_names=list(inputs), output_names=list(outputs), opset_version=OPSET,
                dynamic_shapes={name: {0: batch} for name in inputs},
                dynamo=True, external_data=False, verbose=False)
        model = onnx.load(scratch)
        for key, value in metadata.items():
            entry = model.metadata_props.add()
            entry.key, entry.value = key, value
        onnx.checker.check_model(model)
        onnx.save(model, scratch)
        session = onnxruntime.InferenceSession(str(scratch), providers=['CPUExecutionProvider'])
        for example in examples:
            theirs = session.run(list(outputs), dict(zip(inputs, example, strict=True)))
            ours = module(*map(torch.from_numpy, example))
            ours = ours if isinstance(ours, tuple) else (ours,)
            for name, one, other in zip(outputs, ours, theirs, strict=True):
                _compare(one.numpy(), other, f'{path.name}, {name}')


def _compare(ours: np.ndarray, theirs: np.ndarray, name: str) -> None:
    """:raises UserError: when two answers differ."""
    gap = np.abs(ours.astype(np.float64) - theirs).max()
    allowed = PICTURE_TOLERANCE if ours.dtype == np.uint8 else TOLERANCE * np.abs(ours).max()
    if ours.shape != theirs.shape or not gap <= allowed:
        raise UserError(f'export of {name} failed its check: torch and ONNX Runtime differ by '
                        f'{gap:.3g}, {allowed:.3g} are allowed')
