"""Section III as a whole: the winner against brute force, and who learns from it."""
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from imn_world_model.base.config import LossConfig, ModelConfig
from imn_world_model.learning.learner import Learner
from imn_world_model.learning.presets import preset
from imn_world_model.model.combine import candidate_transforms, subset_masks, subset_transforms
from imn_world_model.model.imn import IndependentModularNetwork
from imn_world_model.model.losses import (
    IdClassifier,
    group_feature_error,
    radius_variance,
    subspace_error,
)
from imn_world_model.model.score import algebraic_independence, choice_cost, image_loss
from imn_world_model.model.winner import coarse_to_fine, exhaustive, exhaustive_scores

CONFIG = ModelConfig(image_size=32, num_modules=3, num_identities=4, num_latents=2, matrix_size=5,
                     encoder_channels=(16, 32), decoder_channels=(32, 16),
                     encoder_features=32, decoder_hidden=32, basis_std=0.3, identity_std=0.5)
LOSS = LossConfig(image_weight=2.0, kl_weight=3.0, kl_weight_end=3.0, independence_weight=0.7)


@pytest.fixture
def network() -> IndependentModularNetwork:
    torch.manual_seed(0)
    network = IndependentModularNetwork(CONFIG, LOSS)
    network.subset_share.copy_(torch.rand(7) / 4)
    # Modules that tell images apart, so that winners differ.
    with torch.no_grad():
        network.compositional.coordinates.weight.mul_(10.0)
    return network


def images(count: int = 12) -> Tensor:
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def test_exhaustive_scores_match_a_loop_over_candidates(network: IndependentModularNetwork
                                                        ) -> None:
    image = images(3)
    encoding = network.encode(image)
    cand_T = candidate_transforms(subset_transforms(encoding.comp_T), network.identities())
    independence = algebraic_independence(network.compositional.basis, network.masks)
    choice = choice_cost(network.subset_share)
    kept = []

    def strategy(decoder, question):
        kept.append(exhaustive_scores(decoder, question, chunk=5))
        return exhaustive(decoder, question)

    answer = network.search(image, encoding, strategy)
    for b in range(3):
        best = {}
        for p, mask in enumerate(subset_masks(3)):
            for j in range(4):
                recon = network.decoder(cand_T[b, p * 4 + j])
                kl = sum(encoding.kl[b, k] for k in range(3) if mask[k])
                score = -(2.0 * image_loss(recon, image[b]) + 0.7 * independence[p]
                          + 3.0 * (kl + choice[p]))                        # Eq. (9)
                assert torch.isclose(kept[0][b, p, j], score, rtol=1e-4)
                if j not in best or score > best[j][0]:
                    best[j] = (score, p)
        for j in range(4):
            assert torch.isclose(answer.identity_scores[b, j], best[j][0], rtol=1e-4)
            assert int(answer.subset[b, j]) == best[j][1]


def test_forward_gives_the_argmax_and_its_own_reconstruction(network: IndependentModularNetwork
                                                             ) -> None:
    image = images()
    output = network(image, exhaustive)
    answer = network.search(image, output.encoding, exhaustive)
    assert torch.equal(output.identity, answer.identity_scores.argmax(1))
    assert torch.allclose(output.score, answer.identity_scores.amax(1))
    recon = network.decoder(output.transform @ network.identities()[output.identity])
    assert torch.allclose(output.recon, recon)
    assert torch.equal(output.active, network.masks[output.subset])


def test_search_with_all_modules_ranks_identities_like_the_whole_search(
        network: IndependentModularNetwork) -> None:
    image = images()
    encoding = network.encode(image)
    kept = []

    def strategy(decoder, question):
        kept.append(exhaustive_scores(decoder, question)[:, -1])
        return exhaustive(decoder, question)

    network.search(image, encoding, strategy)
    answer = network.search(image, encoding, exhaustive, all_active=True)
    # What all modules cost is the same whatever the identity, and left out.
    between = kept[0] - kept[0][:, :1]
    assert between.abs().min(0).values[1:].max() > 0
    assert torch.allclose(answer.identity_scores - answer.identity_scores[:, :1], between,
                          rtol=1e-3, atol=0.05)
    assert (answer.subset == len(network.masks) - 1).all()


def test_fast_search_scores_its_candidates_like_the_exhaustive_one(
        network: IndependentModularNetwork) -> None:
    image = images()
    encoding = network.encode(image)
    everything = []

    def strategy(decoder, question):
        everything.append(exhaustive_scores(decoder, question))
        return coarse_to_fine(decoder, question)

    answer = network.search(image, encoding, strategy)
    at = everything[0].gather(1, answer.subset[:, None]).squeeze(1)
    assert torch.allclose(answer.identity_scores, at, rtol=1e-4)


