"""
The Independent Modular Network, section III of the paper. Open this file first.

Letters: B batch, m compositional modules, n identities, P = 2**m - 1 subsets of modules, L latents
per module, u side of a matrix, H = W side of the image. Names: ``comp_T`` (B, m, u, u) the
modules' matrices, ``identity_T`` (n, u, u) the identities, ``subset_T`` (B, P, u, u) products,
``cand_T = subset_T @ identity_T`` the candidates, ``recon = d(cand_T)``, ``score`` of Eq. (9),
``winner`` its argmax. With a recognizer (:mod:`recognition`) a candidate is also judged by
what its identity's images look like beyond pixels.
"""
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imn_world_model.base.config import LossConfig, ModelConfig
from imn_world_model.model.combine import active_product, subset_mask_tensor
from imn_world_model.model.decoder import Decoder
from imn_world_model.model.losses import IdClassifier, Terms, group_feature_error
from imn_world_model.model.modules import CompositionalModules, IdentityModules
from imn_world_model.model.recognition import Recognizer
from imn_world_model.model.score import (
    algebraic_independence,
    choice_cost,
    hessian_independence,
    image_loss,
    kl_divergence,
)
from imn_world_model.model.winner import Answer, Question, Strategy, coarse_to_fine


@dataclass(frozen=True)
class Encoding:
    """
    What the compositional modules say of an image.

    :param mu: (B, m, L).
    :param logvar: (B, m, L).
    :param z: (B, m, L), a sample in training, the mean otherwise.
    :param comp_T: (B, m, u, u).
    :param group_feature: (B, m, u, u).
    :param kl: (B, m), nats.
    :param evidence: (B, n), log-probabilities of the identities by the recognizer; ``None``
        without one.
    :param features: (B, d), the recognizer's; likewise.
    """

    mu: Tensor
    logvar: Tensor
    z: Tensor
    comp_T: Tensor
    group_feature: Tensor
    kl: Tensor
    evidence: Tensor | None = None
    features: Tensor | None = None


@dataclass(frozen=True)
class Output:
    """
    The model's answer.

    :param encoding: what the modules said.
    :param identity_scores: (B, n), the best score of each identity.
    :param identity: (B,), the winner's identity.
    :param subset: (B,), the winner's subset number, see ``combine.subset_masks``.
    :param active: (B, m) boolean, the same as a mask.
    :param transform: (B, u, u), product of the active modules.
    :param score: (B,), the winner's score.
    :param recon: (B, 3, H, W).
    """

    encoding: Encoding
    identity_scores: Tensor
    identity: Tensor
    subset: Tensor
    active: Tensor
    transform: Tensor
    score: Tensor
    recon: Tensor


