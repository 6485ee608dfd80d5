"""What the winner learns from: Eq. (10) and the optional ID classifier of section III-C2."""
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imn_world_model.base.config import ModelConfig


@dataclass(frozen=True)
class Terms:
    """
    The winner's loss, term by term, each (B,) and already weighted.

    :param image: Eq. (7).
    :param independence: Eq. (8).
    :param kl: KL summed over the active modules.
    :param extra: L_extra of Eq. (10), and the early head's own error.
    :param classifier: the ID classifier's terms; zero without labels.
    :param recognition: what the recognizer says against the winner; zero without one.
    """

    image: Tensor
    independence: Tensor
    kl: Tensor
    extra: Tensor
    classifier: Tensor
    recognition: Tensor

    def total(self) -> Tensor:
        """:return: (B,), Eq. (10)."""
        return (self.image + self.independence + self.kl + self.extra + self.classifier
                + self.recognition)

    def means(self) -> dict[str, Tensor]:
        """:return: the mean of each term, by name."""
        return {item.name: getattr(self, item.name).mean() for item in fields(self)}


def group_feature_error(group_feature: Tensor, comp_T: Tensor, active: Tensor) -> Tensor:
    """
    The Lie-group VAE's group-feature reconstruction, for the active modules.

    :param group_feature: (B, m, u, u), the encoders' own guess of the group element.
    :param comp_T: (B, m, u, u), the element that the coordinates give.
    :param active: (B, m) boolean.
    :return: (B,), squared distance summed over the active modules' matrices.
    """
    error = (group_feature - comp_T).square().sum((-2, -1))              # (B, m)
    return (error * active).sum(-1)


def subspace_error(mu: Tensor, guess: Tensor) -> Tensor:
    """
    Distance of the modules' means from their first guess.

    :param mu: (B, m, L).
    :param guess: (B, m, L), see :mod:`subspaces`; NaN where a coordinate is free.
    :return: (B,), squared distance summed over coordinates.
    """
    return (mu - guess).nan_to_num().square().sum((-2, -1))


def radius_variance(mu: Tensor) -> Tensor:
    """
    How far modules are from moving their images about an orbit, as a one-parameter group does.

    The group of a hue, or of any angle, moves the coordinates about a circle. A second factor can
    hide in the circle's radius and cost next to nothing there; the variance of the radius,
    relative to its mean square, makes it take a module of its own. A module of one live coordinate
    has no circle: each module counts by how round its cloud is, the ratio of the second to the
    first principal variance (no gradient).

    :param mu: (B, m, L), a batch of means.
    :return: (), summed over modules; 0 where B or L is 1. Of several processes each sees its own
        part of the batch: with few images in each, the variance comes out smaller.
    """
    if mu.shape[-1] < 2 or len(mu) < 2:
        return mu.new_zeros(())
    centred = (mu - mu.mean(0)).detach().float()
    with torch.autocast(mu.device.type, enabled=False):                  # no half eigenvalues
        covariance = torch.einsum('bml,bmk->mlk', centred, centred) / len(mu)
        variances = torch.linalg.eigvalsh(covariance)                    # (m, L), ascending
    roundness = variances[:, -2] / variances[:, -1].clamp(min=1e-3)
    radius = mu.float().norm(dim=-1)                                     # (B, m)
    # A module that wakes up is no circle yet and shall not pay; a circle's mean square is 1 to 2.
    relative = radius.var(0) / (radius.mean(0).square() + 0.25)
    return (roundness * relative).sum()


class IdClassifier(nn.Module):
    """
    Section III-C2: a fully connected classifier on the winner's identity matrix.

    :param config: sizes of the network.
    :param num_labels: classes.
    """

    def __init__(self, config: ModelConfig, num_labels: int, width: int = 128) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Linear(config.matrix_size ** 2, width), nn.ReLU(), nn.Linear(width, width))
        self.logits = nn.Sequential(nn.ReLU(), nn.Linear(width, num_labels))

    def label_loss(self, identity_T: Tensor, label: Tensor) -> Tensor:
        """
        Cross-entropy of the label under the identity matrix alone.

        :param identity_T: (B, u, u), the winner's identity of each image.
        :param label: (B,) class indices.
        :return: (B,), nats.
        """
        logits = self.logits(self.features(identity_T.flatten(-2)))
        return F.cross_entropy(logits, label, reduction='none')

    def identity_costs(self, identity_T: Tensor, label: Tensor) -> Tensor:
        """
        What each identity would cost under the label.

        :param identity_T: (n, u, u).
        :param label: (B,) class indices.
        :return: (B, n), nats.
        """
        logits = self.logits(self.features(identity_T.flatten(-2)))      # (n, labels)
        return -F.log_softmax(logits, dim=-1).T[label]

    def unchanged_loss(self, identity_T: Tensor, cand_T: Tensor) -> Tensor:
        """
        How far the compositional modules move the classifier's features of the identity.

        :param identity_T: (B, u, u).
        :param cand_T: (B, u, u), the winner's combined matrix.
        :return: (B,), the squared L2 distance per feature.
        """
        before = self.features(identity_T.flatten(-2))
        after = self.features(cand_T.flatten(-2))
        return torch.mean((before - after).square(), dim=-1)
