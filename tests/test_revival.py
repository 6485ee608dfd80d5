"""Idle coordinates are found, made anew, and nothing else is touched."""
from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from imn_world_model.base.config import ModelConfig
from imn_world_model.learning.learner import Learner
from imn_world_model.learning.presets import preset
from imn_world_model.learning.revival import NEW_LOGVAR, idle_coordinates, renew, standardize
from imn_world_model.model.modules import CompositionalModules

CONFIG = ModelConfig(image_size=32, num_modules=3, num_latents=2, matrix_size=6,
                     decoder_channels=(32, 16),
                     encoder_channels=(8, 8), encoder_features=16, basis_std=0.05)
IDLE = torch.tensor([[False, True], [False, False], [True, True]])


def test_idle_coordinates_tell_nothing_of_the_image() -> None:
    torch.manual_seed(0)
    mu, logvar = torch.zeros(50, 1, 3), torch.zeros(50, 1, 3)
    mu[:, 0, 1] = 0.2 * torch.randn(50)              # 0.02 nats
    mu[:, 0, 2], logvar[:, 0, 2] = torch.randn(50), -3.0
    assert idle_coordinates(mu, logvar).tolist() == [[True, True, False]]
    logvar[:, 0, 0] = -3.0                           # sure of a constant is not the prior
    assert idle_coordinates(mu, logvar).tolist() == [[False, True, False]]


def test_renew_rewrites_idle_coordinates_and_their_moments_alone() -> None:
    torch.manual_seed(1)
    modules = CompositionalModules(CONFIG)
    image = torch.rand(20, 3, 32, 32)
    optimizer = torch.optim.Adam(modules.parameters())
    mu, logvar, _ = modules.encode(image)
    (mu.square().sum() + logvar.sum() + modules.transform(mu).sum()).backward()
    optimizer.step()
    before, logvar_before, _ = modules.encode(image)
    basis = modules.basis.detach().clone()

    renew(modules, IDLE, CONFIG.basis_std, optimizer, torch.Generator().manual_seed(0))
    standardize(modules, IDLE, modules.encode(image)[0])

    mu, logvar, _ = modules.encode(image)
    assert torch.equal(mu[:, ~IDLE], before[:, ~IDLE])
    assert torch.equal(logvar[:, ~IDLE], logvar_before[:, ~IDLE])
    assert torch.equal(modules.basis[~IDLE], basis[~IDLE])
    assert torch.allclose(mu[:, IDLE].mean(0), torch.zeros(3), atol=1e-4)
    assert torch.allclose(mu[:, IDLE].std(0, correction=0), torch.ones(3), atol=1e-3)
    assert (logvar[:, IDLE] == NEW_LOGVAR).all()
    assert not torch.isclose(modules.basis[IDLE], basis[IDLE]).all((1, 2)).any()
    size = modules.basis[IDLE].std()
    assert 0.2 * CONFIG.basis_std < size < 0.8 * CONFIG.basis_std
    moments = optimizer.state[modules.basis]['exp_avg_sq']
    assert (moments[IDLE] == 0).all() and (moments[~IDLE] > 0).any()
    moments = optimizer.state[modules.coordinates.weight]['exp_avg_sq'].sum(1)       # (m, 2L)
    assert (moments[torch.cat((IDLE, IDLE), 1)] == 0).all()
    assert (moments[~torch.cat((IDLE, IDLE), 1)] > 0).all()


def test_learner_revives_when_due_and_until_restarts_end(monkeypatch: pytest.MonkeyPatch) -> None:
    config = preset('debug')
    config = replace(config, train=replace(config.train, steps=1000, all_modules_steps=100,
                                           revive_every=50, restart_until=0.3))
    learner = Learner(config)
    modules = learner.network.compositional
    optimizer = torch.optim.Adam(learner.parameters())
    monkeypatch.setattr(learner, 'optimizers', lambda use_pl_optimizer: optimizer)
    monkeypatch.setattr(learner, '_everyone', lambda value: value)
    image = torch.rand(32, 3, 32, 32)
    revived = []
    for step in range(0, 500, 25):
        with torch.no_grad():                        # the posterior is the prior
            modules.coordinates.weight.zero_()
            modules.coordinates.bias.zero_()
        learner._revive(image, step)
        mu, logvar, _ = modules.encode(image)
        if not idle_coordinates(mu, logvar).all():
            assert not idle_coordinates(mu, logvar).any()
            revived.append(step)
    assert revived == [150, 200, 250]


def test_learner_revives_alike_in_every_process(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(2)
    config = preset('debug')
    whole = Learner(config)                          # a new one's coordinates are all idle
    part = deepcopy(whole)
    image = torch.rand(32, 3, 32, 32) * torch.linspace(0.1, 1.0, 32)[:, None, None, None]
    others = iter((0, 1, 0))                         # the other process's mu, logvar, mu

    def everyone(value: torch.Tensor) -> torch.Tensor:
        return torch.cat((value, part.network.compositional.encode(image[16:])[next(others)]))

    for learner, gather in ((whole, lambda value: value), (part, everyone)):
        optimizer = torch.optim.Adam(learner.parameters())
        monkeypatch.setattr(learner, 'optimizers', lambda use_pl_optimizer, own=optimizer: own)
        monkeypatch.setattr(learner, '_everyone', gather)
    before = whole.network.compositional.basis.detach().clone()
    whole._revive(image, 20)
    part._revive(image[:16], 20)
    assert not torch.equal(whole.network.compositional.basis, before)
    for name, value in whole.network.state_dict().items():
        assert torch.allclose(part.network.state_dict()[name], value, atol=1e-5), name
