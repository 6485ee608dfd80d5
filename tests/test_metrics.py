"""Figures of merit on data whose figures are known."""
import numpy as np
import pytest

from imn_world_model.judging import metrics

RNG = np.random.default_rng(0)
FACTORS = RNG.integers(0, 5, (2000, 3))
LABELS = {name: FACTORS[:, k] for k, name in enumerate(('a', 'b', 'c'))}
PERFECT = FACTORS + 0.01 * RNG.normal(size=FACTORS.shape)
MIXED = PERFECT @ np.array([[1.0, 1.0, 1.0], [1.0, -1.0, 0.5], [1.0, 0.3, -1.0]])


def test_table_one_and_purity_by_hand() -> None:
    identity, shape = np.array([0, 0, 1, 2, 2, 2]), np.array([0, 0, 0, 1, 1, 0])
    table = metrics.table_one(identity, shape, 4, 2)
    assert table.tolist() == [[50.0, 25.0, 25.0, 0.0], [0.0, 0.0, 100.0, 0.0]]
    assert metrics.purity(identity, shape) == pytest.approx(5 / 6)


def test_purity_of_the_papers_table_is_the_stated_one() -> None:
    rows = np.array([[28.03, 28.80, 0, 43.17, 0], [100, 0, 0, 0, 0], [0, 0, 100, 0, 0],
                     [40.32, 0, 0, 0, 59.68]])
    identity, shape = [], []
    for k, row in enumerate(np.round(rows * 100).astype(int)):
        for j, count in enumerate(row):
            identity += [j] * count
            shape += [k] * count
    assert metrics.purity(np.array(identity), np.array(shape)) == pytest.approx(0.829, abs=1e-3)


def test_identity_information_finds_the_factor_and_nothing_else() -> None:
    found = metrics.identity_information((FACTORS[:, 1] + 2) % 5, LABELS)
    assert found['b']['nmi'] == pytest.approx(1.0) and found['b']['ari'] == pytest.approx(1.0)
    assert found['a']['nmi'] < 0.02 and abs(found['c']['ari']) < 0.02


def test_linear_probe_reads_what_is_there_and_drops_dead_coordinates() -> None:
    dead = 1e-6 * RNG.normal(size=(2000, 1))
    told = metrics.linear_probe(np.hstack((PERFECT, dead)), LABELS['a'])
    assert told['accuracy'] > 0.95 and told['chance'] < 0.25
    silent = metrics.linear_probe(RNG.normal(size=(2000, 3)), LABELS['a'])
    assert abs(silent['accuracy'] - silent['chance']) < 0.05


def test_linear_probe_of_a_first_half_of_one_class_answers_that_class() -> None:
    probe = metrics.linear_probe(RNG.normal(size=(8, 2)), np.array([3, 3, 3, 3, 3, 1, 1, 1]))
    assert probe == {'accuracy': 0.25, 'chance': 0.75}


@pytest.mark.parametrize('figure', [
    lambda latents: metrics.mutual_information_gap(latents, LABELS),
    lambda latents: metrics.dci(latents, LABELS)['disentanglement'],
    lambda latents: metrics.sap(latents, LABELS)])
def test_disentangled_coordinates_score_above_mixed_ones(figure) -> None:
    assert figure(PERFECT) > figure(MIXED) + 0.2
    assert figure(PERFECT) > 0.4


def test_dci_of_a_perfect_code_is_one() -> None:
    scores = metrics.dci(PERFECT, LABELS)
    assert min(scores.values()) > 0.95


def test_factor_vae_score_orders_codes() -> None:
    def render(factors: np.ndarray) -> np.ndarray:
        return factors

    perfect = metrics.factor_vae_score(lambda x: x.astype(float), render, (5, 5, 5), votes=100)
    noise = np.random.default_rng(1)
    blind = metrics.factor_vae_score(lambda x: noise.normal(size=(len(x), 3)), render, (5, 5, 5),
                                     votes=100)
    assert perfect == 1.0 and blind < 0.6


def test_factor_matrix_is_variance_explained() -> None:
    matrix = metrics.factor_matrix(PERFECT, LABELS)
    assert np.allclose(matrix, np.eye(3), atol=0.02)


def test_name_identities_after_the_majority() -> None:
    identity = np.array([0, 0, 0, 1, 1, 3])
    labels = np.array([1, 1, 0, 1, -1, 0])
    names = metrics.name_identities(identity, labels, ('cube', 'ball'), 4)
    assert names == ['ball', 'ball 2', 'identity 2', 'cube']
