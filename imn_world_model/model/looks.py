"""
How strange an image looks beside those of all identities: frozen features, and colours.

What tells a thing from another of its kind is often its colour, and that is what a network that
learnt kinds looks past. Distances are relative: to the nearest identity, as a share of that to
what all images have in common.
"""
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Chosen on ETH-80's sessions a and b, with other objects left out in turn, see docs/enrolment.md.
COLOUR_WEIGHT, AXES, SHRINKAGE = 3.0, 200, 0.03
# Steps of each channel; a colour counts for the steps beside it, by its distance to each.
STEPS = 6
# Side of the picture that colours are counted in, and the standard deviation of the weight of its
# middle, as a share of the side.
SIDE, MIDDLE = 32, 0.25
# Parts that clips are dealt to: each is judged by what the others tell.
FOLDS = 8
# Against images that are just what all images have in common.
LEAST = 1e-6


class Looks(nn.Module):
    """
    Identities as Gaussians of one covariance, beside one Gaussian of all images.

    The strangeness of an image is a relative Mahalanobis distance (Ren et al. 2021,
    arXiv:2106.09022), here as a ratio: some 1 for images of what is known.

    :param axes: (D, k), principal axes of looks.
    :param centre: (D,), the mean of all looks.
    :param mean: (r, k), an entry for each identity's mean along the axes; one of two that were
        made one has two.
    :param owner: (r,) int64, the identity of each.
    :param scale: (r,), distances to each count by it.
    :param within: (k, k), the Cholesky factor of the inverse covariance within identities.
    :param whole: (k, k), that of all images.
    """

    axes: Tensor
    centre: Tensor
    mean: Tensor
    owner: Tensor
    scale: Tensor
    within: Tensor
    whole: Tensor

    def __init__(self, axes: Tensor, centre: Tensor, mean: Tensor, owner: Tensor, scale: Tensor,
                 within: Tensor, whole: Tensor) -> None:
        super().__init__()
        for name, value in (('axes', axes), ('centre', centre), ('mean', mean), ('owner', owner),
                            ('scale', scale), ('within', within), ('whole', whole)):
            self.register_buffer(name, value)

    @property
    def reach(self) -> float:
        """See :attr:`familiarity.Familiarity.reach`."""
        whole = (self.mean @ self.whole).norm(dim=1).clamp(min=LEAST ** 0.5)
        return float(((self.mean @ self.within).norm(dim=1) / whole).max())

    @staticmethod
    def fit(look: Tensor, identity: Tensor) -> 'Looks':
        """
        Learn from images and what the network names them; no labels.

        :param look: (K, D), see :func:`look_of`.
        :param identity: (K,) int64; an identity without images looks like nothing.
        """
        centre = look.mean(0)
        apart = (look - centre).double()
        count = min(AXES, len(look), look.shape[1])
        axes = torch.linalg.svd(apart, full_matrices=False).Vh[:count].T
        along = apart @ axes
        owner, row = torch.unique(identity, return_inverse=True)
        total = along.new_zeros(len(owner), count).index_add_(0, row, along)
        mean = total / torch.bincount(row)[:, None]
        return Looks(axes.float(), centre, mean.float(), owner, torch.ones(len(owner)),
                     _whitening(along - mean[row]), _whitening(along))

    def forward(self, look: Tensor) -> Tensor:
        """
        Strangeness of images.

        :param look: (B, D).
        :return: (B,), at least 0.
        """
        along = (look - self.centre) @ self.axes
        square = (along @ self.within)[:, None] - self.mean @ self.within    # (B, r, k)
        nearest = (square.square().sum(2) / self.scale.square()).amin(1)
        return (nearest / (along @ self.whole).square().sum(1).clamp(min=LEAST)).sqrt()

    def kept(self, numbers: Tensor) -> 'Looks':
        """:return: of some of the identities, by number."""
        place = torch.cat([torch.full((int((self.owner == number).sum()),), k)
                           for k, number in enumerate(numbers.tolist())])
        rows = torch.cat([torch.nonzero(self.owner == number)[:, 0]
                          for number in numbers.tolist()])
        return self._with(self.mean[rows], place, self.scale[rows])

    def merged(self, first: int, second: int) -> 'Looks':
        """:return: with what the second identity looked like given to the first."""
        return self._with(self.mean, torch.where(self.owner == second, first, self.owner),
                          self.scale)

    def joined(self, look: Tensor, number: int, threshold: float, deviations: float) -> 'Looks':
        """
        Add an identity.

        :param look: (K, D) of its views.
        :param number: of the new one.
        :param threshold: the strangeness from which on an image is novel; the new one's scale is
            such that its own views are not.
        :param deviations: they are expected so many standard deviations beyond their mean.
        """
        along = (look - self.centre) @ self.axes
        mean = along.mean(0)
        alone = self._with(mean[None], torch.zeros(1, dtype=torch.int64), torch.ones(1))
        # Of each view to the mean of the others.
        away = alone(look) * len(look) / max(1, len(look) - 1)
        farthest = float(away.mean() + deviations * away.std(correction=0))
        return self._with(torch.cat((self.mean, mean[None])),
                          torch.cat((self.owner, torch.tensor([number]))),
                          torch.cat((self.scale, torch.tensor([max(1.0, farthest / threshold)]))))

    def _with(self, mean: Tensor, owner: Tensor, scale: Tensor) -> 'Looks':
        return Looks(self.axes, self.centre, mean, owner, scale, self.within, self.whole)


