"""The deployed search: the winner of Eq. (9) from two sketches and a few full decodes."""
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from imn_world_model.base.errors import UserError
from imn_world_model.data.frames import Frames
from imn_world_model.model.combine import subset_transforms
from imn_world_model.model.compact import round_constants
from imn_world_model.model.decoder import Decoder
from imn_world_model.model.imn import IndependentModularNetwork
from imn_world_model.model.observe import observe
from imn_world_model.model.score import REFERENCE_PIXELS
from imn_world_model.model.winner import (
    Answer,
    Chosen,
    Question,
    Reading,
    candidate_scores,
    coarse_errors,
    coarse_reading,
    image_errors,
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
BATCH = 32
FIT_IMAGES = 1600
# Images whose candidates are all decoded. Of the others only those so many are that a sketch
# fitted to the first ones ranks best: more than any effort decodes.
ALL_DECODED = 192
WIDE = 32
# Stands for an infinite loss where differences are taken.
NEVER = 1e12
# Images at a time when searches are compared.
OBSERVED = 128
# Subsets looked at: at most so many, the commonest winners, so that cost does not grow as 2**m.
MAX_SUBSETS = 24


class Sketch(nn.Module):
    """
    An estimate of a candidate's picture, linear in a layer of the decoder.

    :param readout: (features + 1, r), from that layer (and 1) to r components of a picture.
    """

    readout: Tensor
    bias: Tensor

    def __init__(self, readout: Tensor) -> None:
        super().__init__()
        self.register_buffer('readout', readout[:-1].contiguous())
        self.register_buffer('bias', readout[-1].contiguous())

    def forward(self, features: Tensor, wanted: Tensor) -> Tensor:
        """
        Estimate the squared error, up to a constant of the image.

        :param features: (B, K, features) of K candidates.
        :param wanted: (B, r), the image's components.
        :return: (B, K), summed over pixels and channels.
        """
        guess = features.to(wanted.dtype) @ self.readout + self.bias     # (B, K, r)
        return (guess - wanted[:, None]).square().sum(-1)


class Shortlist(nn.Module):
    """
    A ``winner.Strategy``: sketch every candidate, decode few.

    Subsets that never won on calibration images are left out. A first sketch, linear in the
    decoder's first layer, ranks the candidates that remain; a second, linear in its second layer,
    ranks the best of those; the best of these are decoded in full. The best of each identity
    always stays in.

    :param subsets: (Q,) numbers of the subsets that are looked at.
    :param components: (3*H*W, r), orthonormal, the directions in which decoded pictures vary most.
    :param mean: (3*H*W,), of decoded pictures.
    :param first: on ``Decoder.hidden``.
    :param second: on ``Decoder.cells``.
    :param num_second: candidates beyond one per identity that the second sketch sees.
    :param num_full: candidates beyond one per identity that are decoded.
    """

    subsets: Tensor
    components: Tensor
    mean: Tensor
    origin: Tensor

    def __init__(self, subsets: Tensor, components: Tensor, mean: Tensor, first: Sketch,
                 second: Sketch, num_second: int, num_full: int) -> None:
        super().__init__()
        self.register_buffer('subsets', subsets)
        self.register_buffer('components', components)
        self.register_buffer('mean', mean)
        self.register_buffer('origin', mean @ components)
        self.first, self.second = first, second
        self.num_second, self.num_full = num_second, num_full

    def facts(self) -> dict[str, Any]:
        """:return: what a model's metadata say of the search."""
        return {'subsets': self.subsets.tolist(), 'sketched_again': self.num_second,
                'decoded': self.num_full}

    def rounded(self) -> 'Shortlist':
        """:return: itself, with large constants that float16 holds."""
        round_constants(self)
        self.origin.copy_(self.mean @ self.components)
        return self

    def forward(self, decoder: Decoder, question: Question) -> Answer:
        """Answer as every strategy does; scores are those of full decodes."""
        image = question.image
        wanted, cost = self.comparison(question)
        subset_T = subset_transforms(question.comp_T)
        chosen = preselect(decoder, question, subset_T[:, -1],
                           lambda hidden: cost(self.first(hidden, wanted)),
                           lambda: Reading(self.first.readout, wanted - self.first.bias, cost))
        subset_T = subset_T[:, self.subsets]
        hidden = chosen.hidden_of_candidates(decoder, question, subset_T)
        n = hidden.shape[2]                                              # those looked at
        hidden = hidden.flatten(1, 2)                                    # (B, Q*n, hidden)
        price = question.price[:, self.subsets, None] + torch.zeros_like(hidden[:, :1, :n])
        if question.identity_price is not None:
            price = price + chosen.price(question.identity_price)[:, None]
        price = price.flatten(1)                                         # (B, Q*n)
        number = torch.arange(hidden.shape[1], device=image.device)
        number = number.expand(image.shape[0], -1)                       # not len(): it is dynamic

        guess = cost(self.first(hidden, wanted)) + price
        kept = _shortlist(guess, number % n, n, self.num_second)
        number, price = number.gather(1, kept), price.gather(1, kept)
        cells = decoder.cells(_rows(hidden, kept))                       # (B, K, features)

        guess = cost(self.second(cells, wanted)) + price
        kept = _shortlist(guess, number % n, n, self.num_full)
        number, price = number.gather(1, kept), price.gather(1, kept)

        errors = image_errors(decoder, _rows(cells, kept), decoder.nested(image))
        loss = question.image_price(errors) + price                      # (B, K), true scores
        identity, subset = number % n, self.subsets[number // n]
        if question.decoded_price is not None:
            loss = loss + question.decoded_price(
                subset, chosen.identity.expand(len(loss), -1).gather(1, identity))
        best = _best_of_each(loss, identity, n)                          # (B, n)
        return chosen.answer(loss.gather(1, best), subset.gather(1, best))

    def wide_scores(self, decoder: Decoder, question: Question, chosen: Chosen,
                    hidden: Tensor) -> Tensor:
        """
        Scores of the candidates that the first sketch ranks best.

        :param hidden: (B, P, K, hidden), of all subsets and the chosen identities.
        :return: (B, P, K), minus infinity for those that were not decoded.
        """
        wanted, cost = self.comparison(question)
        price = question.price[:, :, None] + torch.zeros_like(hidden[..., 0])
        if question.identity_price is not None:
            price = price + chosen.price(question.identity_price)[:, None]
        price, flat = price.flatten(1), hidden.flatten(1, 2)             # (B, P*K)
        guess = cost(self.first(flat, wanted)) + price
        kept = guess.topk(min(self.num_full, guess.shape[1]), dim=1, largest=False).indices
        errors = image_errors(decoder, decoder.cells(_rows(flat, kept)),
                              decoder.nested(question.image))
        score = -(question.image_price(errors) + price.gather(1, kept))
        every = torch.full_like(price, -torch.inf).scatter(1, kept, score)
        return every.unflatten(1, hidden.shape[1:3])

    def comparison(self, question: Question) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """
        What sketches are compared with.

        :return: (B, r), the image's components, and from a sketch's squared errors (B, K) to what
            the image errors cost.
        """
        image = question.image
        scale = REFERENCE_PIXELS / (image.shape[-2] * image.shape[-1])
        wanted = image.flatten(1) @ self.components - self.origin        # (B, r)
        outside: Tensor | float = 0.0                 # no matter where only differences count
        if question.image_scale is not None:
            whole = (image.flatten(1) - self.mean).square().sum(1, keepdim=True)
            outside = (whole - wanted.square().sum(1, keepdim=True)).clamp(min=0.0)
        return wanted, lambda error: question.image_price(scale * (error + outside))


def _best_of_each(loss: Tensor, identity: Tensor, n: int) -> Tensor:
    """:return: (B, n), for each identity the column of its smallest loss (B, K)."""
    own = identity[:, :, None] == torch.arange(n, device=loss.device)    # (B, K, n)
    return torch.where(own, loss[:, :, None], torch.inf).argmin(1)


def _shortlist(guess: Tensor, identity: Tensor, n: int, others: int) -> Tensor:
    """:return: (B, n + others), columns: the best of each identity, then the best others."""
    best = _best_of_each(guess, identity, n)
    others = min(others, guess.shape[1] - n)
    rest = guess.scatter(1, best, torch.inf).topk(others, dim=1, largest=False).indices
    return torch.cat((best, rest), dim=1)


def _rows(table: Tensor, column: Tensor) -> Tensor:
    """:return: (B, K, features) rows of a table (B, N, features); whole rows, not elements."""
    start = torch.arange(table.shape[0], device=table.device)[:, None] * table.shape[1]
    flat = table.flatten(0, 1)[(start + column).flatten()]
    return flat.reshape(*column.shape, table.shape[2])


def shortlist_for(network: IndependentModularNetwork, frames: Frames,
                  progress: bool = True) -> Shortlist:
    """
    Fit to a run's own training images.

    :param network: trained.
    :param frames: its data.
    :raises UserError: when the data has no training images.
    """
    rows = np.flatnonzero(frames.split == 0)
    if len(rows) == 0:
        raise UserError('the data has no training images to fit the fast search to; give the data '
                        'of the run, or use --strategy exhaustive')
    rows = np.random.default_rng(0).permutation(rows)[:FIT_IMAGES]
    return fit_shortlist(network, frames.images[np.sort(rows)], progress)


@torch.no_grad()
def fit_shortlist(network: IndependentModularNetwork, images: np.ndarray,
                  progress: bool = True) -> Shortlist:
    """
    Fit the sketches to a trained network, by least squares, and see which subsets win.

    The hessian form's random price is left out, as it is from the deployed model.

    :param network: trained.
    :param images: (K, S, S, 3) uint8 of the training split, K at least 1; 1,600 do.
    :param progress: whether to show a bar.
    """
    decoder = network.decoder
    found: list[Tensor] = []
    rows: list[Tensor] = []
    rough: Shortlist | None = None

    def record(_: Decoder, question: Question) -> Answer:
        subset_T = subset_transforms(question.comp_T)
        # Of many identities those that do best with all modules: the others never win.
        chosen = preselect(decoder, question, subset_T[:, -1], coarse_errors(decoder, question),
                           lambda: coarse_reading(decoder, question, subset_T[:, -1]))
        hidden = chosen.hidden_of_candidates(decoder, question, subset_T)
        if rough is None:
            scores = candidate_scores(decoder, question, chosen, hidden)     # (B, P, K)
        else:
            scores = rough.wide_scores(decoder, question, chosen, hidden)
        best = scores.flatten(1).topk(min(FITTED, scores[0].numel()), dim=1).indices
        rows.append(_rows(hidden.flatten(1, 2), best))                   # (B, FITTED, hidden)
        score, subset = scores.max(1)                                    # (B, K)
        winner = score.argmax(1, keepdim=True)
        # An identity that was hardly decoded tells little of which subsets are good.
        found.append((subset if rough is None else subset.gather(1, winner)).flatten())
        return chosen.answer(-score.clamp(min=-NEVER), subset)

    seen_parts = []
    start = 0
    with tqdm(total=len(images), desc='fast search: decoding candidates', unit=' images',
              disable=not progress) as bar:
        while start < len(images):
            if start >= ALL_DECODED and rough is None:
                every = torch.arange(len(network.masks), device=network.masks.device)
                first = _sketches(decoder, torch.cat(rows).flatten(0, 1))
                rough = Shortlist(every, *first, WIDE, WIDE)
            part = images[start:start + BATCH]
            seen_parts.append(observe(network, part, strategy=record))
            start += len(part)
            bar.update(len(part))
    identity = np.concatenate([part.identity for part in seen_parts])
    subset = np.concatenate([part.subset for part in seen_parts])
    for_fit = max(1, int(FITTING * len(images)))
    sketches = _sketches(decoder, torch.cat(rows)[:for_fit].flatten(0, 1))
    subsets, wins = torch.cat(found).unique(return_counts=True)
    kept = subsets[wins.argsort(descending=True)[:MAX_SUBSETS]].sort().values

    start = for_fit if for_fit < len(images) else 0
    for effort in tqdm(EFFORTS, desc='fast search: how much effort', disable=not progress,
                       leave=False):
        shortlist = Shortlist(kept, *sketches, *effort)
        if _enough(network, images[start:], shortlist, identity[start:], subset[start:]):
            break
    return shortlist


def _enough(network: IndependentModularNetwork, images: np.ndarray, shortlist: Shortlist,
            identity: np.ndarray, subset: np.ndarray) -> bool:
    """:return: whether a search finds enough winners (K,); no more are tried than settle it."""
    other_identity, other = 0, 0
    for start in range(0, len(images), OBSERVED):
        rows = slice(start, start + OBSERVED)
        seen = observe(network, images[rows], strategy=shortlist)
        same = seen.identity == identity[rows]
        other_identity += int((~same).sum())
        other += int((~(same & (seen.subset == subset[rows]))).sum())
        if (other_identity > (1 - SAME_IDENTITY) * len(images)
                or other > (1 - SAME_SUBSET) * len(images)):
            return False
    return True


def _sketches(decoder: Decoder, hidden: Tensor) -> tuple[Tensor, Tensor, Sketch, Sketch]:
    """:return: components, mean, first and second sketch, fitted to first layers (N, hidden)."""
    hidden = hidden[torch.randperm(len(hidden), generator=torch.Generator().manual_seed(0))]
    pictures = decoder.image(hidden[:PICTURES]).flatten(1)
    mean = pictures.mean(0)
    torch.manual_seed(0)                              # of the random projection inside
    components = torch.pca_lowrank(
        pictures - mean, q=min(COMPONENTS, *pictures.shape), center=False)[2]
    wanted = torch.cat([(decoder.image(part).flatten(1) - mean) @ components
                        for part in hidden.split(500)])                  # (N, r)
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