def gradients(network: IndependentModularNetwork, subset: int, identity: int) -> dict[str, float]:
    image = images()
    noise = torch.randn(12, 3, 2, generator=torch.Generator().manual_seed(2))
    encoding = network.encode(image, noise)
    half = torch.arange(12) % 2 == 0                 # half by group feature, half by exp
    terms, _ = network.loss(image, encoding, torch.full((12,), subset),
                            torch.full((12,), identity), 3.0, half)
    network.zero_grad()
    terms.total().mean().backward()
    result = {}
    for k in range(3):
        result[f'basis {k}'] = network.compositional.basis.grad[k].abs().max().item()
        result[f'module {k}'] = max(p.grad[k].abs().max().item() for name, p
                                    in network.compositional.named_parameters()
                                    if name != 'basis')
    for j in range(4):
        result[f'identity {j}'] = network.identities.matrices.grad[j].abs().max().item()
    return result


@pytest.mark.parametrize(('subset', 'winners'), [(0, {0}), (4, {0, 2}), (6, {0, 1, 2})])
@pytest.mark.parametrize('form', ['algebraic', 'hessian'])
def test_losers_get_exactly_no_gradient(network: IndependentModularNetwork, subset: int,
                                        winners: set[int], form: str) -> None:
    network.loss_config = replace(LOSS, independence=form)
    found = gradients(network, subset, identity=2)
    for k in range(3):
        for name in (f'module {k}', f'basis {k}'):
            assert (found[name] > 0) == (k in winners), (name, found)
    for j in range(4):
        assert (found[f'identity {j}'] > 0) == (j == 2)


def test_search_leaves_no_graph(network: IndependentModularNetwork) -> None:
    image = images(2)
    answer = network.search(image, network.encode(image), exhaustive)
    assert not answer.identity_scores.requires_grad


def test_loss_terms_are_those_of_equation_10(network: IndependentModularNetwork) -> None:
    image = images(4)
    encoding = network.encode(image)
    subset, identity = torch.tensor([2, 0, 6, 3]), torch.tensor([1, 0, 3, 1])
    terms, recon = network.loss(image, encoding, subset, identity, kl_weight=5.0)
    active = network.masks[subset]
    assert torch.allclose(terms.image, 2.0 * image_loss(recon, image))
    assert torch.allclose(terms.kl, 5.0 * torch.stack([
        encoding.kl[b, active[b]].sum() for b in range(4)]))
    independence = algebraic_independence(network.compositional.basis, network.masks)
    assert torch.allclose(terms.independence, 0.7 * independence[subset])
    # Group features of inactive modules cost nothing.
    error = group_feature_error(encoding.group_feature, encoding.comp_T, active)
    by_hand = (encoding.group_feature[1, 0] - encoding.comp_T[1, 0]).square().sum()
    assert torch.isclose(error[1], by_hand)
    assert (terms.extra > 0.1 * error).all()
    assert torch.allclose(terms.total(), terms.image + terms.independence + terms.kl
                          + terms.extra + terms.classifier)


def test_early_head_does_not_bend_what_it_reads(network: IndependentModularNetwork) -> None:
    network.loss_config = replace(LOSS, image_weight=0.0, group_weight=0.0,
                                  independence_weight=0.0)
    image = images(4)
    rows = torch.zeros(4, dtype=torch.long)
    terms, _ = network.loss(image, network.encode(image), rows + 6, rows, kl_weight=0.0)
    terms.total().sum().backward()
    assert network.decoder.coarse_head.weight.grad.abs().max() > 0
    assert network.decoder.first.weight.grad.abs().max() == 0


def test_observe_subsets_follows_the_winners(network: IndependentModularNetwork) -> None:
    for _ in range(300):
        network.observe_subsets(torch.tensor([6, 6, 6, 1]))
    assert network.subset_share[6].item() == pytest.approx(0.75, abs=0.02)
    assert network.subset_share.sum().item() == pytest.approx(1.0, abs=0.02)
    assert choice_cost(network.subset_share).argmin() == 6


def test_id_classifier_reads_the_identity_and_prices_labels() -> None:
    torch.manual_seed(0)
    classifier = IdClassifier(CONFIG, num_labels=3)
    identity_T = torch.randn(4, 5, 5, requires_grad=True)
    label = torch.tensor([2, 0])
    costs = classifier.identity_costs(identity_T, label)
    assert costs.shape == (2, 4)
    for b in range(2):
        for j in range(4):
            alone = classifier.label_loss(identity_T[j:j + 1], label[b:b + 1])
            assert torch.isclose(costs[b, j], alone[0])
    assert torch.equal(classifier.unchanged_loss(identity_T, identity_T), torch.zeros(4))
    assert (classifier.unchanged_loss(identity_T, identity_T + 1.0) > 0).all()


