"""The exported model against torch, and everything that may be wrong with a file or an image."""
import json
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from imn_world_model.base.errors import UserError
from imn_world_model.data.frames import DataOptions
from imn_world_model.exporting.calibration import Calibration, calibrate
from imn_world_model.exporting.deployed import DeployedNetwork
from imn_world_model.exporting.graph import TOLERANCE, export_onnx, run_metadata
from imn_world_model.exporting.search_fit import fit_shortlist
from imn_world_model.learning.presets import preset
from imn_world_model.learning.run import Run
from imn_world_model.model.imn import IndependentModularNetwork
from imn_world_model.model.winner import coarse_to_fine
from imn_world_model.robot.inference import OUTPUTS, ImnModel, ModelError
from imn_world_model.vision.preprocess import Crop

LABELS = ['cup', 'box', 'ball']


@pytest.fixture(scope='module')
def network() -> IndependentModularNetwork:
    torch.manual_seed(0)
    config = preset('debug')
    network = IndependentModularNetwork(config.model, config.loss).eval()
    with torch.no_grad():
        # Fresh weights answer every image alike; larger ones make answers depend on the image.
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return network


@pytest.fixture(scope='module')
def file(network: IndependentModularNetwork, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('export')
    options = DataOptions(crop=Crop('none', (8, 0, 48, 40)))
    run = Run(folder, preset('debug'), network, options, (), 'abc', 1)
    metadata = run_metadata(run, 'tiny', LABELS, Calibration(-1e9, 20.0))
    export_onnx(network, folder / 'tiny.onnx', metadata, np.zeros((0,)))
    return folder / 'tiny.onnx'


def images(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 256, (count, 32, 32, 3), dtype=np.uint8)


@pytest.mark.parametrize('count', [1, 2, 7, 32])
def test_predict_matches_torch_at_any_batch(network: IndependentModularNetwork, file: Path,
                                            count: int) -> None:
    winner = ImnModel(file, ['cpu']).predict(images(count))
    with torch.no_grad():
        expected = DeployedNetwork(network, coarse_to_fine)(torch.from_numpy(images(count)))
    for name, value in zip(OUTPUTS, expected, strict=True):
        got = getattr(winner, name)
        assert got.shape == tuple(value.shape), name
        if name == 'reconstruction':
            assert np.abs(got.astype(int) - value.numpy()).max() <= 1
        else:
            assert np.allclose(got, value.numpy(), rtol=1e-4, atol=1e-4), name
    assert winner.identity.dtype == np.int64 and winner.active.dtype == bool
    assert winner.score.dtype == np.float32


def test_answers_depend_on_the_image_and_rows_do_not_mix(file: Path) -> None:
    model = ImnModel(file, ['cpu'])
    together = model.predict(images(24))
    assert len(set(map(tuple, together.active.tolist()))) > 1 or len(set(together.identity)) > 1
    assert np.abs(together.latent_mean[0] - together.latent_mean[1]).max() > 1e-3
    for row in (0, 11, 23):
        alone = model.predict(images(24)[row:row + 1])
        assert alone.identity[0] == together.identity[row]
        assert np.allclose(alone.transform[0], together.transform[row], rtol=1e-4, atol=1e-5)


def test_transform_is_the_product_of_the_active_modules(file: Path) -> None:
    winner = ImnModel(file, ['cpu']).predict(images(16))
    for row in range(16):
        product = np.eye(6, dtype=np.float32)
        for k in range(3):
            if winner.active[row, k]:
                product = product @ winner.module_transforms[row, k]
        assert np.allclose(product, winner.transform[row], rtol=1e-4, atol=1e-5)


def test_metadata_reaches_the_user(file: Path) -> None:
    model = ImnModel(file, ['cpu'])
    assert (model.name, model.labels) == ('tiny', tuple(LABELS))
    assert (model.num_modules, model.num_identities, model.latent_dim, model.matrix_dim,
            model.image_size) == (3, 3, 2, 6, 32)
    assert model.provider == 'CPUExecutionProvider' and model.training_data_hash == 'abc'
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:40, 8:56] = 200
    assert (model.prepare(picture) == 200).all()     # region of interest, whole, squeezed


