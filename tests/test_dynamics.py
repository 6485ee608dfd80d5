"""The flow: laws of the group, learning, going on after an interruption, the same in ONNX."""
import copy
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from imn_world_model.base.errors import UserError
from imn_world_model.data.frames import DataOptions, ImageStack
from imn_world_model.learning.presets import preset
from imn_world_model.learning.run import DYNAMICS, Run, weights_hash
from imn_world_model.model.imn import IndependentModularNetwork
from imn_world_model.prediction import flow as flow_module
from imn_world_model.prediction.accuracy import errors, last_image_error
from imn_world_model.prediction.fitting import (
    FitOptions,
    FlowPredictor,
    calibrate,
    cut,
    fit,
    fuse,
)
from imn_world_model.prediction.flow import FlowConfig, GroupFlow
from imn_world_model.prediction.graph import export_dynamics
from imn_world_model.prediction.imagination import world_model_of
from imn_world_model.prediction.rivals import coast, num_parameters, recurrent_like, stay
from imn_world_model.prediction.training import load_flow, train_dynamics
from imn_world_model.prediction.transitions import Transitions, run_lengths
from imn_world_model.robot import world_model
from imn_world_model.robot.inference import ImnModel, ModelError
from imn_world_model.robot.world_model import State, WorldModel

M, L, N, A = 2, 3, 3, 2
NAMES, UNITS = ('linear.x', 'angular.z'), ('m/s', 'rad/s')


@pytest.fixture
def flow() -> GroupFlow:
    torch.manual_seed(0)
    flow = GroupFlow(FlowConfig(M, L, N, NAMES, UNITS, hidden=16)).double()
    for value in flow.parameters():                   # nothing would move otherwise
        torch.nn.init.normal_(value, std=0.3)
    flow.action_scale.copy_(torch.tensor([0.5, 0.2]))
    return flow


def draw(batch: int = 5) -> tuple[torch.Tensor, ...]:
    """:return: mean, variance, identity, action."""
    rng = torch.Generator().manual_seed(1)
    return (torch.randn(batch, M, L, generator=rng, dtype=torch.float64),
            torch.rand(batch, M, L, generator=rng, dtype=torch.float64),
            torch.randint(0, N, (batch,), generator=rng),
            0.2 * torch.randn(batch, A, generator=rng, dtype=torch.float64))


def seconds(value: float, batch: int = 5) -> torch.Tensor:
    return torch.full((batch,), value, dtype=torch.float64)


def test_two_half_steps_make_one(flow: GroupFlow) -> None:
    mean, variance, identity, action = draw()
    whole = flow(mean, variance, identity, action, seconds(0.2))
    half = flow(mean, variance, identity, action, seconds(0.1))
    half = flow(*half, identity, action, seconds(0.1))
    assert (whole[0] - mean).abs().max() > 0.05       # it does move
    assert torch.allclose(whole[0], half[0], rtol=0, atol=1e-4)
    assert torch.allclose(whole[1], half[1], rtol=2e-3)
    # The solver's order: a step twice as long is wrong 2**5 times as much, two of them 2**4.
    gaps = []
    for time in (0.25, 0.125):
        one, _ = flow(mean, variance, identity, action, seconds(time))
        many, spread = mean, variance
        for _ in range(32):
            many, spread = flow(many, spread, identity, action, seconds(time / 32))
        gaps.append(float((one - many).detach().abs().max()))
    assert 16 < gaps[0] / gaps[1] < 64


def test_no_action_changes_nothing(flow: GroupFlow) -> None:
    mean, variance, identity, action = draw()
    for time in (0.1, 5.0):
        then = flow(mean, variance, identity, torch.zeros_like(action), seconds(time))
        assert (then[0] == mean).all() and (then[1] == variance).all()


def test_an_action_and_its_inverse_return(flow: GroupFlow) -> None:
    mean, variance, identity, action = draw()
    there, spread = flow(mean, variance, identity, action, seconds(0.5))
    back, spread = flow(there, spread, identity, -action, seconds(0.5))
    assert (there - mean).abs().max() > 0.1
    assert torch.allclose(back, mean, rtol=0, atol=1e-3)
    assert (spread > variance).all()                  # but what was done leaves doubt


def test_identities_move_differently_and_the_field_is_linear_in_the_action(
        flow: GroupFlow) -> None:
    mean, _, identity, action = draw()

    def rate(which: torch.Tensor, act: torch.Tensor) -> torch.Tensor:
        return flow.rates(mean, torch.nn.functional.one_hot(which, N).double(), act)

    assert not torch.allclose(rate(identity, action), rate((identity + 1) % N, action))
    assert torch.allclose(rate(identity, 3 * action), 3 * rate(identity, action))


