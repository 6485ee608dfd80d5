"""Figures of merit, from plain arrays: what identities hold, how coordinates disentangle."""
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import adjusted_rand_score, mutual_info_score, normalized_mutual_info_score
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

Labels = dict[str, np.ndarray]
# Coordinates whose mean hardly moves say nothing; disentanglement_lib prunes them likewise.
DEAD_STD = 0.05
BINS = 20


def table_one(identity: np.ndarray, shape: np.ndarray, num_identities: int,
              num_shapes: int) -> np.ndarray:
    """
    The paper's Table I: of each true shape's images, the share won by each identity.

    :param identity: (K,) winners.
    :param shape: (K,) true classes.
    :return: (num_shapes, num_identities) in percent; a row without images is NaN.
    """
    counts = np.zeros((num_shapes, num_identities))
    np.add.at(counts, (shape, identity), 1)
    with np.errstate(invalid='ignore'):
        return 100.0 * counts / counts.sum(1, keepdims=True)


def purity(identity: np.ndarray, classes: np.ndarray) -> float:
    """:return: share of images whose identity's majority class is theirs, in [0, 1]."""
    counts = np.zeros((identity.max() + 1, classes.max() + 1), int)
    np.add.at(counts, (identity, classes), 1)
    return float(counts.max(1).sum() / len(identity))


def identity_information(identity: np.ndarray, labels: Labels) -> dict[str, dict[str, float]]:
    """:return: factor -> ``nmi`` (arithmetic mean) and ``ari`` of the identity with it."""
    return {name: {'nmi': float(normalized_mutual_info_score(classes, identity)),
                   'ari': float(adjusted_rand_score(classes, identity))}
            for name, classes in labels.items()}


def linear_probe(latents: np.ndarray, classes: np.ndarray) -> dict[str, float]:
    """
    How well a linear classifier reads a factor from the coordinates.

    :param latents: (K, D) means; dead coordinates are dropped, the rest standardised.
    :param classes: (K,).
    :return: ``accuracy`` on the second half after fitting on the first, and ``chance`` (the share
        of the largest class). A log's halves are of different clips.
    """
    half = len(latents) // 2
    chance = float(np.bincount(classes[half:]).max() / len(classes[half:]))
    live = latents[:, latents.std(0) > DEAD_STD]
    if live.shape[1] == 0:
        return {'accuracy': chance, 'chance': chance}
    if len(np.unique(classes[:half])) == 1:                  # such as the one clip of a short log
        return {'accuracy': float((classes[half:] == classes[0]).mean()), 'chance': chance}
    scaled = StandardScaler().fit_transform(live)
    probe = LogisticRegression(max_iter=1000).fit(scaled[:half], classes[:half])
    return {'accuracy': float(probe.score(scaled[half:], classes[half:])), 'chance': chance}


def discretize(latents: np.ndarray) -> np.ndarray:
    """:return: (K, D) bin numbers, 20 equal bins between each column's extremes."""
    columns = [np.digitize(column, np.histogram(column, BINS)[1][:-1]) for column in latents.T]
    return np.stack(columns, axis=1)


def mutual_information_gap(latents: np.ndarray, labels: Labels) -> float:
    """
    MIG (Chen et al. 2018): the lead of a factor's best coordinate over its second, per entropy.

    :param latents: (K, D), discretised in 20 bins as in disentanglement_lib.
    :param labels: factor -> (K,).
    """
    bins = discretize(latents)
    gaps = []
    for classes in labels.values():
        information = np.sort([mutual_info_score(column, classes) for column in bins.T])[::-1]
        entropy = mutual_info_score(classes, classes)
        if entropy > 0 and len(information) > 1:
            gaps.append((information[0] - information[1]) / entropy)
    return float(np.mean(gaps)) if gaps else float('nan')


def dci(latents: np.ndarray, labels: Labels, seed: int = 0) -> dict[str, float]:
    """
    DCI (Eastwood and Williams 2018) with random forests of scikit-learn.

    :param latents: (K, D); fitted on the first half, informativeness on the second.
    :param labels: factor -> (K,) ordered classes.
    :return: ``disentanglement``, ``completeness`` in [0, 1], ``informativeness`` (mean R^2).
    """
    half = len(latents) // 2
    importance, fit = [], []
    for classes in labels.values():
        forest = RandomForestRegressor(20, max_depth=12, random_state=seed, n_jobs=1)
        forest.fit(latents[:half], classes[:half])
        importance.append(forest.feature_importances_)
        fit.append(forest.score(latents[half:], classes[half:]))
    matrix = np.stack(importance, axis=1)                                # (D, factors)
    return {'disentanglement': _one_minus_entropy(matrix),
            'completeness': _one_minus_entropy(matrix.T),
            'informativeness': float(np.mean(fit))}