def test_confidence_and_novelty_follow_the_calibration(file: Path) -> None:
    model = ImnModel(file, ['cpu'])
    winner = model.predict(images(16))
    odds = np.exp((winner.identity_scores - winner.identity_scores.max(1, keepdims=True)) / 20.0)
    assert np.allclose(winner.confidence, odds.max(1) / odds.sum(1), rtol=1e-5)
    assert ((winner.confidence > 0) & (winner.confidence <= 1)).all() and not winner.novel.any()
    model.novelty_threshold = float(np.median(winner.score))
    assert 0 < model.predict(images(16)).novel.sum() < 16
    assert winner.label == [LABELS[j] for j in winner.identity]


def test_calibrate_flags_one_percent_and_scales_confidence(network: IndependentModularNetwork
                                                           ) -> None:
    deployed = DeployedNetwork(network, coarse_to_fine).eval()
    calibration = calibrate(deployed, images(400))
    with torch.no_grad():
        _, score, identity_scores, *_ = deployed(torch.from_numpy(images(400)))
    assert 2 <= int((score < calibration.novelty_threshold).sum()) <= 6
    best = identity_scores.topk(2, dim=1).values
    lead = (best[:, 0] - best[:, 1]).median() / calibration.temperature
    assert torch.sigmoid(lead).item() == pytest.approx(0.99, abs=1e-3)


