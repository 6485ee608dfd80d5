"""Finding the winner among the P*n candidates: the argmax of Eq. (9), by two strategies."""
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from imn_world_model.model.combine import subset_transforms
from imn_world_model.model.decoder import Decoder
from imn_world_model.model.score import REFERENCE_PIXELS, image_loss


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


# Identities that a fast search looks at with every subset, and before that with all modules.
MAX_IDENTITIES = 8
MAX_SKETCHED = 64
# Subsets of an identity that the early head ranks best and training decodes. With one 1.2 % of the
# winners of export/shapes3d_run were others, with two none of 256.
TRIED = 2
# Numbers of a picture in the outline, by which many more are compared.
OUTLINE = 32

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


def exhaustive_winner(decoder: Decoder, question: Question, chunk: int = 512) -> Answer:
    """
    The winner of :func:`exhaustive`, without decoding what cannot win.

    No image error is below 0: a candidate whose other prices alone are above the loss of one that
    was decoded needs no decode. The winner is exact; identities that cannot win get a bound on
    their score.

    :param chunk: candidates decoded at once, a bound on memory.
    """
    first = coarse_to_fine(decoder, question)
    subset_T = subset_transforms(question.comp_T)
    n, num_subsets = len(question.identity_T), subset_T.shape[1]
    bound = question.price[:, :, None].expand(-1, -1, n)                 # (B, P, n)
    if question.identity_price is not None:
        bound = bound + question.identity_price[:, None]
    loss = bound.flatten(1).clone()                                      # (B, P*n)
    known = -first.identity_scores.amax(1)
    image, candidate = (loss <= known[:, None] * (1.0 + 1e-6)).nonzero(as_tuple=True)
    target = decoder.nested(question.image)
    for at, number in zip(image.split(chunk), candidate.split(chunk), strict=True):
        subset, identity = number // n, number % n
        cells = decoder.cells(decoder.hidden(subset_T[at, subset] @ question.identity_T[identity]))
        error = image_errors(decoder, cells[:, None], target[at])[:, 0]
        loss[at, number] += question.image_price(error)
    if question.decoded_price is not None:
        every = torch.arange(num_subsets * n, device=loss.device).expand_as(loss)
        loss = loss + torch.cat([question.decoded_price(part // n, part % n)
                                 for part in every.split(31, dim=1)], 1)
    # A bound that was not decoded lies above the known loss: it never wins.
    score, subset = (-loss).unflatten(1, (num_subsets, n)).max(dim=1)
    return Answer(score, subset)


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
    chosen = preselect(decoder, question, subset_T[:, -1], coarse_error,
                       lambda: coarse_reading(decoder, question, subset_T[:, -1]))
    hidden = chosen.hidden_of_candidates(decoder, question, subset_T)      # (B, P, K, hidden)
    guess = coarse_error(hidden) + question.price[:, :, None]
    subset = guess.topk(min(TRIED, guess.shape[1]), dim=1, largest=False).indices   # (B, T, K)
    best = hidden.gather(1, subset[..., None].expand(-1, -1, -1, hidden.shape[-1]))
    errors = image_errors(decoder, decoder.cells(best.flatten(1, 2)),
                          decoder.nested(question.image))                  # (B, T*K)
    price = question.price[:, :, None].expand_as(guess).gather(1, subset)  # (B, T, K)
    loss = question.image_price(errors.unflatten(1, subset.shape[1:])) + price
    if question.identity_price is not None:
        loss = loss + chosen.price(question.identity_price)[:, None]
    if question.decoded_price is not None:
        identity = chosen.identity[:, None].expand_as(subset)
        loss = loss + question.decoded_price(subset.flatten(1), identity.flatten(1)).view_as(loss)
    loss, place = loss.min(dim=1)                                          # (B, K)
    subset = subset.gather(1, place[:, None]).squeeze(1)
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
        return decoder.hidden(products(subset_T, identity_T))

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


def products(left: Tensor, right: Tensor) -> Tensor:
    """
    Every product of two sets of matrices, by one large matrix product for each image.

    :param left: (B, P, u, u).
    :param right: (B, K, u, u).
    :return: (B, P, K, u, u).
    """
    sizes = left.shape[1], left.shape[2], right.shape[1], right.shape[3]
    side_by_side = right.transpose(1, 2).flatten(2)                      # (B, u, K*u)
    product = left.flatten(1, 2) @ side_by_side                          # (B, P*u, K*u)
    return product.unflatten(2, sizes[2:]).unflatten(1, sizes[:2]).transpose(2, 3)


@dataclass(frozen=True)
class Reading:
    """
    A few numbers of a picture, read straight from the decoder's first layer.

    :param weight: (hidden, r).
    :param wanted: (B, r), what the image asks for, without the reading's bias.
    :param cost: from squared errors (B, K) of the r numbers to what the image error costs.
    """

    weight: Tensor
    wanted: Tensor
    cost: Callable[[Tensor], Tensor]


def preselect(decoder: Decoder, question: Question, whole_T: Tensor,
              error: Callable[[Tensor], Tensor], reading: Callable[[], Reading]) -> Chosen:
    """
    The identities worth a look: all of a few, of many the best with all modules.

    Of more than :data:`MAX_SKETCHED` only those whose :func:`outline` is best get so far.

    :param whole_T: (B, u, u), the product of all modules.
    :param error: from first layers (B, K, hidden) to estimates (B, K) of what the image error
        costs.
    :param reading: what the outline is made of, where it is needed.
    """
    n = len(question.identity_T)
    if n <= MAX_IDENTITIES:
        return Chosen(torch.arange(n, device=whole_T.device)[None])
    last = question.price.shape[1] - 1
    whole_T = whole_T[:, None]                                           # (B, 1, u, u)
    if n <= MAX_SKETCHED:
        everything = products(whole_T, question.identity_T[None]).squeeze(1)
        guess = error(decoder.hidden(everything))                        # (B, n)
        if question.identity_price is not None:
            guess = guess + question.identity_price
        return Chosen(_least(guess, MAX_IDENTITIES), guess, last)
    guess = outline(decoder, question, whole_T, reading())               # (B, n)
    if question.identity_price is not None:
        guess = guess + question.identity_price
    some = _least(guess, MAX_SKETCHED)                                   # (B, 64)
    hidden = decoder.hidden(products(whole_T, question.identity_T[some]).squeeze(1))
    better = error(hidden)
    if question.identity_price is not None:
        better = better + question.identity_price.gather(1, some)
    best = some.gather(1, _least(better, MAX_IDENTITIES))
    return Chosen(best, guess.scatter(1, some, better), last)


def _least(value: Tensor, count: int) -> Tensor:
    return value.topk(count, dim=1, largest=False).indices


def outline(decoder: Decoder, question: Question, whole_T: Tensor, reading: Reading) -> Tensor:
    """
    What each identity's picture costs, to first order about the mean identity.

    The reading is a smooth function of the identity matrix; its derivative is one small matrix
    for each image, and a product with all identities costs a tenth of their first layers.

    :param whole_T: (B, 1, u, u), the product of all modules.
    :return: (B, n).
    """
    centre = question.identity_T.mean(0)                                 # (u, u)
    spread = (question.identity_T - centre).flatten(1)                   # (n, u*u)
    before = decoder.first((whole_T @ centre).flatten(1))                # (B, hidden)
    gate = before.sigmoid()
    slope = gate * (1.0 + before * (1.0 - gate))                         # of SiLU
    through = (slope[:, :, None] * reading.weight).mT @ decoder.first.weight   # (B, r, u*u)
    matrices = through.unflatten(2, centre.shape)                        # (B, r, u, u)
    change = (whole_T.mT @ matrices).flatten(2) @ spread.T               # (B, r, n)
    value = (before * gate) @ reading.weight                             # (B, r)
    missing = (reading.wanted - value)[:, :, None] - change              # (B, r, n)
    return reading.cost(missing.square().sum(1))


def coarse_reading(decoder: Decoder, question: Question, whole_T: Tensor) -> Reading:
    """
    The early head's reading: the directions in which the identities' coarse pictures differ most.

    :param whole_T: (B, u, u), the product of all modules.
    """
    head = decoder.coarse_head
    mean_T = whole_T.mean(0)
    pictures = decoder.coarse(decoder.hidden(mean_T @ question.identity_T)).flatten(1)   # (n, c)
    pictures = pictures - pictures.mean(0)
    with torch.autocast(pictures.device.type, enabled=False):            # no half eigenvalues
        spread = pictures.float().T @ pictures.float()
        _, directions = torch.linalg.eigh(spread)                        # ascending
    directions = directions[:, -OUTLINE:].to(head.weight.dtype)          # (c, r)
    target = F.adaptive_avg_pool2d(question.image, decoder.coarse_size).flatten(1) - head.bias
    wanted = target @ directions
    centre = decoder.hidden(whole_T @ question.identity_T.mean(0)) @ head.weight.T - target
    outside = centre.square().sum(1) - (centre @ directions).square().sum(1)
    scale = REFERENCE_PIXELS / decoder.coarse_size ** 2
    return Reading(head.weight.T @ directions, wanted,
                   lambda error: question.image_price(scale * (error + outside[:, None])))


def image_errors(decoder: Decoder, cells: Tensor, target: Tensor) -> Tensor:
    """
    Eq. (7) of candidates, without laying one of them out as a picture.

    :param cells: (B, K, features) of K candidates.
    :param target: (B, H*W*3), ``decoder.nested`` of their image.
    :return: (B, K), at the scale of :func:`score.image_loss`.
    """
    pixels = decoder.pixels_of(cells).to(target.dtype)                      # (B, K, H*W*3)
    scale = 3 * REFERENCE_PIXELS / target.shape[-1]
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return scale * (pixels - target[:, None]).square().sum(-1)
    # Pictures are large: they are gone through twice and written once.
    return scale * torch.linalg.vector_norm(pixels.sub_(target[:, None]), dim=-1).square()


STRATEGIES: dict[str, Strategy] = {'exhaustive': exhaustive, 'fast': coarse_to_fine}
