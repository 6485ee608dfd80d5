"""Many identities: a search that looks at few of them, and a recognizer that names them."""
import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from imn_world_model.data.frames import DataOptions
from imn_world_model.evaluate import search_agreement
from imn_world_model.exporting.agreement import settled
from imn_world_model.exporting.calibration import Calibration
from imn_world_model.exporting.graph import export_onnx, run_metadata
from imn_world_model.exporting.search_fit import fit_shortlist
from imn_world_model.learning.identities import ClipMemory
from imn_world_model.learning.presets import preset
from imn_world_model.learning.run import Run
from imn_world_model.model.combine import subset_transforms
from imn_world_model.model.decoder import Decoder
from imn_world_model.model.imn import IndependentModularNetwork
from imn_world_model.model.winner import (
    MAX_IDENTITIES,
    MAX_SKETCHED,
    Answer,
    Question,
    coarse_errors,
    coarse_reading,
    coarse_to_fine,
    exhaustive,
    exhaustive_winner,
    outline,
    preselect,
    products,
)
from imn_world_model.robot.inference import OUTPUTS, ImnModel

N = 30
# Untrained decoders are wrong by thousands: the recognizer's word must count against that.
WEIGHT = 20_000.0


def images(count: int, seed: int) -> np.ndarray:
    """:return: (count, 32, 32, 3) uint8, smooth: a convolution tells noise from noise badly."""
    rng = np.random.default_rng(seed)
    small = rng.integers(1, 256, (count, 4, 4, 3), dtype=np.uint8)
    return small.repeat(8, 1).repeat(8, 2)


@pytest.fixture(scope='module')
def network() -> IndependentModularNetwork:
    torch.manual_seed(0)
    config = preset('debug')
    model = replace(config.model, num_identities=N, recognizer='conv', matrix_size=8,
                    recognizer_channels=(8, 16), recognizer_features=12)
    loss = replace(config.loss, recognition_weight=WEIGHT)
    network = IndependentModularNetwork(model, loss)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if not name.startswith('recognizer'):
                parameter.add_(torch.randn_like(parameter) * 0.1)
        for _ in range(20):                           # running means of the batch normalisation
            network.encode(torch.from_numpy(images(64, 9)).movedim(-1, 1).float() / 255)
        # Each identity looks like one of N images, and images do not look alike.
        network.eval()
        recognizer = network.recognizer
        assert recognizer is not None
        seen = torch.from_numpy(images(N, 8)).movedim(-1, 1).float() / 255
        recognizer.head.bias.copy_(-recognizer.head.weight @ recognizer.pooled(seen).mean(0))
        recognizer.write(network.identities.matrices, recognizer.features(seen))
    return network


@torch.no_grad()
def test_preselected_identities_hold_the_winner(network: IndependentModularNetwork) -> None:
    assert MAX_IDENTITIES < N
    fresh = images(60, seed=1)
    pixels = torch.from_numpy(fresh).movedim(-1, 1).float() / 255
    assert len(network(pixels, exhaustive).identity.unique()) > 8
    assert search_agreement(network, fresh, coarse_to_fine)['identity'] >= 0.85
    fitted = fit_shortlist(network, images(120, seed=0), progress=False)
    assert search_agreement(network, fresh, fitted)['identity'] >= 0.85


@torch.no_grad()
def test_identities_not_looked_at_never_win(network: IndependentModularNetwork) -> None:
    pixels = torch.from_numpy(images(20, seed=2)).movedim(-1, 1).float() / 255
    encoding = network.encode(pixels)
    fast = network.search(pixels, encoding, coarse_to_fine).identity_scores
    true = network.search(pixels, encoding, exhaustive).identity_scores
    winner = fast.argmax(1, keepdim=True)
    # The winner's score is one that a decode gave, no better than that of the best subset.
    assert (fast.gather(1, winner) <= true.gather(1, winner) * (1 - 1e-6) + 1e-2).all()
    assert torch.isfinite(fast).all()


@torch.no_grad()
def test_recognizer_speaks_in_the_score(network: IndependentModularNetwork) -> None:
    pixels = torch.from_numpy(images(8, seed=3)).movedim(-1, 1).float() / 255
    encoding = network.encode(pixels)
    with_it = network.search(pixels, encoding, exhaustive).identity_scores
    without = network.search(pixels, replace(encoding, evidence=None), exhaustive).identity_scores
    torch.testing.assert_close(with_it - without, WEIGHT * encoding.evidence, atol=0.5, rtol=1e-4)