def test_errors_that_last_make_the_deviation_grow_with_the_way(flow: GroupFlow) -> None:
    mean, variance, identity, action = draw()
    with torch.no_grad():
        flow.noises.weight.zero_()
        flow.noises.bias.fill_(-40.0)                 # nothing comes and goes
        flow.caution.fill_(1.5)
    grown = [(flow(mean, variance, identity, action, seconds(time))[1].sqrt() - variance.sqrt())
             for time in (0.3, 0.6)]
    way = action.abs() / flow.action_scale
    expected = 0.3 * 1.5 * way @ torch.nn.functional.softplus(flow.lasting).T
    assert torch.allclose(grown[0].flatten(1), expected, rtol=1e-3)
    assert torch.allclose(grown[1], 2 * grown[0], rtol=1e-3)


def test_a_long_time_is_divided_as_the_robot_does(flow: GroupFlow) -> None:
    assert flow_module.MAX_STEP == world_model.MAX_STEP
    assert [flow_module.num_parts(time) for time in (0.0, 0.25, 0.26, 1.0)] == [1, 1, 2, 4]


def test_fuse_matches_the_product_of_two_normals() -> None:
    mean, variance = fuse(*map(torch.tensor, (1.0, 0.5, 2.0, 0.25)))
    assert float(variance) == pytest.approx(1 / (1 / 0.5 + 1 / 0.25))
    assert float(mean) == pytest.approx(float(variance) * (1.0 / 0.5 + 2.0 / 0.25))


def toy(seed: int = 0, clips: int = 30, frames: int = 20, size: int = 8) -> Transitions:
    """:return: a world of which the truth is known: turning by what is commanded, a pendulum."""
    rng = np.random.default_rng(seed)
    mean = rng.normal(0, 0.1, (clips, frames, M, L))
    action = rng.normal(0, 1, (clips, frames, A)).astype(np.float32)
    angle = rng.uniform(-1, 1, clips)
    for k in range(frames):
        mean[:, k, 0, 0], mean[:, k, 0, 1] = np.cos(angle), np.sin(angle)
        angle = angle + 0.2 * action[:, k, 0]
    count = clips * frames
    clip = np.repeat(np.arange(clips), frames)
    ends = np.arange(count) % frames == frames - 1
    images = rng.integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    time = np.where(ends, np.nan, 0.2).astype(np.float32)
    return Transitions(
        torch.from_numpy(mean.reshape(count, M, L)).float(), torch.full((count, M, L), 0.01),
        torch.from_numpy(rng.integers(0, N, count)), torch.ones(count, M, dtype=torch.bool),
        torch.from_numpy(action.reshape(count, A)), torch.from_numpy(time),
        run_lengths(~ends, clip), clip, np.where(clip < clips - 8, 0, 2).astype(np.uint8),
        ImageStack([(images, np.arange(count))]), NAMES, UNITS, '/cmd_vel', ())


@pytest.fixture(scope='module')
def network() -> IndependentModularNetwork:
    torch.manual_seed(0)
    config = preset('debug')
    network = IndependentModularNetwork(config.model, config.loss).eval()
    with torch.no_grad():
        for value in network.parameters():
            value.add_(torch.randn_like(value) * 0.1)
    return network


def new_predictor(data: Transitions, seed: int = 0) -> FlowPredictor:
    torch.manual_seed(seed)
    flow = GroupFlow(FlowConfig(M, L, N, NAMES, UNITS, hidden=32))
    rows = data.starts(0, 1)
    flow.measure(data.mean[rows], data.action[rows])
    return FlowPredictor(flow)


OPTIONS = FitOptions(steps=150, batch=32, seen=2, horizon=8, rate=1e-2, image_weight=0.0)


def test_the_flow_learns_what_commands_do(network: IndependentModularNetwork) -> None:
    data = toy()
    predictor = new_predictor(data)
    fit(predictor, network, data, OPTIONS)
    starts = data.starts(2, 11)
    mean = {name: _coordinate_error(one, data, starts, *more) for name, one, more in (
        ('flow', predictor, ()), ('stay', stay, ()), ('coast', coast, ()),
        ('shuffled', predictor, (True,)))}
    assert mean['flow'] < 0.3 * mean['stay']
    assert mean['flow'] < 0.3 * mean['shuffled']
    assert mean['flow'] < 0.3 * mean['coast']


