"""How far an image's features are from those of the images that an identity was learnt from."""
import torch
from torch import Tensor, nn

from imn_world_model.model.looks import Looks

# Of the within-identity covariance: so much of its mean variance is added to every direction,
# since few images tell little of many directions.
SHRINKAGE = 0.3
# Views of an enrolled object are expected so many standard deviations beyond their mean distance.
DEVIATIONS = 3.0


class Familiarity(nn.Module):
    """
    Identities as Gaussians of one covariance in the recognizer's features (Lee et al. 2018,
    arXiv:1807.03888).

    :param mean: (n, d), of each identity's features.
    :param whitening: (d, d), the Cholesky factor of the inverse covariance.
    :param scale: (n,), distances to each count by it: 1, more for one whose images differ more
        than those of the others.
    :param looks: tells strangeness in place of these, where features came with a package.
    """

    mean: Tensor
    whitening: Tensor
    scale: Tensor

    def __init__(self, mean: Tensor, whitening: Tensor, scale: Tensor,
                 looks: Looks | None = None) -> None:
        super().__init__()
        self.looks = looks
        self.register_buffer('mean', mean)
        self.register_buffer('whitening', whitening)
        self.register_buffer('scale', scale)

    @staticmethod
    def fit(features: Tensor, identity: Tensor, signature: Tensor,
            look: Tensor | None = None) -> 'Familiarity':
        """
        Learn from images and what the network names them; no labels.

        :param features: (K, d) of length 1.
        :param identity: (K,) int64.
        :param signature: (n, d), stands in for the mean of an identity without images.
        :param look: (K, D), see :func:`looks.look_of`; ``None`` for features learnt from the log.
        """
        mean, count = signature.clone(), torch.bincount(identity, minlength=len(signature))
        total = torch.zeros_like(mean).index_add_(0, identity, features)
        mean = torch.where(count[:, None] > 0, total / count.clamp(min=1)[:, None], mean)
        apart = (features - mean[identity]).double()
        covariance = apart.T @ apart / len(apart)
        level = covariance.diagonal().mean().clamp(min=1e-9)
        covariance += SHRINKAGE * level * torch.eye(len(covariance), dtype=torch.double)
        whitening = torch.linalg.cholesky(torch.linalg.inv(covariance)).float()
        return Familiarity(mean, whitening, torch.ones(len(mean)),
                           None if look is None else Looks.fit(look, identity))

    @property
    def reach(self) -> float:
        """Strangeness is a difference of vectors of this length; its rounding is in proportion."""
        if self.looks is not None:
            return self.looks.reach
        return float((self.mean @ self.whitening).norm(dim=1).max())

    def forward(self, features: Tensor, look: Tensor | None = None) -> Tensor:
        """
        Distance to the nearest identity, the *strangeness* of an image; a Mahalanobis distance.

        :param features: (B, d) of length 1.
        :param look: (B, D) where there are looks: these tell it.
        :return: (B,), at least 0.
        """
        if self.looks is not None:
            strangeness: Tensor = self.looks(look)
            return strangeness
        own, known = features @ self.whitening, self.mean @ self.whitening
        square = (own[:, None] - known).square().sum(2)                  # (B, n)
        return (square / self.scale.square()).amin(1).sqrt()

    def kept(self, numbers: Tensor) -> 'Familiarity':
        """:return: of some of the identities, by number."""
        return Familiarity(self.mean[numbers], self.whitening, self.scale[numbers],
                           None if self.looks is None else self.looks.kept(numbers))

    def merged(self, first: int, second: int) -> 'Familiarity':
        """:return: with the first identity looking like the first two together."""
        mean, scale = self.mean.clone(), self.scale.clone()
        mean[first] = (mean[first] + mean[second]) / 2
        # Far enough for the images of either.
        apart = ((mean[first] - mean[second]) @ self.whitening).norm()
        usual = self.mean.shape[1] ** 0.5             # distance of an identity's own images
        scale[first] = torch.maximum(scale[first], scale[second]) + apart / usual
        return Familiarity(mean, self.whitening, scale,
                           None if self.looks is None else self.looks.merged(first, second))

    def joined(self, features: Tensor, threshold: float, look: Tensor | None = None
               ) -> 'Familiarity':
        """
        Add an identity.

        :param features: (K, d) of its views.
        :param threshold: the strangeness from which on an image is novel; the new one's scale is
            such that its own views are not.
        :param look: (K, D) of its views, where there are looks.
        """
        mean, looks = features.mean(0), self.looks
        if looks is not None:
            assert look is not None
            looks = looks.joined(look, len(self.mean), threshold, DEVIATIONS)
        count = len(features)
        # Of each view to the mean of the others.
        away = ((features - mean) @ self.whitening).norm(dim=1) * count / max(1, count - 1)
        farthest = float(away.mean() + DEVIATIONS * away.std(correction=0))
        scale = max(1.0, farthest / threshold)
        return Familiarity(torch.cat((self.mean, mean[None])), self.whitening,
                           torch.cat((self.scale, self.scale.new_tensor([scale]))), looks)

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """
        Features as the known identities have them.

        :param count: of each identity.
        :return: (n*count, d) of length 1, and their (n*count,) identities.
        """
        identity = torch.arange(len(self.mean)).repeat(count)
        noise = torch.randn(len(identity), self.mean.shape[1], generator=generator)
        # whitening @ whitening.T is the inverse covariance.
        spread = torch.linalg.solve_triangular(self.whitening.T, noise.T, upper=True).T
        return nn.functional.normalize(self.mean[identity] + spread, dim=1), identity