def test_exported_file_matches_torch_with_a_recognizer(network: IndependentModularNetwork,
                                                       tmp_path: Path) -> None:
    strategy = fit_shortlist(network, images(60, seed=0), progress=False)
    config = replace(preset('debug'), model=network.config, loss=network.loss_config)
    run = Run(tmp_path, config, network, DataOptions(), (), 'abc', 1)
    metadata = run_metadata(run, 'many', [f'thing {j}' for j in range(N)], Calibration(-1e9, 20.0))
    export_onnx(network, tmp_path / 'many.onnx', metadata, images(16, 5), strategy)
    winner = ImnModel(tmp_path / 'many.onnx', ['cpu']).predict(images(7, seed=6))
    with torch.no_grad():
        expected = network(torch.from_numpy(images(7, seed=6)).movedim(-1, 1).float() / 255,
                           strategy)
    assert winner.identity_scores.shape == (7, N) and OUTPUTS[0] == 'identity'
    assert winner.identity.tolist() == expected.identity.tolist()
    np.testing.assert_allclose(winner.identity_scores, expected.identity_scores, rtol=1e-3)


def test_clip_memory_changes_over_only_in_the_long_run() -> None:
    memory = ClipMemory(3, 4)
    memory.begin(torch.tensor([0, 1, 2]), lead=10.0)
    assert memory.assign(torch.tensor([2, 0, 1])).tolist() == [2, 0, 1]
    scores = torch.tensor([[-30.0, -30.0, -30.0, 0.0]] * 2)
    clip = torch.tensor([1, 1])                       # two frames of clip 1 prefer identity 3
    memory.observe(clip, scores)
    assert memory.assign(torch.tensor([0, 1, 2])).tolist() == [0, 1, 2]
    for _ in range(20):
        memory.observe(clip, scores)
    assert memory.assign(torch.tensor([0, 1, 2])).tolist() == [0, 3, 2]


@torch.no_grad()
def test_far_off_pictures_leave_the_word_to_the_recognizer(
        network: IndependentModularNetwork) -> None:
    fresh = torch.from_numpy(images(40, seed=8)[:N]).movedim(-1, 1).float() / 255
    with_tail = copy.deepcopy(network)
    with_tail.loss_config = replace(network.loss_config, recognition_weight=20.0, image_tail=0.5)
    with_tail.image_level.fill_(50.0)
    without = copy.deepcopy(network)
    without.loss_config = replace(network.loss_config, recognition_weight=20.0)
    named = with_tail.encode(fresh).evidence
    assert named is not None
    right = [(one(fresh, exhaustive).identity == named.argmax(1)).float().mean()
             for one in (with_tail, without)]
    assert right[0] > 0.9 > right[1] + 0.3            # every picture is off by thousands
    near = torch.tensor([10.0, 11.0])
    question = Question(fresh, fresh, fresh, fresh, 1.0, image_scale=torch.tensor(1e6))
    torch.testing.assert_close(question.image_price(near), near, rtol=1e-4, atol=0)


@torch.no_grad()
def test_searches_agree_where_errors_count_by_their_logarithm(
        network: IndependentModularNetwork) -> None:
    tailed = copy.deepcopy(network)
    tailed.loss_config = replace(network.loss_config, recognition_weight=200.0, image_tail=0.5)
    tailed.image_level.fill_(50.0)
    shortlist = fit_shortlist(tailed, images(300, seed=4), progress=False)
    for strategy in (coarse_to_fine, shortlist):
        agreement = search_agreement(tailed, images(100, seed=5), strategy)
        assert agreement['identity'] >= 0.97, strategy


def test_level_of_errors_follows_training_and_is_kept(tmp_path: Path) -> None:
    config = preset('objects32')
    network = IndependentModularNetwork(replace(config.model, num_identities=3), config.loss)
    assert 'image_level' in network.state_dict()
    for _ in range(400):
        network.observe_errors(torch.tensor([30.0, 50.0]))
    assert 39 < float(network.image_level) < 50
    plain = preset('clips32')
    assert 'image_level' not in IndependentModularNetwork(plain.model, plain.loss).state_dict()