def test_trust_tells_how_much_of_an_error_is_new_in_an_image(
        network: IndependentModularNetwork) -> None:
    predictor = new_predictor(toy())
    fit(predictor, network, toy(), replace(OPTIONS, steps=400, horizon=3))
    # The turning pair of coordinates is exact; the others err as much as they are told to.
    assert (predictor.flow.trust[0, :2] < 0.5).all()
    assert ((predictor.flow.trust[1] > 0.6) & (predictor.flow.trust[1] < 1.5)).all()


def test_caution_comes_from_clips_that_training_did_not_see(
        network: IndependentModularNetwork) -> None:
    data = toy(clips=60)
    clip = data.clip
    # Training's clips stand still, the others move more than a flow says that has learnt nothing.
    data = replace(data, split=np.where(clip < 30, 0, np.where(clip < 45, 1, 2)).astype(np.uint8),
                   mean=data.mean * torch.from_numpy(clip >= 30)[:, None, None])
    predictor = new_predictor(toy())
    starts = data.starts(2, 9)
    before = _deviation(predictor, data, starts)
    calibrate(predictor, data, OPTIONS)
    after = _deviation(predictor, data, starts)
    assert before > 3 and after == pytest.approx(1.0, abs=0.3)
    fresh = new_predictor(data)
    calibrate(fresh, replace(data, split=data.split * 0), OPTIONS)
    assert (fresh.flow.caution == 1).all()            # nothing to tell it by


def _deviation(predictor: FlowPredictor, data: Transitions, starts: np.ndarray) -> float:
    """:return: squared errors of turning coordinates over the variance told for them."""
    window = cut(data, starts, 2, 8)
    with torch.no_grad():
        means, variances = predictor(window)
        total = variances + predictor.noise(window)[:, 2:]
    return float(((means - window.mean[:, 2:]).square() / total)[:, :, 0, :2].mean())


