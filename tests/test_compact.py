"""Files of half the size: rounded once, and from there on the same to the last bit."""
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from imn_world_model.base.config import override
from imn_world_model.data.frames import DataOptions
from imn_world_model.exporting.agreement import rounding_agreement
from imn_world_model.exporting.graph import export_onnx
from imn_world_model.learning.presets import preset
from imn_world_model.learning.run import (
    Run,
    keep_for_evaluation,
    kept_options,
    load_run,
    write_run,
)
from imn_world_model.model.compact import LEAST_SIZE, halved_state, round_weights
from imn_world_model.model.imn import IndependentModularNetwork

NO_IMAGES = np.zeros((0, 1, 1, 3), np.uint8)
HALF = onnx.TensorProto.FLOAT16
# With matrices large enough that only their kind keeps them from being rounded.
CONFIG = override(preset('debug'), ['model.matrix_size=20'])


@pytest.fixture
def network() -> IndependentModularNetwork:
    """:return: the debug preset's, with answers that depend on the image."""
    torch.manual_seed(0)
    network = IndependentModularNetwork(CONFIG.model, CONFIG.loss).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return network


def images(count: int = 64) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def answers(path: Path) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    return session.run(None, {'image': images()})


def test_layers_are_rounded_and_matrices_are_not(network: IndependentModularNetwork) -> None:
    before = {name: value.clone() for name, value in network.named_parameters()}
    round_weights(network)
    for name, value in network.named_parameters():
        exact = torch.equal(value, before[name])
        matrix = name in ('identities.matrices', 'compositional.basis')
        assert exact == (matrix or value.numel() < LEAST_SIZE), name
        assert torch.allclose(value, before[name], rtol=2 ** -11, atol=2 ** -25), name


def test_the_rounding_is_compared_with_what_was(network: IndependentModularNetwork) -> None:
    same = rounding_agreement(network, images())
    assert 0.9 < same[0] <= 1.0 and same[1] <= same[0]
    # Once rounded, nothing changes any more.
    assert rounding_agreement(network, images()) == (1.0, 1.0)
    with torch.no_grad():
        network.decoder.expand.weight.mul_(1e-7)               # below what float16 holds
    assert rounding_agreement(network, images())[1] < 1.0


def test_a_file_of_rounded_weights_is_smaller_and_answers_the_same(
        network: IndependentModularNetwork, tmp_path: Path) -> None:
    round_weights(network)
    small, large = tmp_path / 'small.onnx', tmp_path / 'large.onnx'
    export_onnx(network, small, {}, NO_IMAGES)
    model = onnx.load(small)
    halves = [item for item in model.graph.initializer if item.data_type == HALF]
    assert sum(np.prod(item.dims) for item in halves) > 0.7 * sum(
        parameter.numel() for parameter in network.parameters())
    # The same without the detour.
    casts = {node.input[0]: node for node in model.graph.node if node.op_type == 'Cast'}
    for item in halves:
        cast = casts[item.name]
        item.CopyFrom(onnx.numpy_helper.from_array(
            onnx.numpy_helper.to_array(item).astype(np.float32), cast.output[0]))
        model.graph.node.remove(cast)
    onnx.save(model, large)
    halved_bytes = sum(2 * np.prod(item.dims) for item in halves)
    assert large.stat().st_size - small.stat().st_size > 0.9 * halved_bytes
    assert all(np.array_equal(one, other)
               for one, other in zip(answers(small), answers(large), strict=True))


def test_weights_that_were_not_rounded_are_stored_as_they_are(
        network: IndependentModularNetwork, tmp_path: Path) -> None:
    export_onnx(network, tmp_path / 'model.onnx', {}, NO_IMAGES)
    for item in onnx.load(tmp_path / 'model.onnx').graph.initializer:
        assert item.data_type != HALF, item.name


def test_a_kept_run_of_rounded_weights_is_smaller_and_loads_the_same(
        network: IndependentModularNetwork, tmp_path: Path) -> None:
    state = halved_state(network.state_dict())
    assert all(value.dtype != torch.float16 for value in state.values())
    round_weights(network)
    options = DataOptions(size=32)
    write_run(tmp_path / 'run', CONFIG, {'paths': [], 'options': kept_options(options),
                                         'content_hash': '', 'num_labels': 0})
    keep_for_evaluation(Run(tmp_path / 'run', CONFIG, network, options, (), '', 7),
                        tmp_path / 'kept')
    kept = load_run(tmp_path / 'kept').network.state_dict()
    for name, value in network.state_dict().items():
        assert kept[name].dtype == value.dtype and torch.equal(kept[name], value), name
    saved = torch.load(tmp_path / 'kept' / 'checkpoints' / 'last.ckpt', weights_only=True)
    assert any(value.dtype == torch.float16 for value in saved['state_dict'].values())