def test_fast_search_finds_the_winner_once_its_early_head_has_learned(
        network: IndependentModularNetwork) -> None:
    image = images(64)
    with torch.no_grad():
        encoding = network.encode(image)
        hidden = network.decoder.hidden_of_candidates(
            subset_transforms(encoding.comp_T), network.identities()).flatten(0, 2)
        target = torch.nn.functional.adaptive_avg_pool2d(network.decoder.image(hidden), 8)
        # What training converges to: the least-squares early head. In double precision: the
        # inputs, with dead hidden units, are not of full rank.
        inputs = torch.cat((hidden, torch.ones(len(hidden), 1)), dim=1).double()
        wanted = target.flatten(1).double()
        solution = torch.linalg.lstsq(inputs, wanted, driver='gelsd').solution
        network.decoder.coarse_head.weight.copy_(solution[:-1].T)
        network.decoder.coarse_head.bias.copy_(solution[-1])
        # Pictures that the network can make, so that there is a winner to find.
        image = network.decoder.image(hidden[::28]) + 0.02 * image
        encoding = network.encode(image)
    fast = network.search(image, encoding, coarse_to_fine)
    whole = network.search(image, encoding, exhaustive)
    assert len(set(whole.subset.flatten().tolist())) > 2     # no constant answer would do
    assert (fast.subset == whole.subset).float().mean() > 0.6
    assert (fast.identity_scores.argmax(1) == whole.identity_scores.argmax(1)).float().mean() > 0.9


def test_radius_variance_is_of_modules_that_turn_and_of_their_radius_alone() -> None:
    angle = torch.linspace(0, 2 * torch.pi, 401)[:-1]
    circle = torch.stack((angle.cos(), angle.sin()), dim=-1)             # (400, 2)
    spread = circle * (1 + 0.2 * (7 * angle).sin())[:, None]
    line = torch.stack((3 * angle.cos(), 0 * angle), dim=-1)
    dead = 0 * circle

    def value(*modules: torch.Tensor) -> float:
        return float(radius_variance(torch.stack(modules, dim=1)))

    assert value(circle, line, dead) < 1e-6
    assert value(3 * spread, line) == pytest.approx(0.02, rel=0.1)       # 0.2**2 / 2
    assert value(6 * spread, dead) == pytest.approx(0.02, rel=0.1)       # whatever the size
    assert value(0.1 * spread) < 0.001                                   # has just woken up
    assert value(spread[:, :1]) == 0.0


def test_one_image_has_no_radius_variance_and_half_precision_has() -> None:
    assert float(radius_variance(torch.ones(1, 3, 2))) == 0.0
    mu = torch.randn(64, 3, 2, generator=torch.Generator().manual_seed(0))
    with torch.autocast('cpu', torch.bfloat16):
        assert radius_variance(mu).dtype == torch.float32
    assert torch.equal(radius_variance(mu), radius_variance(mu.float()))


def test_structure_rises_and_fades_as_configured(monkeypatch) -> None:
    config = preset('debug')
    config = replace(config, loss=replace(config.loss, radius_weight=8.0, radius_from=100,
                                          subspace_weight=10.0),
                     train=replace(config.train, subspace_steps=40))
    learner = Learner(config)
    monkeypatch.setattr(learner, 'log', lambda *words, **options: None)
    mu = torch.randn(64, 3, 2, generator=torch.Generator().manual_seed(0))
    radius = float(radius_variance(mu))
    for step, weight in ((0, 0.0), (100, 0.0), (225, 4.0), (350, 8.0), (9000, 8.0)):
        assert float(learner._structure(mu, None, step)) == pytest.approx(weight * radius)
    guess = mu + 1.0                                                     # 6 coordinates off by 1
    for step, weight in ((0, 10.0), (20, 5.0), (39, 0.25)):
        assert float(learner._structure(mu, guess, step)) == pytest.approx(6 * weight, rel=1e-4)


def test_decoder_learns_faster_once_the_modules_have_settled() -> None:
    config = preset('debug')
    train = replace(config.train, steps=10_000, learning_rate=1e-3, decoder_rate=4.0,
                    all_modules_steps=1000)
    learner = Learner(replace(config, train=train))
    chosen = learner.configure_optimizers()
    others, decoder = chosen['optimizer'].param_groups
    assert {id(value) for value in decoder['params']} == {
        id(value) for value in learner.network.decoder.parameters()}
    assert len(others['params']) + len(decoder['params']) == len(list(learner.parameters()))
    rates = chosen['lr_scheduler']['scheduler'].lr_lambdas
    for step, times in ((0, 1.0), (1000, 1.0), (1250, 2.5), (1500, 4.0), (10_000, 4.0)):
        assert rates[1](step) == pytest.approx(times * rates[0](step))
    assert rates[0](0) == pytest.approx(0.01) and rates[0](10_000) == pytest.approx(0.02)


def test_subspace_error_asks_nothing_of_free_coordinates() -> None:
    mu = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]], requires_grad=True)
    guess = torch.tensor([[[0.0, 4.0], [torch.nan, torch.nan]]])
    error = subspace_error(mu, guess)
    assert error.tolist() == [5.0]
    error.sum().backward()
    assert mu.grad.tolist() == [[[2.0, -4.0], [0.0, 0.0]]]