def _coordinate_error(predictor, data: Transitions, starts: np.ndarray,
                      shuffled: bool = False) -> float:
    window = cut(data, starts, 2, 10)
    if shuffled:
        window = replace(window, action=window.action.roll(len(starts) // 2, 0))
    with torch.no_grad():
        means, _ = predictor(window)
    return float((means - window.mean[:, 2:])[:, 9, 0].square().sum(-1).mean())


def test_fitting_goes_on_as_if_it_had_not_stopped(network: IndependentModularNetwork) -> None:
    data, states = toy(), {}
    options = FitOptions(steps=6, batch=8, seen=2, horizon=4, image_weight=0.0)
    whole = new_predictor(data)
    fit(whole, network, data, options, every=3,
        save=lambda step, state: states.update({step: copy.deepcopy(state)}))
    assert sorted(states) == [3, 6]
    rest = new_predictor(data, seed=7)
    log = fit(rest, network, data, options, state=states[3])
    for one, other in zip(whole.state_dict().values(), rest.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    assert log[-1]['step'] == 6


def test_the_recurrent_rival_has_as_many_parameters() -> None:
    data = toy(clips=10)
    flow = new_predictor(data)
    rival = recurrent_like(flow, N, data.mean, data.action, 0)
    assert num_parameters(rival) == pytest.approx(num_parameters(flow), rel=0.05)


def test_coasting_follows_a_line_and_staying_stays() -> None:
    data = toy(clips=10)
    line = torch.arange(len(data.mean)).float()[:, None, None] * torch.ones(M, L)
    data = replace(data, mean=line)
    window = cut(data, data.starts(0, 9), 4, 6)
    assert torch.allclose(coast(window)[0], window.mean[:, 4:], atol=1e-3)
    assert (stay(window)[0] == window.mean[:, 3:4]).all()


def a_run(path: Path, network: IndependentModularNetwork) -> Run:
    path.mkdir(exist_ok=True)
    return Run(path, preset('debug'), network, DataOptions(size=32), (), 'abc', 1)


def small(network: IndependentModularNetwork) -> Transitions:
    """:return: the toy with the network's sizes, as many modules and pixels."""
    m, num_latents = network.config.num_modules, network.config.num_latents
    data = toy(clips=6, size=32, frames=12)
    mean = torch.zeros(len(data.mean), m, num_latents)
    mean[:, :M, :2] = data.mean[:, :, :2]
    return replace(data, mean=mean, variance=torch.full_like(mean, 0.01),
                   identity=data.identity % network.config.num_identities,
                   active=torch.ones(len(mean), m, dtype=torch.bool),
                   split=(data.clip > 3).astype(np.uint8) * 2)


@pytest.fixture(scope='module')
def trained(network: IndependentModularNetwork, tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = a_run(tmp_path_factory.mktemp('runs') / 'debug', network)
    train_dynamics(run, small(network), FitOptions(steps=3, batch=4, seen=2, horizon=3),
                   hidden=8, progress=False)
    flow = load_flow(run)
    return run if flow.config.action_names == NAMES else None


def test_pictures_reach_the_loss_and_errors_are_measured(trained: Run) -> None:
    data = small(trained.network)
    flow = FlowPredictor(load_flow(trained))
    starts = data.starts(2, 5)
    judged = errors(flow, trained.network, data, starts, 2, 4)
    assert judged.image.shape == (4,) and (judged.image > 0).all()
    assert np.isfinite(judged.deviation).all()
    still = last_image_error(trained.network, data, starts, 2, 4)
    # Noise beside noise: the variance of two uniform draws.
    assert still == pytest.approx(2 / 12, rel=0.1)


def test_exported_dynamics_match_torch(trained: Run, tiny_model: Path) -> None:
    network, path = trained.network, trained.path / 'model.onnx'
    shutil.copy(tiny_model, path)
    # The same recipe and seed made both.
    assert ImnModel(path, ['cpu']).weights_hash == weights_hash(network)
    flow = load_flow(trained)
    with torch.no_grad():
        flow.fields.weight.normal_(std=0.5)           # three steps have learnt little
    export_dynamics(network, flow, path, weights_hash(network))
    ours, theirs = world_model_of(trained, flow), WorldModel.load(path)
    assert theirs.action_names == NAMES and theirs.action_units == UNITS
    images = np.random.default_rng(0).integers(1, 256, (3, 32, 32, 3), dtype=np.uint8)
    states = [model.observe(None, images) for model in (ours, theirs)]
    actions = np.random.default_rng(1).normal(size=(3, 4, A)).astype(np.float32)
    one, other = (model.imagine(states[0], actions, 0.6) for model in (ours, theirs))
    assert np.abs(one.mean - states[0].mean[:, None]).max() > 0.01
    assert one.mean == pytest.approx(other.mean, abs=1e-4)
    assert one.variance == pytest.approx(other.variance, rel=1e-3)
    assert np.abs(one.picture.astype(int) - other.picture).max() <= 1
    assert one.picture.shape == (3, 4, 32, 32, 3)
    # Files of another model are refused.
    export_dynamics(network, flow, path, 'another')
    with pytest.raises(ModelError, match='does not belong'):
        WorldModel.load(path)
    path.with_suffix('.dynamics.onnx').unlink()
    with pytest.raises(ModelError, match='train it with python -m imn_world_model.dynamics'):
        WorldModel.load(path)


def test_observing_corrects_refuses_and_believes_at_last(trained: Run) -> None:
    model = world_model_of(trained)
    images = np.random.default_rng(0).integers(1, 256, (1, 32, 32, 3), dtype=np.uint8)
    state = model.observe(None, images)
    again = model.observe(state, images)
    assert again.mean == pytest.approx(state.mean) and (again.variance < state.variance).all()
    far = State(state.identity, state.active, state.mean + 30.0, state.variance, state.doubts)
    first = model.observe(far, images)
    assert first.doubts == 1 and (first.mean == far.mean).all()
    assert model.observe(first, images).mean == pytest.approx(state.mean)
    with pytest.raises(UserError, match='an action has 2 numbers'):
        model.predict(state, np.zeros(3), 0.1)
    with pytest.raises(UserError, match='the past cannot'):
        model.predict(state, np.zeros(2), -0.1)


def test_damaged_dynamics_are_one_line(trained: Run, tmp_path: Path) -> None:
    other = a_run(tmp_path / 'copy', trained.network)
    with pytest.raises(UserError, match='holds no dynamics; train it with'):
        load_flow(other)
    shutil.copytree(trained.path / DYNAMICS, other.path / DYNAMICS)
    sizes = other.path / DYNAMICS / 'dynamics.json'
    told = json.loads(sizes.read_text())
    told['flow']['hidden'] = 9
    sizes.write_text(json.dumps(told))
    with pytest.raises(UserError, match='do not fit each other'):
        load_flow(other)
    (other.path / DYNAMICS / 'last.pt').write_bytes(b'torn')
    with pytest.raises(UserError, match='cannot be read'):
        load_flow(other)