def test_export_refuses_an_answer_that_differs(network: IndependentModularNetwork, tmp_path: Path,
                                               monkeypatch: pytest.MonkeyPatch) -> None:
    plain = DeployedNetwork.forward
    calls = []

    def shifted(self: DeployedNetwork, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        calls.append(1)
        outputs = list(plain(self, image))
        if not torch.compiler.is_exporting():        # torch answers otherwise than the file
            outputs[6] = outputs[6] + 0.01
        return tuple(outputs)

    monkeypatch.setattr(DeployedNetwork, 'forward', shifted)
    with pytest.raises(UserError, match='latent_mean differs'):
        export_onnx(network, tmp_path / 'bad.onnx', {}, np.zeros((0,)))
    assert calls and list(tmp_path.iterdir()) == []


def edited(file: Path, folder: Path, **changes: str | None) -> Path:
    model = onnx.load(file)
    kept = {entry.key: entry.value for entry in model.metadata_props} | changes
    del model.metadata_props[:]
    for key, value in kept.items():
        if value is not None:
            entry = model.metadata_props.add()
            entry.key, entry.value = key, value
    onnx.save(model, folder / 'edited.onnx')
    return folder / 'edited.onnx'


def test_files_that_are_no_model_name_the_cause(file: Path, tmp_path: Path) -> None:
    data = file.read_bytes()
    cases = {'does not exist': None, 'is empty': b'', 'not a readable ONNX': b'junk' * 100,
             'Git LFS pointer': b'version https://git-lfs.github.com/spec/v1\n',
             'not a readable': data[:len(data) // 2]}
    for cause, content in cases.items():
        path = tmp_path / 'x.onnx'
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(ModelError, match=cause):
            ImnModel(path, ['cpu'])
    with pytest.raises(ModelError, match='not of this project'):
        ImnModel(edited(file, tmp_path, imn_format_version=None), ['cpu'])
    with pytest.raises(ModelError, match='format version 9'):
        ImnModel(edited(file, tmp_path, imn_format_version='9'), ['cpu'])
    with pytest.raises(ModelError, match='broken metadata'):
        ImnModel(edited(file, tmp_path, config='{}'), ['cpu'])
    with pytest.raises(ModelError, match='broken metadata'):
        ImnModel(edited(file, tmp_path, temperature='warm'), ['cpu'])
    with pytest.raises(ModelError, match='2 labels for 3 identities'):
        ImnModel(edited(file, tmp_path, labels='["a", "b"]'), ['cpu'])
    node = onnx.helper.make_node('Identity', ['x'], ['y'])
    x, y = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in 'xy')
    foreign = onnx.helper.make_model(
        onnx.helper.make_graph([node], 'other', [x], [y]), ir_version=10,
        opset_imports=[onnx.helper.make_opsetid('', 18)])
    onnx.save(foreign, tmp_path / 'foreign.onnx')
    with pytest.raises(ModelError, match='not of this project'):
        ImnModel(tmp_path / 'foreign.onnx', ['cpu'])


@pytest.mark.parametrize('form', ['raw', 'list', 'half', 'double'])
def test_nan_among_any_weights_is_refused_at_load(file: Path, tmp_path: Path, form: str) -> None:
    count = len(onnx.load(file).graph.initializer)
    broken = 0
    for index in range(count) if form == 'raw' else [0]:
        model = onnx.load(file)
        weight = model.graph.initializer[index]
        if form != 'raw':
            # Not used by the graph, so that its type does not matter.
            weight = model.graph.initializer.add(name='extra', dims=[3])
            kind = {'half': np.float16, 'double': np.float64}.get(form, np.float32)
            weight.CopyFrom(onnx.numpy_helper.from_array(np.ones(3, kind), 'extra'))
        if weight.data_type not in (1, 10, 11):
            continue
        values = onnx.numpy_helper.to_array(weight).copy()
        values.flat[-1] = np.nan
        weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
        if form == 'list':
            weight.ClearField('raw_data')
            weight.float_data.extend(values)
        onnx.save(model, tmp_path / 'nan.onnx')
        with pytest.raises(ModelError, match='nan.onnx holds weights that are no numbers') as told:
            ImnModel(tmp_path / 'nan.onnx', ['cpu'])
        assert weight.name in str(told.value)
        broken += 1
    assert broken > (20 if form == 'raw' else 0)


def test_metadata_of_any_content_is_an_error_that_names_the_file(file: Path, tmp_path: Path
                                                                 ) -> None:
    model = ImnModel(file, ['cpu'])
    good = json.loads(onnx_metadata(file)['config'])
    sizes = [{**good, 'model': {**good['model'], key: value}}
             for key in ('image_size', 'num_modules', 'num_identities', 'num_latents',
                         'matrix_size') for value in (0, 7, '32', None, [1], 1e9)]
    crops = [{**good, 'crop': crop} for crop in
             (None, [], {}, {'mode': 'center'}, {'mode': 'zoom', 'roi': None},
              {'mode': 'none', 'roi': [1, 2]}, {'mode': 'none', 'roi': 'here'},
              {'mode': 'none', 'roi': [0, 0, 'a', 5]})]
    configs = [*sizes, *crops, {}, [], None, 3, 'x', {'model': []}, {'model': None}]
    cases = [('config', json.dumps(config)) for config in configs]
    cases += [('labels', text) for text in ('', '3', 'null', '{', '["a"]', '["a", 1, 2, 3]')]
    cases += [(key, text) for key in ('temperature', 'novelty_threshold')
              for text in ('', 'x', '[1]')]
    cases += [('temperature', text) for text in ('0', '-1', 'nan')]
    cases += [('config', 'not JSON'), ('imn_format_version', '')]
    for key, text in cases:
        with pytest.raises(UserError) as raised:
            ImnModel(edited(file, tmp_path, **{key: text}), ['cpu'])
        assert 'edited.onnx' in str(raised.value), (key, text)
    assert model.predict(images(1)).identity.shape == (1,)


def onnx_metadata(file: Path) -> dict[str, str]:
    return {entry.key: entry.value for entry in onnx.load(file).metadata_props}


@pytest.mark.parametrize('precision', ['float32', 'float16'])
def test_fitted_search_is_exported_in_either_precision(network: IndependentModularNetwork,
                                                       file: Path, tmp_path: Path,
                                                       precision: str) -> None:
    strategy = fit_shortlist(network, images(40, 1), progress=False)
    metadata = onnx_metadata(file)
    for key in set(metadata) - {'imn_format_version', 'name', 'labels', 'config', 'temperature',
                                'training_data_hash', 'novelty_threshold'}:
        del metadata[key]
    before = {name: value.clone() for name, value in network.state_dict().items()}
    export_onnx(network, tmp_path / 'm.onnx', metadata, images(16, 2), strategy, precision)
    for name, value in network.state_dict().items():      # halving is done on a copy
        assert torch.equal(value, before[name]) and value.dtype == before[name].dtype
    weights = onnx.load(tmp_path / 'm.onnx').graph.initializer
    halves = sum(item.data_type == onnx.TensorProto.FLOAT16 for item in weights)
    assert (halves >= 10) == (precision == 'float16')
    model = ImnModel(tmp_path / 'm.onnx', ['cpu'])
    tolerance = TOLERANCE[precision]
    for count in (1, 2, 7, 32):
        with torch.no_grad():
            expected = dict(zip(OUTPUTS, DeployedNetwork(network, strategy)(
                torch.from_numpy(images(count, 3))), strict=True))
        winner = model.predict(images(count, 3))
        for name, value in expected.items():          # the contract's types, whatever the inside
            assert getattr(winner, name).dtype == value.numpy().dtype, name
        same = winner.identity == expected['identity'].numpy()
        same &= (winner.active == expected['active'].numpy()).all(1)
        assert same.mean() >= (1.0 if precision == 'float32' else 0.9)
        for name in ('transform', 'module_transforms', 'latent_mean', 'latent_variance'):
            value = expected[name].numpy()
            error = np.abs(getattr(winner, name) - value)[same].max()
            assert error <= tolerance.matrix * np.abs(value).max(), name


def test_bit_flips_never_crash_the_process(file: Path, tmp_path: Path) -> None:
    # In a process of its own: a crash must show as one.
    program = """
import sys, numpy as np
from pathlib import Path
from imn_world_model.robot.inference import ImnModel
from imn_world_model.data.frames import DataOptions
from imn_world_model.base.errors import UserError
data, rng, fine = Path(sys.argv[1]).read_bytes(), np.random.default_rng(0), 0
for case in range(40):
    broken = bytearray(data)
    for _ in range(20):
        broken[int(rng.integers(min(len(data), 20000)))] ^= 1 << int(rng.integers(8))
    Path(sys.argv[2]).write_bytes(broken)
    try:
        ImnModel(sys.argv[2], ['cpu'])
        fine += 1
    except UserError:
        pass
print('survived', fine)
"""
    done = subprocess.run([sys.executable, '-c', program, str(file), str(tmp_path / 'b.onnx')],
                          cwd=Path(__file__).parents[1], capture_output=True, text=True,
                          timeout=120)
    assert done.returncode == 0 and 'survived' in done.stdout, done.stderr[-2000:]


@pytest.mark.parametrize('bad', [
    np.zeros((0, 32, 32, 3), np.uint8), np.zeros((1, 16, 16, 3), np.uint8),
    np.full((1, 32, 32, 3), np.nan, np.float32), np.zeros((32, 32, 3), np.uint8),
    np.zeros((1, 32, 32, 4), np.uint8)])
def test_images_of_another_form_are_refused(file: Path, bad: np.ndarray) -> None:
    with pytest.raises(UserError, match='uint8'):
        ImnModel(file, ['cpu']).predict(bad)


@pytest.mark.parametrize('bad', [np.zeros((0, 5, 3), np.uint8), np.zeros((9, 9), np.uint8),
                                 np.zeros((9, 9, 3), np.float32)])
def test_pictures_of_another_form_are_refused(file: Path, bad: np.ndarray) -> None:
    with pytest.raises(UserError, match='uint8'):
        ImnModel(file, ['cpu']).prepare(bad)


def test_region_outside_the_picture_is_named(file: Path) -> None:
    with pytest.raises(UserError, match='does not fit into an image of 20x20'):
        ImnModel(file, ['cpu']).prepare(np.zeros((20, 20, 3), np.uint8))


def test_a_requested_provider_that_is_absent_warns_and_falls_back(file: Path) -> None:
    with pytest.warns(UserWarning, match='CUDAExecutionProvider is not in this onnxruntime'):
        model = ImnModel(file, ['cuda'])
    assert model.provider == 'CPUExecutionProvider'
    with pytest.raises(UserError, match="unknown provider 'tpu'"):
        ImnModel(file, ['tpu'])


def test_threads_get_their_own_answers(file: Path) -> None:
    model = ImnModel(file, ['cpu'], threads=1)
    expected = [model.predict(images(2, seed)).latent_mean for seed in range(6)]
    wrong = []

    def work(seed: int) -> None:
        for _ in range(20):
            if not np.array_equal(model.predict(images(2, seed)).latent_mean, expected[seed]):
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_inference_and_infer_import_neither_torch_nor_ros() -> None:
    program = ('import json, sys, imn_world_model.infer; '
               'print(json.dumps([name for name in ("torch", "rclpy") if name in sys.modules]))')
    done = subprocess.run([sys.executable, '-c', program], cwd=Path(__file__).parents[1],
                          capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(done.stdout) == []
