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
    """

    image: Tensor
    comp_T: Tensor
    identity_T: Tensor
    price: Tensor
    image_weight: float
    decoded_price: Callable[[Tensor, Tensor], Tensor] | None = None


@dataclass(frozen=True)
class Answer:
    """
    The best subset of each identity.

    :param identity_scores: (B, n), the score of each identity with its best subset.
    :param subset: (B, n), that subset's number.
    """

    identity_scores: Tensor
    subset: Tensor


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
    per_image = hidden.flatten(1, 2)                                       # (B, P*n, hidden)
    target = decoder.nested(question.image)
    errors = [image_errors(decoder, decoder.cells(part), target)
              for part in per_image.split(chunk, dim=1)]
    loss = question.image_weight * torch.cat(errors, 1).unflatten(1, (num_subsets, n))
    loss = loss + question.price[:, :, None]
    if question.decoded_price is not None:
        number = torch.arange(num_subsets * n, device=loss.device).expand(num_images, -1)
        parts = [question.decoded_price(part // n, part % n)
                 for part in number.split(chunk, dim=1)]
        loss = loss + torch.cat(parts, 1).unflatten(1, (num_subsets, n))
    return -loss


def coarse_to_fine(decoder: Decoder, question: Question) -> Answer:
    """
    Look at every candidate through the early head, decode the best of each identity in full.

    One matrix product gives the first layer of all candidates, one more their coarse pictures;
    n full decodes then give the identities' true scores.
    """
    subset_T = subset_transforms(question.comp_T)
    hidden = decoder.hidden_of_candidates(subset_T, question.identity_T)   # (B, P, n, hidden)
    coarse = decoder.coarse(hidden)
    target = F.adaptive_avg_pool2d(question.image, coarse.shape[-1])
    error = image_loss(coarse, target[:, None, None])                      # (B, P, n)
    guess = question.image_weight * error + question.price[:, :, None]
    subset = guess.argmin(dim=1)                                           # (B, n)
    index = subset[:, None, :, None].expand(-1, -1, -1, hidden.shape[-1])
    best = hidden.gather(1, index).squeeze(1)                              # (B, n, hidden)
    errors = image_errors(decoder, decoder.cells(best), decoder.nested(question.image))
    loss = question.image_weight * errors
    loss = loss + question.price.gather(1, subset)
    if question.decoded_price is not None:
        identity = torch.arange(subset.shape[1], device=subset.device).expand_as(subset)
        loss = loss + question.decoded_price(subset, identity)
    return Answer(-loss, subset)


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
