"""The deployed search: the winner of Eq. (9) from two sketches and a few full decodes."""
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from imn_world_model.model.combine import subset_transforms
from imn_world_model.model.compact import round_constants
from imn_world_model.model.decoder import Decoder
from imn_world_model.model.score import REFERENCE_PIXELS
from imn_world_model.model.winner import (
    Answer,
    Chosen,
    Question,
    Reading,
    image_errors,
    preselect,
)

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
        cells = decoder.cells(rows_of(hidden, kept))                       # (B, K, features)

        guess = cost(self.second(cells, wanted)) + price
        kept = _shortlist(guess, number % n, n, self.num_full)
        number, price = number.gather(1, kept), price.gather(1, kept)

        errors = image_errors(decoder, rows_of(cells, kept), decoder.nested(image))
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
        errors = image_errors(decoder, decoder.cells(rows_of(flat, kept)),
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


def rows_of(table: Tensor, column: Tensor) -> Tensor:
    """:return: (B, K, features) rows of a table (B, N, features); whole rows, not elements."""
    start = torch.arange(table.shape[0], device=table.device)[:, None] * table.shape[1]
    flat = table.flatten(0, 1)[(start + column).flatten()]
    return flat.reshape(*column.shape, table.shape[2])
