"""Finding the winner among the P*n candidates: the argmax of Eq. (9), by two strategies."""
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from imn_world_model.combine import subset_transforms
from imn_world_model.decoder import Decoder
from imn_world_model.score import REFERENCE_PIXELS, image_loss


@dataclass(frozen=True)
class Question:
    """
    What a strategy needs to know.

    :param image: (B, 3, H, W) in [0, 1].
    :param comp_T: (B, m, u, u).
    :param identity_T: (n, u, u).
    :param price: (B, P), what a subset costs before anything is decoded: weighted KL plus, in its
        algebraic form, weighted independence.
    :param image_weight: weight of the squared error.
    :param decoded_price: from (subset, identity) index tensors (B, K) to a further cost (B, K)
        that takes decoding: independence in its hessian form. ``None`` when there is none.
    :param identity_price: (B, n), what the recognizer says against an identity, weighted; ``None``
        without one.
    :param image_scale: weighted squared error from which on it counts by its logarithm; ``None``
        for never.
    """

    image: Tensor
    comp_T: Tensor
    identity_T: Tensor
    price: Tensor
    image_weight: float
    decoded_price: Callable[[Tensor, Tensor], Tensor] | None = None
    identity_price: Tensor | None = None
    image_scale: Tensor | None = None

    def image_price(self, error: Tensor) -> Tensor:
        """
        What a squared error costs.

        In proportion to it, as under a Gaussian of known variance; with ``image_scale`` as under
        Student's t: in a light that training never saw every candidate is far off, and by how
        much says little of the object.

        :param error: (...), Eq. (7) or an estimate of it.
        :return: the same shape.
        """
        price = self.image_weight * error
        if self.image_scale is None:
            return price
        return self.image_scale * torch.log1p(price.clamp(min=0.0) / self.image_scale)


@dataclass(frozen=True)
class Answer:
    """
    The best subset of each identity.

    :param identity_scores: (B, n), the score of each identity with its best subset.
    :param subset: (B, n), that subset's number.
    """

    identity_scores: Tensor
    subset: Tensor


# Identities that a fast search looks at with every subset.
MAX_IDENTITIES = 8

Strategy = Callable[[Decoder, Question], Answer]


def exhaustive(decoder: Decoder, question: Question, chunk: int = 31) -> Answer:
    """
    Decode every candidate in full: the reference.

    :param chunk: candidates of each image decoded at once, a bound on memory.
    """
    score = exhaustive_scores(decoder, question, chunk)                  # (B, P, n)
    identity_scores, subset = score.max(dim=1)
    return Answer(identity_scores, subset)