class IndependentModularNetwork(nn.Module):
    """
    The network and its loss.

    :param config: sizes.
    :param loss: weights of the score's and the loss's terms.
    :param num_labels: classes of the ID classifier; 0 leaves it out.
    """

    masks: Tensor
    subset_share: Tensor
    image_level: Tensor

    def __init__(self, config: ModelConfig, loss: LossConfig, num_labels: int = 0) -> None:
        super().__init__()
        self.config = config
        self.loss_config = loss
        self.compositional = CompositionalModules(config)
        self.identities = IdentityModules(config)
        self.decoder = Decoder(config)
        self.classifier = IdClassifier(config, num_labels) if num_labels else None
        self.recognizer = Recognizer(config) if config.recognizer != 'none' else None
        self.register_buffer('masks', subset_mask_tensor(config.num_modules), persistent=False)
        num_subsets = len(self.masks)
        self.register_buffer('subset_share', torch.full((num_subsets,), 1.0 / num_subsets))
        # Weighted image error of training's winners, a running mean.
        self.register_buffer('image_level', torch.tensor(1e4), persistent=loss.image_tail > 0)

    def forward(self, image: Tensor, strategy: Strategy = coarse_to_fine,
                seen: Tensor | None = None) -> Output:
        """
        Section III for images whose identity is not shared: encode, combine, decode, choose.

        :param image: (B, 3, S, S) in [0, 1], S the side of the input.
        :param strategy: how the winner is found.
        :param seen: (B, d), the recognizer's features of the images, where they are known.
        """
        encoding = self.encode(image, seen=seen)                         # Eq. (1), (3)
        answer = self.search(self.reduced(image), encoding, strategy)    # Eq. (4) to (9)
        score, identity = answer.identity_scores.max(dim=1)              # winner = argmax
        subset = answer.subset.gather(1, identity[:, None]).squeeze(1)
        active = self.masks[subset]
        transform = active_product(encoding.comp_T, active)
        recon = self.decoder(transform @ self.identities()[identity])    # Eq. (6)
        return Output(encoding, answer.identity_scores, identity, subset, active, transform,
                      score, recon)

    def encode(self, image: Tensor, noise: Tensor | None = None,
               seen: Tensor | None = None) -> Encoding:
        """
        Eq. (1) and (3), and what the recognizer says.

        :param image: (B, 3, S, S) in [0, 1], S the side of the input, or H.
        :param noise: (B, m, L) standard normal; without it z is the posterior mean.
        :param seen: (B, d), the recognizer's features of other views of the same; by default
            those of the image.
        """
        mu, logvar, group_feature = self.compositional.encode(self.reduced(image))
        z = mu if noise is None else mu + noise * (0.5 * logvar).exp()
        comp_T = self.compositional.transform(z)
        evidence = features = None
        if self.recognizer is not None:
            features = self.recognizer.features(image) if seen is None else seen
            evidence = self.recognizer.evidence(features, self.identities())
        return Encoding(mu, logvar, z, comp_T, group_feature, kl_divergence(mu, logvar), evidence,
                        features)

    def reduced(self, image: Tensor) -> Tensor:
        """:return: (B, 3, H, W) of (B, 3, S, S), what the modules see and the decoder draws."""
        times = image.shape[-1] // self.config.image_size
        return F.avg_pool2d(image, times) if times > 1 else image

    def search(self, image: Tensor, encoding: Encoding, strategy: Strategy,
               kl_weight: float | Tensor | None = None, all_active: bool = False) -> Answer:
        """
        Eq. (4) to (9): the best subset of each identity. No gradient: choosing is not learning.

        :param image: (B, 3, H, W) in [0, 1].
        :param encoding: of those images.
        :param strategy: how the candidates are gone through.
        :param kl_weight: per nat; by default the one that training ends with.
        :param all_active: whether the subset of all modules is the only one looked at.
        """
        if all_active:
            return self._search_identities(image, encoding, strategy)
        with torch.no_grad():
            return strategy(self.decoder, self.question(image, encoding, kl_weight))

    def question(self, image: Tensor, encoding: Encoding,
                 kl_weight: float | Tensor | None = None) -> Question:
        """:return: what a strategy needs to know, see :meth:`search`; without gradients."""
        loss = self.loss_config
        kl_weight = loss.kl_weight_end if kl_weight is None else kl_weight
        masks = self.masks.to(image.dtype)                               # (P, m)
        price = kl_weight * (encoding.kl @ masks.T)                      # (B, P)
        price = price + kl_weight * loss.choice_weight * choice_cost(self.subset_share)
        decoded_price = None
        if loss.independence == 'algebraic':
            independence = algebraic_independence(self.compositional.basis, self.masks)
            price = price + loss.independence_weight * independence
        elif loss.independence_weight:
            decoded_price = partial(self._hessian_price, encoding.z)
        return Question(image, encoding.comp_T, self.identities(), price, loss.image_weight,
                        decoded_price, self._identity_price(encoding), self._image_scale())

    def _image_scale(self) -> Tensor | None:
        """:return: the error from which on it counts by its logarithm; ``None`` for never."""
        tail = self.loss_config.image_tail
        return tail * self.image_level if tail else None

    def _identity_price(self, encoding: Encoding) -> Tensor | None:
        """:return: (B, n), what speaks against each identity, weighted; ``None`` for nothing."""
        if encoding.evidence is None:
            return None
        return -self.loss_config.recognition_weight * encoding.evidence

    def _search_identities(self, image: Tensor, encoding: Encoding, strategy: Strategy) -> Answer:
        """:return: each identity with all modules, scored by the image: the rest is the same."""
        with torch.no_grad():
            everything = torch.ones_like(encoding.kl, dtype=torch.bool)  # (B, m)
            product = active_product(encoding.comp_T, everything)        # as if of one module
            price = torch.zeros_like(encoding.kl[:, :1])
            answer = strategy(self.decoder, Question(
                image, product[:, None], self.identities(), price, self.loss_config.image_weight,
                identity_price=self._identity_price(encoding), image_scale=self._image_scale()))
        return Answer(answer.identity_scores, answer.subset + len(self.masks) - 1)

    def observe_errors(self, error: Tensor, memory: int = 50) -> None:
        """
        Keep the running mean of the winners' weighted image errors.

        :param error: (B,) of a step's winners.
        :param memory: in steps.
        """
        self.image_level.lerp_(error.detach().mean().to(self.image_level), 1.0 / memory)

    def observe_subsets(self, subset: Tensor, memory: int = 50) -> None:
        """
        Keep the running share of each subset among the winners.

        :param subset: (B,) winners of a step.
        :param memory: in steps.
        """
        # Not bincount, for which a card must first tell the largest number.
        every = torch.arange(len(self.masks), device=subset.device)
        share = (subset[:, None] == every).sum(0) / len(subset)
        self.subset_share.lerp_(share.to(self.subset_share), 1.0 / memory)

    def _hessian_price(self, z: Tensor, subset: Tensor, identity: Tensor) -> Tensor:
        """:return: weighted independence (B, K) of chosen candidates, Eq. (8), hessian form."""
        chosen = subset.shape[1]
        price = self._hessian_independence(
            z.repeat_interleave(chosen, 0), self.masks[subset.flatten()], identity.flatten())
        return self.loss_config.independence_weight * price.reshape(-1, chosen)

    def _hessian_independence(self, z: Tensor, active: Tensor, identity: Tensor) -> Tensor:
        """:return: (B,), Eq. (8) at coordinates z (B, m, L) for one candidate each."""
        identity_T = self.identities()[identity]

        def decode(moved: Tensor) -> Tensor:
            times = len(moved) // len(z)
            comp_T = self.compositional.transform(moved)
            product = active_product(comp_T, active.repeat(times, 1))
            return self.decoder(product @ identity_T.repeat(times, 1, 1))

        return hessian_independence(decode, z, active)

    def loss(self, image: Tensor, encoding: Encoding, subset: Tensor, identity: Tensor,
             kl_weight: float | Tensor, use_group_feature: Tensor | None = None,
             label: Tensor | None = None) -> tuple[Terms, Tensor]:
        """
        Eq. (10) for a given winner; gradients reach its modules, its identity and the decoder.

        :param image: (B, 3, H, W) in [0, 1].
        :param encoding: of those images, with gradients.
        :param subset: (B,) the winner's subset number.
        :param identity: (B,) the winner's identity.
        :param kl_weight: per nat.
        :param use_group_feature: (B,) boolean, images decoded from the encoders' group features in
            place of the exponential (the Lie-group VAE's L_extra).
        :param label: (B,) class indices for the ID classifier.
        :return: the terms, and ``recon`` (B, 3, H, W).
        """
        weights = self.loss_config
        active = self.masks[subset]                                      # (B, m)
        identity_T = self.identities()[identity]                         # (B, u, u)
        comp_T = encoding.comp_T
        if use_group_feature is not None:
            comp_T = torch.where(use_group_feature[:, None, None, None],
                                 encoding.group_feature, comp_T)
        cand_T = active_product(comp_T, active) @ identity_T             # Eq. (5)
        hidden = self.decoder.hidden(cand_T)
        recon = self.decoder.image(hidden)                               # Eq. (6)

        if weights.independence == 'algebraic':                          # Eq. (8)
            independence = algebraic_independence(self.compositional.basis, self.masks)[subset]
        elif weights.independence_weight:
            independence = self._hessian_independence(encoding.z, active, identity)
        else:
            independence = torch.zeros_like(encoding.kl[:, 0])

        # The early head learns from the winner without bending what it reads.
        coarse = self.decoder.coarse(hidden.detach())
        coarse_error = image_loss(coarse, F.adaptive_avg_pool2d(image, coarse.shape[-1]))
        group_error = group_feature_error(encoding.group_feature, encoding.comp_T, active)

        classifier = torch.zeros_like(coarse_error)
        if self.classifier is not None and label is not None:
            classifier = weights.classifier_weight * (
                self.classifier.label_loss(identity_T, label)
                + self.classifier.unchanged_loss(identity_T, cand_T))
        recognition = torch.zeros_like(coarse_error)
        if encoding.evidence is not None:
            recognition = -weights.recognition_weight * encoding.evidence.gather(
                1, identity[:, None]).squeeze(1)
        terms = Terms(
            image=weights.image_weight * image_loss(recon, image),       # Eq. (7)
            independence=weights.independence_weight * independence,
            kl=kl_weight * (encoding.kl * active).sum(-1),
            extra=weights.group_weight * group_error + coarse_error,
            classifier=classifier,
            recognition=recognition)
        return terms, recon
