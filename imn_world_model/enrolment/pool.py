"""
The pool of identities changes one by one: one more is learnt, one goes, two become one.

An identity is a matrix that sees no image, so all else may stay as it is: modules, decoder, the
other identities, the search.
"""
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from imn_world_model.base.config import Config
from imn_world_model.model.combine import active_product
from imn_world_model.model.familiarity import Familiarity
from imn_world_model.model.imn import IndependentModularNetwork
from imn_world_model.model.recognition import CODE_SIZE, TEMPERATURE, Recognizer
from imn_world_model.model.score import image_loss

# Of the identity's matrix, then of its signature.
STEPS, RATE = 150, 0.02
SIGNATURE_STEPS = 200
# Views at a time.
BATCH = 16
# Drawn features of every other identity that a new signature is held against, per step.
DRAWN = 8


@dataclass(frozen=True)
class Pool:
    """
    A network whose identities may come and go.

    :param network: in evaluation mode, on the CPU.
    :param familiarity: what each identity's images look like; ``None`` without a recognizer.
    :param config: of the run.
    :param labels: a name for each of the n identities.
    :param thresholds: novelty threshold of each.
    :param strange: the strangeness from which on an image is novel.
    """

    network: IndependentModularNetwork
    familiarity: Familiarity | None
    config: Config
    labels: tuple[str, ...]
    thresholds: tuple[float, ...]
    strange: float = float('inf')


def kept(pool: Pool, numbers: Sequence[int]) -> Pool:
    """
    Let identities go, or put them into another order.

    :param pool: of n identities, left as it is.
    :param numbers: of those that stay, at least one.
    :return: a pool of these identities.
    """
    chosen = torch.tensor(numbers)
    return _with(pool, pool.network.identities.matrices.detach()[chosen],
                 None if pool.familiarity is None else pool.familiarity.kept(chosen),
                 tuple(pool.labels[j] for j in numbers),
                 tuple(pool.thresholds[j] for j in numbers))


def merged(pool: Pool, first: int, second: int) -> Pool:
    """
    Make one identity of two: halfway between their matrices, under the first one's name.

    :param pool: of n identities, left as it is.
    :return: a pool of n - 1, the second one gone.
    """
    matrices = pool.network.identities.matrices.detach().clone()
    matrices[first] = (matrices[first] + matrices[second]) / 2
    familiarity = pool.familiarity
    if familiarity is not None:
        familiarity = familiarity.merged(first, second)
    thresholds = list(pool.thresholds)
    thresholds[first] = min(thresholds[first], thresholds[second])
    both = _with(pool, matrices, familiarity, pool.labels, tuple(thresholds))
    return kept(both, [j for j in range(len(pool.labels)) if j != second])


def learnt(pool: Pool, images: np.ndarray, label: str,
           tell: Callable[[], None] = lambda: None) -> Pool:
    """
    Add an identity.

    Its signature is learnt first, against features drawn as the other identities have them; every
    identity weighs the same. Its matrix then learns to draw the views, with all modules active;
    what the recognizer reads off the matrix stays.

    :param pool: of n identities, left as it is.
    :param images: (K, S, S, 3) uint8 views, K at least 1.
    :param label: the new one's name.
    :param tell: called after every step, :func:`steps` times.
    :return: a pool of n + 1, the new one last.
    """
    image = torch.from_numpy(np.ascontiguousarray(images)).movedim(-1, 1).float() / 255.0
    network, familiarity = pool.network, pool.familiarity
    matrices = network.identities.matrices.detach()
    with torch.no_grad():
        encodings = [network.encode(part) for part in image.split(BATCH)]
        whole = torch.cat([active_product(one.comp_T, torch.ones_like(one.kl, dtype=torch.bool))
                           for one in encodings])                        # (K, u, u)
        target = network.reduced(image)
    start = matrices[_nearest(network, whole, target)].clone()
    recognizer = network.recognizer
    fixed = torch.zeros(0, start.numel())
    if recognizer is not None and familiarity is not None:
        features = torch.cat([one.features for one in encodings if one.features is not None])
        with torch.no_grad():
            known = recognizer.signatures(network.identities())
        signature = _signature(features, known, familiarity, tell)
        look = None
        if familiarity.looks is not None:
            with torch.no_grad():
                look = torch.cat([recognizer.look(recognizer.pooled(part), part)
                                  for part in image.split(BATCH)])
        familiarity = familiarity.joined(features, pool.strange, look)
        fixed = recognizer.readout.detach()
        start = _signed(recognizer, matrices, start, signature)
    matrix = _matrix(network, whole, target, start, fixed, tell)
    return _with(pool, torch.cat((matrices, matrix[None])), familiarity, (*pool.labels, label),
                 (*pool.thresholds, float('-inf')))


