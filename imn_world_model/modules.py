"""
The two pools of modules: compositional ones that see the image, identities that do not.

A compositional module is the encoder of a Lie-group VAE (Zhu et al. 2021, arXiv:2106.03375):
Eq. (1) and (3) of the paper. An identity module is nothing but a learned matrix.
"""
import torch
from torch import Tensor, nn

from imn_world_model.config import ModelConfig


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


def initialize(network: nn.Module) -> None:
    """
    He's initialisation (arXiv:1502.01852) for every convolution and linear layer, zero biases.

    PyTorch's default shrinks a signal by 3 in variance at each layer; through the dozen layers
    from an image to its reconstruction little is left, and training starts on a long plateau.

    :param network: changed in place.
    """
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            # A stride-2 transposed convolution meets each output with a quarter of its kernel.
            if isinstance(layer, nn.ConvTranspose2d):
                fan = layer.weight[:, 0].numel() // 4
            else:
                fan = layer.weight[0].numel()
            nn.init.normal_(layer.weight, std=(2.0 / fan) ** 0.5)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


class CompositionalEncoder(nn.Module):
    """
    One module's view of the image: convolutions, a group feature, a Gaussian over its coordinates.

    Sizes follow the Lie-group VAE on 3Dshapes: k4 s2 p1 convolutions down to 4x4, a fully
    connected layer, the group feature (u*u), then mean and log-variance of the L coordinates.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = (3, *config.encoder_channels)
        for inputs, outputs in zip(channels[:-1], channels[1:], strict=True):
            layers += [nn.Conv2d(inputs, outputs, 4, stride=2, padding=1), nn.ReLU()]
        group_size = config.matrix_size ** 2
        self.convolutions = nn.Sequential(*layers)
        group_layer = nn.Linear(config.encoder_features, group_size)
        self.group = nn.Sequential(
            nn.Linear(channels[-1] * config.grid ** 2, config.encoder_features), nn.ReLU(),
            group_layer)
        self.coordinates = nn.Sequential(
            nn.Linear(group_size, 4 * config.matrix_size), nn.ReLU(),
            nn.Linear(4 * config.matrix_size, 2 * config.num_latents))
        self.matrix_size = config.matrix_size
        initialize(self)
        # Group features start near the unit matrix: products of m of them must not explode.
        with torch.no_grad():
            group_layer.weight.mul_(GROUP_SCALE)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """
        Encode an image.

        :param image: (B, 3, H, W) in [0, 1].
        :return: ``mu`` (B, L), ``logvar`` (B, L), ``group_feature`` (B, u, u).
        """
        offset = self.group(self.convolutions(image).flatten(1))          # (B, u*u)
        mu, logvar = self.coordinates(offset).chunk(2, dim=-1)            # (B, L) each
        u = self.matrix_size
        group_feature = torch.eye(u, device=image.device) + offset.reshape(-1, u, u)
        # exp(logvar / 2) must stay finite whatever the image: e**-10 to e**2 is far wider than
        # any posterior seen in training.
        return mu, logvar.clamp(-10.0, 2.0), group_feature


class CompositionalModules(nn.Module):
    """
    The pool of m modules that see the image, with their Lie-algebra bases A (m, L, u, u).

    The modules share nothing. Separate convolutions are kept rather than one grouped one: on a CPU
    the grouped form was slower, forward and backward.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(
            CompositionalEncoder(config) for _ in range(config.num_modules))
        u = config.matrix_size
        shape = (config.num_modules, config.num_latents, u, u)
        self.basis = nn.Parameter(config.basis_std * torch.randn(shape))

    def encode(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """
        Every module's posterior: g of Eq. (1), m_i^c of Eq. (3).

        :param image: (B, 3, H, W) in [0, 1].
        :return: ``mu`` (B, m, L), ``logvar`` (B, m, L), ``group_feature`` (B, m, u, u).
        """
        mu, logvar, group_feature = zip(*(encoder(image) for encoder in self.encoders),
                                        strict=True)
        return torch.stack(mu, 1), torch.stack(logvar, 1), torch.stack(group_feature, 1)

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
