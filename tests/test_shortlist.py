"""The deployed search against the exhaustive one."""
from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import Tensor

from imn_world_model.evaluate import search_agreement
from imn_world_model.exporting import search_fit
from imn_world_model.exporting.search_fit import fit_shortlist
from imn_world_model.exporting.shortlist import Shortlist, Sketch
from imn_world_model.learning.presets import preset
from imn_world_model.model.decoder import Decoder
from imn_world_model.model.imn import IndependentModularNetwork
from imn_world_model.model.winner import Answer, Question, coarse_to_fine, exhaustive_scores


def images(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 256, (count, 32, 32, 3), dtype=np.uint8)


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
def fitted(network: IndependentModularNetwork) -> Shortlist:
    return fit_shortlist(network, images(120, seed=0), progress=False)


def asked(network: IndependentModularNetwork, pixels: np.ndarray) -> Question:
    image = torch.from_numpy(pixels).movedim(-1, 1).float() / 255.0
    kept: list[Question] = []

    def keep(_: Decoder, question: Question) -> Answer:
        kept.append(question)
        zeros = torch.zeros(len(pixels), len(question.identity_T))
        return Answer(zeros, zeros.long())

    network.search(image, network.encode(image), keep)
    return kept[0]


@torch.no_grad()
def test_shortlist_finds_the_winner_on_images_it_was_not_fitted_to(
        network: IndependentModularNetwork, fitted: Shortlist) -> None:
    fresh = images(100, seed=1)
    found = search_agreement(network, fresh, fitted)
    assert found['identity'] >= 0.99 and found['identity_and_subset'] >= 0.97
    # The early head of training is not as good.
    rough = search_agreement(network, fresh, coarse_to_fine)
    assert rough['identity_and_subset'] < found['identity_and_subset']


@torch.no_grad()
def test_shortlist_with_every_candidate_matches_exhaustive(network: IndependentModularNetwork,
                                                           fitted: Shortlist) -> None:
    question = asked(network, images(9, seed=2))
    num_subsets = len(network.masks)
    whole = Shortlist(torch.arange(num_subsets), fitted.components, fitted.mean, fitted.first,
                       fitted.second, 1000, 1000)
    answer = whole(network.decoder, question)
    scores, subset = exhaustive_scores(network.decoder, question).max(dim=1)
    assert torch.allclose(answer.identity_scores, scores, rtol=1e-4)
    assert torch.equal(answer.subset, subset)


@torch.no_grad()
def test_shortlist_scores_every_identity_by_a_full_decode(network: IndependentModularNetwork,
                                                          fitted: Shortlist) -> None:
    question = asked(network, images(9, seed=3))
    narrow = Shortlist(fitted.subsets, fitted.components, fitted.mean, fitted.first,
                       fitted.second, 0, 0)
    answer = narrow(network.decoder, question)
    scores = exhaustive_scores(network.decoder, question)
    at = scores.gather(1, answer.subset[:, None]).squeeze(1)
    assert torch.allclose(answer.identity_scores, at, rtol=1e-4)
    assert torch.isin(answer.subset, fitted.subsets).all()


@torch.no_grad()
def test_shortlist_adds_the_price_that_takes_decoding(network: IndependentModularNetwork,
                                                      fitted: Shortlist) -> None:
    plain = asked(network, images(4, seed=4))

    def costs(subset: Tensor, identity: Tensor) -> Tensor:
        return torch.where(identity == 1, 1e6, 0.0)

    dear = Question(plain.image, plain.comp_T, plain.identity_T, plain.price, plain.image_weight,
                    costs)
    before, after = (fitted(network.decoder, question) for question in (plain, dear))
    assert (after.identity_scores[:, 1] < -9e5).all()
    assert torch.equal(after.identity_scores[:, [0, 2]], before.identity_scores[:, [0, 2]])


def test_sketch_measures_the_distance_of_pictures_in_its_components() -> None:
    torch.manual_seed(0)
    components = torch.linalg.qr(torch.randn(48, 5)).Q
    mean, features = torch.rand(48), torch.randn(2, 7, 6)
    readout = torch.randn(7, 5)
    image = torch.rand(2, 3, 4, 4)
    wanted = (image.flatten(1) - mean) @ components
    got = Sketch(readout)(features, wanted)
    for b in range(2):
        for k in range(7):
            picture = mean + components @ (readout[:-1].T @ features[b, k] + readout[-1])
            inside = components @ (components.T @ (picture - image[b].flatten()))
            assert torch.isclose(got[b, k], inside.square().sum(), rtol=1e-4)


@torch.no_grad()
def test_subsets_looked_at_are_those_that_were_best(network: IndependentModularNetwork,
                                                    fitted: Shortlist) -> None:
    question = asked(network, images(120, seed=0))
    best = exhaustive_scores(network.decoder, question).argmax(1)
    assert fitted.subsets.tolist() == best.unique().tolist()
    assert len(fitted.subsets) < len(network.masks)


def test_effort_grows_only_as_far_as_agreement_asks(network: IndependentModularNetwork,
                                                    fitted: Shortlist,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    assert (fitted.num_second, fitted.num_full) in search_fit.EFFORTS
    monkeypatch.setattr(search_fit, 'EFFORTS', ((0, 0), (500, 500)))
    monkeypatch.setattr(search_fit, 'SAME_SUBSET', 0.0)
    monkeypatch.setattr(search_fit, 'FITTING', 1.0)
    sharp = fit_shortlist(network, images(3, seed=6), progress=False)
    monkeypatch.setattr(search_fit, 'SAME_SUBSET', 1.1)           # never enough
    full = fit_shortlist(network, images(3, seed=6), progress=False)
    assert full.num_full == 500 >= sharp.num_full
    assert fitted.facts()['decoded'] == fitted.num_full


@torch.no_grad()
def test_fit_knows_the_winners_of_its_images(network: IndependentModularNetwork,
                                             fitted: Shortlist) -> None:
    network = deepcopy(network)
    torch.manual_seed(4)
    network.identities.matrices += 0.3 * torch.randn_like(network.identities.matrices)
    question = asked(network, images(20, seed=7))
    scores = exhaustive_scores(network.decoder, question)                # (B, P, n)
    assert (scores.argmax(1) != scores.argmax(1)[:, :1]).any()  # not one subset for all identities
    expected = scores.flatten(1).argmax(1)
    n = scores.shape[2]
    every = Shortlist(torch.arange(len(network.masks)), fitted.components, fitted.mean,
                      fitted.first, fitted.second, search_fit.WIDE, search_fit.WIDE)
    for rough in (None, every):
        found = search_fit._decode(network.decoder, rough, question)
        assert (found.subset * n + found.identity == expected).float().mean() >= 0.95, rough
        # Where only some candidates were decoded nothing is said of identities that lost.
        good = scores.argmax(1).flatten() if rough is None else found.subset
        assert torch.equal(found.good, good)
    for told in (expected // n, expected % n):        # subsets, identities
        assert (told != told[0]).sum() >= 3