def look_of(given: Tensor, image: Tensor) -> Tensor:
    """
    What images look like.

    :param given: (B, G) of length 1, features that no log was needed for.
    :param image: (B, 3, S, S) in [0, 1].
    :return: (B, G + 216).
    """
    return torch.cat((given, COLOUR_WEIGHT * colours(image).sqrt()), 1)


def colours(image: Tensor) -> Tensor:
    """
    Shares of colours near the middle.

    :param image: (B, 3, S, S) in [0, 1], S a multiple of :data:`SIDE`, or SIDE of it.
    :return: (B, STEPS**3), a row sums to 1.
    """
    small = F.avg_pool2d(image, max(1, image.shape[-1] // SIDE)).flatten(2)  # (B, 3, P)
    side = round(small.shape[2] ** 0.5)
    place = (torch.arange(side, device=image.device) + 0.5) / side - 0.5
    weight = torch.exp(-(place[:, None].square() + place.square()) / (2 * MIDDLE ** 2)).flatten()
    steps = torch.linspace(0, 1, STEPS, device=image.device)[:, None]
    red, green, blue = ((1 - (small[:, channel, None] - steps).abs() * (STEPS - 1)).clamp(min=0)
                        for channel in range(3))                             # (B, STEPS, P)
    both = (red[:, :, None] * green[:, None]).flatten(1, 2)
    return (both @ (blue * (weight / weight.sum())).mT).flatten(1)


def kept_back(look: Tensor, identity: Tensor, clip: np.ndarray) -> Tensor:
    """
    How strange images are to a model that has not seen their clip, but another one of the same.

    It is a little more than how strange images of a further clip will be: the model will know one
    clip more than it does here.

    :param look: (K, D).
    :param identity: (K,) int64, what the network names them.
    :param clip: (K,) clip of each.
    :return: strangeness of the K' images whose identity has another clip; may be empty.
    """
    names, number = np.unique(clip, return_inverse=True)
    part = torch.from_numpy(np.random.default_rng(0).permutation(len(names))[number] % FOLDS)
    found = [look.new_zeros(0)]
    for fold in range(FOLDS):
        learn, judge = part != fold, part == fold
        judge &= torch.isin(identity, identity[learn])
        if judge.any():
            found.append(Looks.fit(look[learn], identity[learn])(look[judge]))
    return torch.cat(found)


def _whitening(apart: Tensor) -> Tensor:
    """:return: (k, k), the Cholesky factor of the inverse covariance of rows (K, k) about 0."""
    covariance = apart.T @ apart / len(apart)
    level = covariance.diagonal().mean().clamp(min=1e-9)
    covariance += SHRINKAGE * level * torch.eye(len(covariance), dtype=apart.dtype)
    return torch.linalg.cholesky(torch.linalg.inv(covariance)).float()
