"""
The two pools of modules: compositional ones that see the image, identities that do not.

A compositional module is the encoder of a Lie-group VAE (Zhu et al. 2021, arXiv:2106.03375):
Eq. (1) and (3) of the paper. An identity module is nothing but a learned matrix.
"""
import torch
from torch import Tensor, nn

from imn_world_model.base.config import GRID, PATCH, ModelConfig
from imn_world_model.model.patches import ParallelLinear, nest
from imn_world_model.model.products import affine, goes_through_onednn


def matrix_exp(matrix: Tensor, squarings: int = 6, order: int = 8) -> Tensor:
    """
    Matrix exponential by scaling and squaring, in plain matrix products.

    ``torch.matrix_exp`` has no ONNX form and its backward fails on expanded inputs. The Taylor
    polynomial of ``matrix / 2**squarings`` (Horner form) is squared ``squarings`` times: relative
    error below 1e-6 for norms up to 2**squarings.

    :param matrix: (..., u, u), any floating type.
    :param squarings: how often the argument is halved first.
    :param order: degree of the Taylor polynomial.
    :return: (..., u, u).
    """
    eye = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    scaled = matrix * 2.0 ** -squarings
    result = eye + scaled / order
    for k in range(order - 1, 0, -1):
        result = eye + scaled @ result / k
    for _ in range(squarings):
        result = result @ result
    return result


# Initial size of a group feature's distance from the unit matrix.
GROUP_SCALE = 0.05


class CompositionalModules(nn.Module):
    """
    The pool of m modules that see the image, with their Lie-algebra bases A (m, L, u, u).

    Each is the encoder of a Lie-group VAE: from the image to a group feature (u*u), from there to
    mean and log-variance of its L coordinates. The modules share nothing; their layers are
    computed side by side. Patches stand in for the convolutions, see :mod:`patches`.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        m, u, channels = config.num_modules, config.matrix_size, config.encoder_channels
        self.embed = ParallelLinear(m, 3 * PATCH ** 2, channels[0])
        self.merges = nn.ModuleList(
            ParallelLinear(m, 4 * inputs, outputs)
            for inputs, outputs in zip(channels[:-1], channels[1:], strict=True))
        self.sides = (GRID, *[2] * len(self.merges), PATCH)
        self.features = ParallelLinear(m, channels[-1] * GRID ** 2, config.encoder_features)
        self.group = ParallelLinear(m, config.encoder_features, u * u)
        self.hidden = ParallelLinear(m, u * u, 4 * u)
        self.coordinates = ParallelLinear(m, 4 * u, 2 * config.num_latents)
        self.basis = nn.Parameter(config.basis_std * torch.randn(m, config.num_latents, u, u))
        # Group features start near the unit matrix: products of m of them must not explode.
        with torch.no_grad():
            self.group.weight.mul_(GROUP_SCALE)

    def encode(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """
        Every module's posterior: g of Eq. (1), m_i^c of Eq. (3).

        :param image: (B, 3, H, W) in [0, 1].
        :return: ``mu`` (B, m, L), ``logvar`` (B, m, L), ``group_feature`` (B, m, u, u).
        """
        m, _, u, _ = self.basis.shape
        # The wide layers may be in half precision, see export.halved.
        pixels = image.permute(0, 2, 3, 1).to(self.embed.weight.dtype)
        patches = nest(pixels, self.sides).unflatten(1, (-1, 3 * PATCH ** 2)).flatten(0, 1)
        if goes_through_onednn(patches, self.embed.weight[0].mT):
            offset = self._one_by_one(patches)                           # (m, B, u*u)
        else:
            offset = self._together(patches)
        moments = self.coordinates(torch.relu(self.hidden(offset)))      # (m, B, 2L)
        mu, logvar = moments.transpose(0, 1).chunk(2, dim=-1)            # (B, m, L) each
        eye = torch.eye(u, dtype=image.dtype, device=image.device)
        group_feature = eye + offset.transpose(0, 1).unflatten(-1, (u, u))
        # exp(logvar / 2) must stay finite whatever the image: e**-10 to e**2 is far wider than
        # any posterior seen in training.
        return mu, logvar.clamp(-10.0, 2.0), group_feature

    def _together(self, patches: Tensor) -> Tensor:
        """:return: (m, B, u*u), of patches (B*cells, 48): each layer of all modules at once."""
        m = len(self.basis)
        value = torch.relu(self.embed(patches.expand(m, -1, -1)))        # (m, B*cells, c)
        for layer in self.merges:                                        # a quarter of the cells
            value = torch.relu(layer(value.reshape(m, -1, 4 * value.shape[-1])))
        value = value.reshape(m, -1, self.features.weight.shape[1])      # (m, B, 16c)
        features = torch.relu(self.features(value)).to(self.group.weight.dtype)
        return self.group(features)                   # (m, B, features) to (m, B, u*u)

    def _one_by_one(self, patches: Tensor) -> Tensor:
        """:return: the same: all layers of one module, then of the next, as a processor likes."""
        layers = (self.embed, *self.merges, self.features)
        # Taken apart once, so that gradients are put together once.
        parts = [zip(layer.weight.unbind(), layer.bias.unbind(), strict=True) for layer in layers]
        features = []
        for module in zip(*parts, strict=True):
            value = patches
            for weight, bias in module:
                value = affine(value.reshape(-1, len(weight)), weight.mT, bias[0], 'relu')
            features.append(value)
        return self.group(torch.stack(features))

    def transform(self, z: Tensor) -> Tensor:
        """
        Eq. (1): ``comp_T = exp(sum_l z_l A_l)`` for every module.

        :param z: (B, m, L) Lie-algebra coordinates.
        :return: ``comp_T`` (B, m, u, u).
        """
        m, num_latents, u, _ = self.basis.shape
        # A matrix product per module: einsum's form of the same exports to a slower graph.
        flat = self.basis.reshape(m, num_latents, u * u)
        algebra = (z.transpose(0, 1) @ flat).transpose(0, 1)             # (B, m, u*u)
        return matrix_exp(algebra.reshape(-1, m, u, u))


class IdentityModules(nn.Module):
    """The pool of n learned matrices ``identity_T`` (n, u, u) that never see the image."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        u = config.matrix_size
        noise = config.identity_std * torch.randn(config.num_identities, u, u)
        self.matrices = nn.Parameter(torch.eye(u) + noise)

    def forward(self) -> Tensor:
        """:return: ``identity_T`` (n, u, u), the same for every image."""
        return self.matrices
