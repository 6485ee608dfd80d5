"""Fitting the deployed search (:mod:`shortlist`) to a trained network."""
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from imn_world_model.base.errors import UserError
from imn_world_model.data.frames import Frames
from imn_world_model.exporting.shortlist import MAX_SUBSETS, Shortlist, Sketch, rows_of
from imn_world_model.model.combine import subset_transforms
from imn_world_model.model.decoder import Decoder
from imn_world_model.model.imn import IndependentModularNetwork
from imn_world_model.model.observe import batches, observe, pixels
from imn_world_model.model.side_by_side import side_by_side
from imn_world_model.model.winner import (
    Question,
    candidate_scores,
    coarse_errors,
    coarse_reading,
    exhaustive_winner,
    preselect,
)

# Components of a sketch. With 32 the winner's rank was as good as with 128.
COMPONENTS = 32
# Candidates per calibration image that a sketch is fitted to: the best ones, since only they
# compete. Fitted to random ones it ranked worse.
FITTED = 16
# Candidates that go on to the second sketch and to the decoder, beyond the best of each identity:
# the first pair that finds these shares of the winners' identities and of their subsets is taken.
# A network whose modules had not come apart needed the last, others the first two.
EFFORTS = ((8, 2), (12, 4), (16, 6), (24, 8))
SAME_IDENTITY = 0.999
SAME_SUBSET = 0.995
# Share of the calibration images that the sketches are fitted to; the rest choose the effort. 250
# images could not tell 99.8 % from 99.9 %.
FITTING = 0.3
# Pictures that the components are taken from.
PICTURES = 2000
RIDGE = 1e-6
FIT_IMAGES = 1600
# Images at a time, and candidates of each that are decoded at a time: a bound on memory.
BATCH = 32
DECODED_AT_ONCE = 8
# Images whose candidates are all decoded. Of the others only those so many are that a sketch
# fitted to the first ones ranks best: more than any effort decodes.
ALL_DECODED = 192
WIDE = 32


@dataclass(frozen=True)
class Fitted:
    """
    A search, and what was found while it was fitted.

    :param shortlist: the search.
    :param rows: (K,) numbers of the training images that it was fitted to.
    :param identity: (K,) their winners.
    """

    shortlist: Shortlist
    rows: np.ndarray
    identity: np.ndarray


def fitted_search(network: IndependentModularNetwork, frames: Frames,
                  progress: bool = True) -> Fitted:
    """
    Fit to a run's own training images.

    :param network: trained.
    :param frames: its data.
    :param progress: whether to show a bar.
    :raises UserError: when the data has no training images.
    """
    rows = np.flatnonzero(frames.split == 0)
    if len(rows) == 0:
        raise UserError('the data has no training images to fit the fast search to; give the data '
                        'of the run, or use --strategy exhaustive')
    rows = np.sort(np.random.default_rng(0).permutation(rows)[:FIT_IMAGES])
    shortlist, identity = _fit(network, frames.images[rows], progress)
    return Fitted(shortlist, rows, identity)


def shortlist_for(network: IndependentModularNetwork, frames: Frames,
                  progress: bool = True) -> Shortlist:
    """:return: the search alone, see :func:`fitted_search`."""
    return fitted_search(network, frames, progress).shortlist


def named_by(network: IndependentModularNetwork, frames: Frames, fitted: Fitted | None,
             most: int) -> tuple[np.ndarray, np.ndarray]:
    """
    Winners that names are read off: those that the fit found, if there was one.

    :param network: trained.
    :param frames: its data.
    :param fitted: what the fit found.
    :param most: images to search for otherwise.
    :return: rows (K,) outside the test split, and their winners.
    """
    if fitted is not None:
        return fitted.rows, fitted.identity
    rows = np.flatnonzero(frames.split < 2)
    rows = np.sort(np.random.default_rng(0).permutation(rows)[:most])
    return rows, observe(network, frames.images[rows], strategy=exhaustive_winner).identity


def fit_shortlist(network: IndependentModularNetwork, images: np.ndarray,
                  progress: bool = True) -> Shortlist:
    """
    Fit the sketches to a trained network, by least squares, and see which subsets win.

    The hessian form's random price is left out, as it is from the deployed model.

    :param network: trained.
    :param images: (K, S, S, 3) uint8 of the training split, K at least 1; 1,600 do.
    :param progress: whether to show a bar.
    """
    return _fit(network, images, progress)[0]


@dataclass(frozen=True)
class _Decoded:
    """
    What decoding the candidates of a batch told.

    :param best: (B, FITTED, hidden), first layers of the best candidates.
    :param good: (...) subsets that were best.
    :param identity: (B,) winners.
    :param subset: (B,) their subsets.
    """

    best: Tensor
    good: Tensor
    identity: Tensor
    subset: Tensor