def asked(network: IndependentModularNetwork, pixels: torch.Tensor) -> Question:
    """:return: what a strategy is asked about images."""
    kept: list[Question] = []

    def keep(_: Decoder, question: Question) -> Answer:
        kept.append(question)
        zeros = torch.zeros(len(pixels), len(question.identity_T))
        return Answer(zeros, zeros.long())

    with torch.no_grad():
        network.search(pixels, network.encode(pixels), keep)
    return kept[0]


def with_identities(network: IndependentModularNetwork, count: int, spread: float
                    ) -> IndependentModularNetwork:
    """:return: a copy without a recognizer and with as many identities, about a unit matrix."""
    some = copy.deepcopy(network)
    some.recognizer = None
    u = network.config.matrix_size
    noise = torch.randn(count, u, u, generator=torch.Generator().manual_seed(3))
    some.identities.matrices = torch.nn.Parameter(torch.eye(u) + spread * noise)
    return some


@torch.no_grad()
def test_outline_matches_the_early_head_to_first_order(network: IndependentModularNetwork
                                                       ) -> None:
    pixels = torch.from_numpy(images(6, seed=7)).movedim(-1, 1).float() / 255
    errors = []
    for spread in (1e-3, 2e-3):
        some = with_identities(network, 20, spread)
        question = asked(some, pixels)
        whole_T = subset_transforms(question.comp_T)[:, -1]
        hidden = some.decoder.hidden(whole_T[:, None] @ question.identity_T)
        exact = coarse_errors(some.decoder, question)(hidden)
        guess = outline(some.decoder, question, whole_T[:, None],
                        coarse_reading(some.decoder, question, whole_T))
        differ = (exact - exact.mean(1, keepdim=True)).abs().mean()
        errors.append(float((guess - exact).abs().mean() / differ))
    assert errors[0] < 0.05, errors


@torch.no_grad()
def test_preselection_of_very_many_holds_the_best(network: IndependentModularNetwork) -> None:
    some = with_identities(network, 300, 0.1)
    assert len(some.identities()) > MAX_SKETCHED
    question = asked(some, torch.from_numpy(images(40, seed=7)).movedim(-1, 1).float() / 255)
    whole_T = subset_transforms(question.comp_T)[:, -1]
    error = coarse_errors(some.decoder, question)
    exact = error(some.decoder.hidden(whole_T[:, None] @ question.identity_T))
    chosen = preselect(some.decoder, question, whole_T, error,
                       lambda: coarse_reading(some.decoder, question, whole_T))
    best = exact.argmin(1, keepdim=True)
    assert chosen.identity.shape == (40, MAX_IDENTITIES)
    assert (chosen.identity == best).any(1).float().mean() >= 0.95
    assert chosen.guess is not None
    torch.testing.assert_close(chosen.guess.gather(1, chosen.identity),
                               exact.gather(1, chosen.identity), rtol=1e-3, atol=1e-3)


def test_products_matches_a_loop() -> None:
    left, right = torch.randn(2, 3, 4, 4), torch.randn(2, 5, 4, 4)
    got = products(left, right)
    for b in range(2):
        for p in range(3):
            for k in range(5):
                torch.testing.assert_close(got[b, p, k], left[b, p] @ right[b, k])


@torch.no_grad()
@pytest.mark.parametrize('weight', [WEIGHT, 20.0])
def test_exhaustive_winner_matches_exhaustive(network: IndependentModularNetwork,
                                              weight: float) -> None:
    one = copy.deepcopy(network)
    one.loss_config = replace(network.loss_config, recognition_weight=weight)
    pixels = torch.from_numpy(images(20, seed=4)).movedim(-1, 1).float() / 255
    whole, short = one(pixels, exhaustive), one(pixels, exhaustive_winner)
    assert torch.equal(whole.identity, short.identity)
    assert torch.equal(whole.subset, short.subset)
    torch.testing.assert_close(whole.score, short.score, rtol=1e-4, atol=1e-2)


def test_comparison_stops_when_it_is_settled(network: IndependentModularNetwork) -> None:
    same = search_agreement(network, images(200, seed=5), exhaustive_winner, until_settled=True)
    assert same['identity'] == 1.0 and 16 < same['images'] < 120
    assert not settled(30, 30) and settled(100, 100)
    assert settled(10, 16)                            # bad beyond doubt
    assert not settled(98, 100)
