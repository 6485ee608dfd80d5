"""The schedule of identities: groups agree, use is balanced, restarts hit the right ones."""
from dataclasses import replace

import torch

from imn_world_model.base.config import TrainConfig
from imn_world_model.learning.identities import IdentityAssignment

CONFIG = TrainConfig(steps=1000, batch_size=8, share='clip', views=2, single_identity_steps=100,
                     balance=1.0, restart_every=50, restart_until=0.8)


def test_assign_gives_a_group_the_identity_that_is_best_for_all_its_views() -> None:
    assignment = IdentityAssignment(3, replace(CONFIG, balance=0.0))
    scores = torch.tensor([[0.0, -1.0, -9.0], [-5.0, -1.0, 0.0],     # first view alone: 0
                           [-9.0, -9.0, 0.0], [-9.0, -9.0, 0.0]])
    assert assignment.assign(scores, 200).tolist() == [1, 1, 2, 2]


def test_assign_balance_moves_near_ties_to_rare_identities_and_ends() -> None:
    assignment = IdentityAssignment(2, CONFIG)
    assignment.usage.copy_(torch.tensor([0.95, 0.05]))
    scores = torch.tensor([[0.0, -0.1], [0.0, -0.1], [0.0, -20.0], [0.0, -20.0]])
    assert assignment.assign(scores, 100).tolist()[:2] == [1, 1]
    assert assignment.assign(scores, 800).tolist() == [0, 0, 0, 0]   # plain argmax at the end


def test_rearrange_splits_the_one_identity_once() -> None:
    torch.manual_seed(0)
    assignment = IdentityAssignment(3, CONFIG)
    matrices = torch.nn.Parameter(torch.randn(3, 4, 4))
    first = matrices[0].clone()
    generator = torch.Generator().manual_seed(0)
    before = matrices.detach().clone()
    assignment.rearrange(matrices, None, 99, generator)
    assert torch.equal(matrices, before)
    assignment.rearrange(matrices, None, 100, generator)
    assert torch.equal(matrices[0], first)
    for j in (1, 2):
        distance = (matrices[j] - first).abs().max()
        assert 0 < distance < 0.2
    assert not torch.equal(matrices[1], matrices[2])


def test_rearrange_restarts_the_least_useful_beside_the_worst_served() -> None:
    assignment = IdentityAssignment(3, CONFIG)
    # Identity 0 leads clearly, 1 hardly (removing it costs least), 2 serves its images worst.
    scores = torch.tensor([[-1.0, -9.0, -9.0]] * 4 + [[-2.0, -1.9, -9.0]] * 2
                          + [[-90.0, -90.0, -50.0]] * 2)
    assignment.observe(scores, torch.tensor([0, 0, 0, 0, 1, 1, 2, 2]))
    matrices = torch.nn.Parameter(torch.arange(3.0)[:, None, None].expand(3, 4, 4).clone())
    optimizer = torch.optim.Adam([matrices])
    matrices.sum().backward()
    optimizer.step()
    generator = torch.Generator().manual_seed(0)
    assert assignment.rearrange(matrices, optimizer, 149, generator) is None
    assert assignment.rearrange(matrices, optimizer, 150, generator) == (1, 2)
    assert (matrices[1] - matrices[2]).abs().max() < 0.2
    moments = optimizer.state[matrices]['exp_avg']
    assert (moments[1] == 0).all() and (moments[0] != 0).all()
    assert assignment.wins.sum() == 0                # the account starts anew


def test_rearrange_leaves_identities_alone_at_the_end() -> None:
    assignment = IdentityAssignment(2, CONFIG)
    assignment.observe(torch.tensor([[0.0, -1.0]] * 4), torch.tensor([0, 0, 0, 0]))
    matrices = torch.nn.Parameter(torch.randn(2, 3, 3))
    assert assignment.rearrange(matrices, None, 850, torch.Generator()) is None


def test_assignment_state_is_saved() -> None:
    assignment = IdentityAssignment(2, CONFIG)
    assignment.observe(torch.tensor([[0.0, -1.0]] * 4), torch.tensor([0, 0, 0, 0]))
    copy = IdentityAssignment(2, CONFIG)
    copy.load_state_dict(assignment.state_dict())
    assert copy.usage[0] > 0.5 and torch.equal(copy.margin, assignment.margin)