@torch.no_grad()
def _fit(network: IndependentModularNetwork, images: np.ndarray, progress: bool
         ) -> tuple[Shortlist, np.ndarray]:
    """:return: the search, and the winners (K,) of its images."""
    decoder, device = network.decoder, network.masks.device

    def asked(part: np.ndarray) -> Question:
        image = pixels(part, device)
        question = network.question(network.reduced(image), network.encode(image))
        return replace(question, decoded_price=None)

    decoded: list[_Decoded] = []
    with tqdm(total=len(images), desc='fast search: decoding candidates', unit=' images',
              disable=not progress) as bar:
        # Each image is encoded once.
        questions = list(side_by_side(asked, batches(images, BATCH), device))
        whole = -(-ALL_DECODED // BATCH)
        rough: Shortlist | None = None
        for some in (questions[:whole], questions[whole:]):
            if decoded:
                every = torch.arange(len(network.masks), device=device)
                rough = Shortlist(every, *_sketches(decoder, decoded), WIDE, WIDE)
            for found in side_by_side(partial(_decode, decoder, rough), some, device):
                decoded.append(found)
                bar.update(len(found.identity))
    fitting = max(1, int(FITTING * len(decoded)))
    sketches = _sketches(decoder, decoded[:fitting])
    subsets, wins = torch.cat([part.good for part in decoded]).unique(return_counts=True)
    kept = subsets[wins.argsort(descending=True)[:MAX_SUBSETS]].sort().values

    start = fitting if fitting < len(decoded) else 0
    for effort in tqdm(EFFORTS, desc='fast search: how much effort', disable=not progress,
                       leave=False):
        shortlist = Shortlist(kept, *sketches, *effort)
        if _enough(decoder, shortlist, questions[start:], decoded[start:]):
            break
    return shortlist, torch.cat([part.identity for part in decoded]).cpu().numpy()


def _decode(decoder: Decoder, rough: Shortlist | None, question: Question) -> _Decoded:
    """
    Decode a batch's candidates, all of them or those that a rough search ranks best.

    :param rough: that search.
    """
    subset_T = subset_transforms(question.comp_T)
    # Of many identities those that do best with all modules: the others never win.
    chosen = preselect(decoder, question, subset_T[:, -1], coarse_errors(decoder, question),
                       lambda: coarse_reading(decoder, question, subset_T[:, -1]))
    hidden = chosen.hidden_of_candidates(decoder, question, subset_T)
    if rough is None:
        scores = candidate_scores(decoder, question, chosen, hidden, DECODED_AT_ONCE)  # (B, P, K)
    else:
        scores = rough.wide_scores(decoder, question, chosen, hidden)
    best = scores.flatten(1).topk(min(FITTED, scores[0].numel()), dim=1).indices
    score, subset = scores.max(1)                                        # (B, K)
    winner = score.argmax(1, keepdim=True)
    identity = chosen.identity.expand(len(winner), -1).gather(1, winner).squeeze(1)
    own = subset.gather(1, winner).squeeze(1)
    # An identity that was hardly decoded tells little of which subsets are good.
    return _Decoded(rows_of(hidden.flatten(1, 2), best),
                    subset.flatten() if rough is None else own, identity, own)


def _enough(decoder: Decoder, shortlist: Shortlist, questions: Sequence[Question],
            decoded: Sequence[_Decoded]) -> bool:
    """:return: whether a search finds enough winners; no more are tried than settle it."""

    def found(question: Question) -> tuple[Tensor, Tensor]:
        answer = shortlist(decoder, question)
        identity = answer.identity_scores.argmax(1)
        return identity, answer.subset.gather(1, identity[:, None]).squeeze(1)

    count = sum(len(known.identity) for known in decoded)
    other_identity = other = 0
    with closing(side_by_side(found, questions, shortlist.subsets.device)) as answers:
        for known, (identity, subset) in zip(decoded, answers, strict=True):
            same = identity == known.identity
            other_identity += int((~same).sum())
            other += int((~(same & (subset == known.subset))).sum())
            if (other_identity > (1 - SAME_IDENTITY) * count
                    or other > (1 - SAME_SUBSET) * count):
                return False
    return True


def _sketches(decoder: Decoder, decoded: Sequence[_Decoded]
              ) -> tuple[Tensor, Tensor, Sketch, Sketch]:
    """:return: components, mean, first and second sketch, fitted to the best candidates."""
    hidden = torch.cat([part.best for part in decoded]).flatten(0, 1)    # (N, hidden)
    hidden = hidden[torch.randperm(len(hidden), generator=torch.Generator().manual_seed(0))]
    pictures = decoder.image(hidden[:PICTURES]).flatten(1)
    mean = pictures.mean(0)
    torch.manual_seed(0)                              # of the random projection inside
    components = torch.pca_lowrank(
        pictures - mean, q=min(COMPONENTS, *pictures.shape), center=False)[2]
    wanted = torch.cat(list(side_by_side(
        lambda part: (decoder.image(part).flatten(1) - mean) @ components, hidden.split(500),
        hidden.device)))                                                 # (N, r)
    first = Sketch(_least_squares(hidden, wanted))
    second = Sketch(_least_squares(decoder.cells(hidden), wanted))
    return components, mean, first, second


def _least_squares(features: Tensor, wanted: Tensor) -> Tensor:
    """:return: (features + 1, r), from features (N, features) and 1 to ``wanted`` (N, r)."""
    ones = torch.ones_like(features[:, :1])
    inputs = torch.cat((features, ones), dim=1).double()
    gram = inputs.T @ inputs
    ridge = RIDGE * gram.diagonal().mean() * torch.eye(len(gram)).to(gram)
    return torch.linalg.solve(gram + ridge, inputs.T @ wanted.double()).float()