def exhaustive_scores(decoder: Decoder, question: Question, chunk: int = 31) -> Tensor:
    """:return: ``score`` of every candidate (B, P, n), Eq. (9)."""
    subset_T = subset_transforms(question.comp_T)
    hidden = decoder.hidden_of_candidates(subset_T, question.identity_T)   # (B, P, n, hidden)
    num_images, num_subsets, n = hidden.shape[:3]
    everyone = Chosen(torch.arange(n, device=hidden.device)[None])
    loss = -candidate_scores(decoder, question, everyone, hidden, chunk)
    if question.decoded_price is not None:
        number = torch.arange(num_subsets * n, device=loss.device).expand(num_images, -1)
        parts = [question.decoded_price(part // n, part % n)
                 for part in number.split(chunk, dim=1)]
        loss = loss + torch.cat(parts, 1).unflatten(1, (num_subsets, n))
    return -loss


def candidate_scores(decoder: Decoder, question: Question, chosen: 'Chosen', hidden: Tensor,
                     chunk: int = 31) -> Tensor:
    """
    Decode candidates in full; the price that takes decoding is left out.

    :param chosen: K identities of each image.
    :param hidden: (B, P, K, hidden), the candidates' first layers.
    :param chunk: candidates of each image decoded at once, a bound on memory.
    :return: ``score`` (B, P, K).
    """
    target = decoder.nested(question.image)
    errors = [image_errors(decoder, decoder.cells(part), target)
              for part in hidden.flatten(1, 2).split(chunk, dim=1)]
    loss = question.image_price(torch.cat(errors, 1).unflatten(1, hidden.shape[1:3]))
    loss = loss + question.price[:, :, None]
    if question.identity_price is not None:
        loss = loss + chosen.price(question.identity_price)[:, None]
    return -loss


def coarse_errors(decoder: Decoder, question: Question) -> Callable[[Tensor], Tensor]:
    """
    The early head's estimate of what the image error costs.

    :return: from first layers (B, ..., hidden) to estimates (B, ...).
    """
    target = F.adaptive_avg_pool2d(question.image, decoder.coarse_size)

    def error(hidden: Tensor) -> Tensor:
        wanted = target[(slice(None), *[None] * (hidden.dim() - 2))]
        return question.image_price(image_loss(decoder.coarse(hidden), wanted))
    return error


def coarse_to_fine(decoder: Decoder, question: Question) -> Answer:
    """
    Look at every candidate through the early head, decode the best of each identity in full.

    One matrix product gives the first layer of all candidates, one more their coarse pictures;
    full decodes then give the identities' true scores. Of more than :data:`MAX_IDENTITIES` only
    those are looked at that do best with all modules, see :func:`preselect`.
    """
    subset_T = subset_transforms(question.comp_T)
    coarse_error = coarse_errors(decoder, question)
    chosen = preselect(decoder, question, subset_T[:, -1], coarse_error)
    hidden = chosen.hidden_of_candidates(decoder, question, subset_T)      # (B, P, K, hidden)
    guess = coarse_error(hidden) + question.price[:, :, None]
    subset = guess.argmin(dim=1)                                           # (B, K)
    index = subset[:, None, :, None].expand(-1, -1, -1, hidden.shape[-1])
    best = hidden.gather(1, index).squeeze(1)                              # (B, K, hidden)
    errors = image_errors(decoder, decoder.cells(best), decoder.nested(question.image))
    loss = question.image_price(errors) + question.price.gather(1, subset)
    if question.identity_price is not None:
        loss = loss + chosen.price(question.identity_price)
    if question.decoded_price is not None:
        loss = loss + question.decoded_price(subset, chosen.identity.expand_as(subset))
    return chosen.answer(loss, subset)


@dataclass(frozen=True)
class Chosen:
    """
    The identities that a search looks at.

    :param identity: (1, n) all of them, or (B, K) the most promising of each image.
    :param guess: (B, n) an estimate of every identity's loss, up to a constant of the image;
        ``None`` where all are looked at.
    :param last_subset: number of the subset of all modules.
    """

    identity: Tensor
    guess: Tensor | None = None
    last_subset: int = 0

    def hidden_of_candidates(self, decoder: Decoder, question: Question,
                             subset_T: Tensor) -> Tensor:
        """
        The decoder's first layer.

        :param subset_T: (B, P, u, u).
        :return: (B, P, K, hidden).
        """
        if self.guess is None:
            return decoder.hidden_of_candidates(subset_T, question.identity_T)
        identity_T = question.identity_T[self.identity]                    # (B, K, u, u)
        return decoder.hidden(subset_T[:, :, None] @ identity_T[:, None])

    def price(self, identity_price: Tensor) -> Tensor:
        """:return: (B, K), the chosen identities' part of prices (B, n)."""
        return identity_price if self.guess is None else identity_price.gather(1, self.identity)

    def answer(self, loss: Tensor, subset: Tensor) -> Answer:
        """
        Give every identity its score.

        One that was not looked at gets its estimate, as far as the estimate was off for those
        that were, and is never better than the worst of them.

        :param loss: (B, K) of the chosen identities with their best subset.
        :param subset: (B, K), that subset.
        """
        if self.guess is None:
            return Answer(-loss, subset)
        off = (loss - self.guess.gather(1, self.identity)).amax(1, keepdim=True)
        rest = torch.maximum(self.guess + off, loss.amax(1, keepdim=True))
        every = torch.full_like(self.guess, self.last_subset, dtype=subset.dtype)
        return Answer(-rest.scatter(1, self.identity, loss),
                      every.scatter(1, self.identity, subset))


def preselect(decoder: Decoder, question: Question, whole_T: Tensor,
              error: Callable[[Tensor], Tensor]) -> Chosen:
    """
    The identities worth a look: all of a few, of many the best with all modules.

    :param whole_T: (B, u, u), the product of all modules.
    :param error: from first layers (B, n, hidden) to estimates (B, n) of what the image error
        costs.
    """
    n = len(question.identity_T)
    if n <= MAX_IDENTITIES:
        return Chosen(torch.arange(n, device=whole_T.device)[None])
    guess = error(decoder.hidden(whole_T[:, None] @ question.identity_T))  # (B, n)
    if question.identity_price is not None:
        guess = guess + question.identity_price
    best = guess.topk(MAX_IDENTITIES, dim=1, largest=False).indices
    return Chosen(best, guess, question.price.shape[1] - 1)


def image_errors(decoder: Decoder, cells: Tensor, target: Tensor) -> Tensor:
    """
    Eq. (7) of candidates, without laying one of them out as a picture.

    :param cells: (B, K, features) of K candidates.
    :param target: (B, H*W*3), ``decoder.nested`` of their image.
    :return: (B, K), at the scale of :func:`score.image_loss`.
    """
    pixels = decoder.pixels_of(cells).to(target.dtype)                      # (B, K, H*W*3)
    scale = 3 * REFERENCE_PIXELS / target.shape[-1]
    return scale * (pixels - target[:, None]).square().sum(-1)


STRATEGIES: dict[str, Strategy] = {'exhaustive': exhaustive, 'fast': coarse_to_fine}
