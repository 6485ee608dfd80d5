"""Files of half the size: rounded once, and from there on the same to the last bit."""
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from imn_world_model.base.config import Config, override, to_dict
from imn_world_model.data.frames import DataOptions
from imn_world_model.exporting.agreement import rounding_agreement
from imn_world_model.exporting.graph import export_onnx
from imn_world_model.exporting.restore import restore
from imn_world_model.exporting.shortlist import Shortlist, Sketch
from imn_world_model.learning.presets import preset
from imn_world_model.learning.run import (
    Run,
    keep_for_evaluation,
    kept_options,
    load_run,
    write_run,
)
from imn_world_model.model.compact import (
    LEAST_SIZE,
    fold_norms,
    halved_state,
    round_constants,
    round_weights,
)
from imn_world_model.model.familiarity import Familiarity
from imn_world_model.model.imn import IndependentModularNetwork
from imn_world_model.model.observe import observe
from imn_world_model.model.winner import exhaustive_winner

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
    same, found = rounding_agreement(network, images())
    assert 0.9 < same['identity'] <= 1.0 and same['identity_and_subset'] <= same['identity']
    # What was found is the rounded network's, and need not be searched for again.
    count = int(same['images'])
    assert np.array_equal(found.identity, observe(
        network, images()[:count], strategy=exhaustive_winner).identity)
    # Once rounded, nothing changes any more.
    assert rounding_agreement(network, images())[0]['identity_and_subset'] == 1.0
    with torch.no_grad():
        network.decoder.expand.weight.mul_(1e-7)               # below what float16 holds
    assert rounding_agreement(network, images())[0]['identity_and_subset'] < 1.0


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


def recognizing() -> tuple[Config, IndependentModularNetwork]:
    """:return: a network whose recognizer has normalised over batches."""
    # A first layer so large that it is not multiplied with the identities beforehand.
    config = override(CONFIG, ['model.recognizer=conv', 'model.decoder_hidden=256'])
    torch.manual_seed(1)
    network = IndependentModularNetwork(config.model, config.loss).eval()
    assert network.recognizer is not None
    for norm in network.recognizer.body.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            for value in (norm.running_var, norm.weight):
                torch.nn.init.uniform_(value, 0.5, 2.0)
            for value in (norm.running_mean, norm.bias):
                torch.nn.init.normal_(value)
    network.recognizer.freeze()
    return config, network


def test_norms_fold_into_convolutions_without_a_change_of_features() -> None:
    recognizer = recognizing()[1].recognizer
    assert recognizer is not None
    pixels = torch.from_numpy(images(8)).movedim(-1, 1) / 255.0
    before, weight = recognizer.features(pixels), recognizer.body[0].weight.clone()
    fold_norms(recognizer)
    assert not torch.allclose(recognizer.body[0].weight, weight, rtol=0.01)
    assert torch.allclose(recognizer.features(pixels), before, atol=1e-5)
    folded = recognizer.body[0].weight.clone()
    fold_norms(recognizer)                             # nothing is left to fold
    assert torch.equal(recognizer.body[0].weight, folded)


def test_every_large_number_of_a_rounded_model_is_stored_in_half_and_comes_back(
        tmp_path: Path) -> None:
    config, network = recognizing()
    round_weights(network)
    hidden, cells = network.decoder.expand.in_features, network.decoder.expand.out_features
    search = Shortlist(torch.arange(3), torch.randn(3 * 32 * 32, 8), torch.rand(3 * 32 * 32),
                       Sketch(torch.randn(hidden + 1, 8)), Sketch(torch.randn(cells + 1, 8)),
                       3, 2).rounded()
    pixels = torch.from_numpy(images()).movedim(-1, 1) / 255.0
    assert network.recognizer is not None
    with torch.no_grad():
        features = network.recognizer.features(pixels)
    n = config.model.num_identities
    familiar = Familiarity.fit(features, torch.arange(64) % n, features[:n])
    round_constants(familiar)
    file = tmp_path / 'model.onnx'
    described = json.dumps(to_dict(config) | {'crop': {'mode': 'center', 'roi': None}})
    metadata = {'imn_format_version': '1', 'name': 'x', 'labels': json.dumps(['x'] * n),
                'config': described, 'training_data_hash': '', 'novelty_threshold': '0',
                'temperature': '1', 'search': json.dumps(search.facts())}
    export_onnx(network, file, metadata, NO_IMAGES, search, familiarity=familiar)
    matrices = (n * 400, network.compositional.basis.numel())
    graph = onnx.load(file).graph
    assert not any(node.metadata_props or node.doc_string for node in graph.node)
    for item in graph.initializer:
        if item.data_type == onnx.TensorProto.FLOAT:
            size = int(np.prod(item.dims))
            assert size < LEAST_SIZE or size in matrices, item.name
    back = restore(file)
    assert isinstance(back.strategy, Shortlist) and back.familiarity is not None
    for ours, theirs in ((network, back.network), (search, back.strategy),
                         (familiar, back.familiarity)):
        state = theirs.state_dict()
        for name, value in ours.state_dict().items():
            assert state[name].dtype == value.dtype and torch.equal(state[name], value), name