def _one_minus_entropy(matrix: np.ndarray) -> float:
    """:return: mean over rows of 1 - entropy (base: columns), rows weighted by their sum."""
    total = matrix.sum()
    if total == 0 or matrix.shape[1] < 2:
        return 0.0
    share = matrix / matrix.sum(1, keepdims=True).clip(1e-12)
    entropy = -(share * np.log(share.clip(1e-12))).sum(1) / np.log(matrix.shape[1])
    return float(((1.0 - entropy) * matrix.sum(1)).sum() / total)


def sap(latents: np.ndarray, labels: Labels) -> float:
    """
    SAP (Kumar et al. 2018): the lead of a factor's best coordinate over its second, by a linear
    SVM on one coordinate (C = 0.01, balanced classes, as in disentanglement_lib).
    """
    half = len(latents) // 2
    gaps = []
    for classes in labels.values():
        scores = []
        for column in latents.T:
            if column.std() < DEAD_STD:
                scores.append(0.0)
                continue
            machine = LinearSVC(C=0.01, class_weight='balanced')
            machine.fit(column[:half, None], classes[:half])
            scores.append(machine.score(column[half:, None], classes[half:]))
        best = np.sort(scores)[::-1]
        gaps.append(best[0] - best[1])
    return float(np.mean(gaps))


def factor_vae_score(encode: Callable[[np.ndarray], np.ndarray],
                     render: Callable[[np.ndarray], np.ndarray], sizes: tuple[int, ...],
                     votes: int = 800, batch: int = 64, seed: int = 0) -> float:
    """
    FactorVAE score (Kim and Mnih 2018), disentanglement_lib's protocol.

    In each vote one factor is fixed over a batch; the coordinate that varies least, relative to
    its variance over all data, votes for it. Accuracy of the majority vote on fresh votes.

    :param encode: (K, S, S, 3) uint8 -> (K, D) means.
    :param render: (K, factors) integers -> (K, S, S, 3) uint8.
    :param sizes: number of classes of each factor.
    :param votes: of training, and half as many of evaluation.
    :param batch: images per vote.
    """
    rng = np.random.default_rng(seed)

    def draw(count: int) -> np.ndarray:
        return np.stack([rng.integers(size, size=count) for size in sizes], axis=1)

    overall = encode(render(draw(2000))).std(0)
    live = overall > DEAD_STD
    if not live.any():
        return 0.0
    table = np.zeros((int(live.sum()), len(sizes)), int)
    right = 0
    for vote in range(votes + votes // 2):
        factors = draw(batch)
        fixed = int(rng.integers(len(sizes)))
        factors[:, fixed] = factors[0, fixed]
        spread = encode(render(factors))[:, live].std(0) / overall[live]
        winner = int(spread.argmin())
        if vote < votes:
            table[winner, fixed] += 1
        else:
            right += int(table[winner].argmax() == fixed)
    return right / (votes // 2)


def factor_matrix(latents: np.ndarray, labels: Labels) -> np.ndarray:
    """:return: (D, factors) share of each coordinate's variance between a factor's classes."""
    result = np.zeros((latents.shape[1], len(labels)))
    variance = latents.var(0).clip(1e-12)
    for k, classes in enumerate(labels.values()):
        for c in np.unique(classes):
            own = classes == c
            result[:, k] += own.mean() * (latents[own].mean(0) - latents.mean(0)) ** 2
    return result / variance[:, None]


def name_identities(identity: np.ndarray, labels: np.ndarray, names: tuple[str, ...],
                    num_identities: int) -> list[str]:
    """
    Name each identity after the label that most of its images bear.

    :param identity: (K,) winners of images outside the test split.
    :param labels: (K,) class of each, -1 where unknown.
    :param names: of the classes.
    :return: n names; a second identity of one class is ``NAME 2``, one that won nothing
        ``identity J``.
    """
    result: list[str] = []
    used: dict[str, int] = {}
    for j in range(num_identities):
        own = labels[(identity == j) & (labels >= 0)]
        if len(own) == 0:
            result.append(f'identity {j}')
            continue
        name = names[int(np.bincount(own).argmax())]
        used[name] = used.get(name, 0) + 1
        result.append(name if used[name] == 1 else f'{name} {used[name]}')
    return result


def summarize(identity: np.ndarray, latents: np.ndarray, labels: Labels,
              num_identities: int) -> dict[str, Any]:
    """
    Everything that labels allow to say of winners and coordinates.

    :param identity: (K,) winners.
    :param latents: (K, D) means of all modules' coordinates.
    :param labels: factor -> (K,) classes without gaps.
    """
    result: dict[str, Any] = {
        'identity': identity_information(identity, labels),
        'probe': {name: linear_probe(latents, classes) for name, classes in labels.items()},
        'unused_identities': [j for j in range(num_identities) if not (identity == j).any()]}
    kind = 'shape' if 'shape' in labels else next(iter(labels))
    result['purity_of'] = kind
    result['purity'] = purity(identity, labels[kind])
    return result