def steps(pool: Pool) -> int:
    """:return: how often :func:`learnt` tells of a step."""
    return STEPS + (SIGNATURE_STEPS if pool.familiarity is not None else 0)


def _with(pool: Pool, matrices: Tensor, familiarity: Familiarity | None,
          labels: tuple[str, ...], thresholds: tuple[float, ...]) -> Pool:
    """:return: a pool with other identities (n, u, u)."""
    model = replace(pool.config.model, num_identities=len(matrices))
    config = replace(pool.config, model=model)
    network = IndependentModularNetwork(model, config.loss)
    weights = pool.network.state_dict() | {'identities.matrices': matrices}
    if pool.network.recognizer is not None:
        # What all identities share is what they shared when they were learnt together.
        centre = pool.network.recognizer.centre
        if centre is None:
            centre = pool.network.identities.matrices.detach().mean(0)
        weights['recognizer.centre'] = centre
    network.load_state_dict(weights)
    return Pool(network.eval(), familiarity, config, labels, thresholds, pool.strange)


@torch.no_grad()
def _nearest(network: IndependentModularNetwork, whole_T: Tensor, target: Tensor) -> int:
    """:return: the identity that draws the views best as it is, from products (K, u, u)."""
    some = slice(0, BATCH)
    errors = torch.stack([
        image_loss(network.decoder(whole_T[some] @ identity_T), target[some]).mean()
        for identity_T in network.identities()])
    return int(errors.argmin())


def _signature(features: Tensor, known: Tensor, familiarity: Familiarity,
               tell: Callable[[], None]) -> Tensor:
    """
    What tells a new identity's features from those of all others.

    :param features: (K, d) of its views.
    :param known: (n, d), signatures of the others.
    :return: (d,) of length 1.
    """
    generator = torch.Generator().manual_seed(0)
    value = F.normalize(features.mean(0), dim=0).requires_grad_(True)
    optimizer = torch.optim.Adam([value], lr=RATE)
    for _ in range(SIGNATURE_STEPS):
        others, name = familiarity.draw(DRAWN, generator)
        own = features[torch.randint(len(features), (DRAWN,), generator=generator)]
        every = torch.cat((known, F.normalize(value, dim=0)[None])).T
        image = torch.cat((others, own)) @ every / TEMPERATURE
        target = torch.cat((name, torch.full((DRAWN,), len(known))))
        loss = F.cross_entropy(image, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        tell()
    return F.normalize(value.detach(), dim=0)


def _signed(recognizer: Recognizer, matrices: Tensor, start: Tensor, signature: Tensor) -> Tensor:
    """:return: (u, u), a matrix with a signature, as near as possible to another one."""
    centre = matrices.mean(0) if recognizer.centre is None else recognizer.centre
    readout = recognizer.readout.detach()
    wanted = CODE_SIZE * signature - (start - centre).flatten() @ readout.T
    return start + (wanted @ torch.linalg.pinv(readout).T).reshape(start.shape)


def _matrix(network: IndependentModularNetwork, whole_T: Tensor, target: Tensor, start: Tensor,
            fixed: Tensor, tell: Callable[[], None]) -> Tensor:
    """
    The matrix that draws the views best.

    :param whole_T: (K, u, u), products of all modules.
    :param target: (K, 3, H, W), the views.
    :param start: (u, u).
    :param fixed: (d, u*u), directions that must not change.
    :return: (u, u).
    """
    free = torch.eye(start.numel()) - torch.linalg.pinv(fixed) @ fixed
    change = torch.zeros(start.numel(), requires_grad=True)
    optimizer = torch.optim.Adam([change], lr=RATE)
    generator = torch.Generator().manual_seed(0)
    for _ in range(STEPS):
        rows = torch.randperm(len(target), generator=generator)[:BATCH]
        matrix = start + (free @ change).reshape(start.shape)
        recon = network.decoder(whole_T[rows] @ matrix)
        loss = image_loss(recon, target[rows]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        tell()
    return (start + (free @ change.detach()).reshape(start.shape)).detach()
