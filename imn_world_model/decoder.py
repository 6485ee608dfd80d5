"""The one decoder d that all candidates share: Eq. (6)."""
import torch
from torch import Tensor, nn

from imn_world_model.config import ModelConfig
from imn_world_model.modules import initialize


class Decoder(nn.Module):
    """
    From a matrix to an image, in two steps with an early head between them.

    ``hidden`` is the first layer on the matrix; ``image`` makes the full picture of it (fully
    connected, then k4 s2 p1 transposed convolutions, as in the Lie-group VAE); ``coarse`` reads a
    small picture straight from the hidden units, cheap enough to look at every candidate.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        channels = (*config.decoder_channels, 3)
        grid, hidden = config.grid, config.decoder_hidden
        self.first = nn.Linear(config.matrix_size ** 2, hidden)
        self.expand = nn.Sequential(
            nn.Linear(hidden, channels[0] * grid ** 2), nn.ReLU(),
            nn.Unflatten(-1, (channels[0], grid, grid)))
        layers: list[nn.Module] = []
        for inputs, outputs in zip(channels[:-1], channels[1:], strict=True):
            layers += [nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1), nn.ReLU()]
        self.convolutions = nn.Sequential(*layers[:-1])       # the last layer is linear
        self.coarse_head = nn.Linear(hidden, 3 * config.coarse_size ** 2)
        self.coarse_size = config.coarse_size
        initialize(self)

    def hidden(self, matrix: Tensor) -> Tensor:
        """
        The first layer, for matrices one by one.

        :param matrix: (..., u, u).
        :return: (..., hidden).
        """
        return torch.relu(self.first(matrix.flatten(-2)))

    def hidden_of_candidates(self, subset_T: Tensor, identity_T: Tensor) -> Tensor:
        """
        The first layer of ``d(subset_T @ identity_T)`` without forming the products.

        The layer is linear in the matrix: W vec(S I) = W' vec(S) with
        W'[h, a, b] = sum_c W[h, a, c] I[b, c], one small product per identity in place of one per
        candidate and image.

        :param subset_T: (B, P, u, u).
        :param identity_T: (n, u, u).
        :return: (B, P, n, hidden).
        """
        n, u, _ = identity_T.shape
        weight = self.first.weight.reshape(-1, u, u) @ identity_T[:, None].mT   # (n, hidden, u, u)
        hidden = subset_T.flatten(-2) @ weight.reshape(-1, u * u).mT            # (B, P, n*hidden)
        return torch.relu(hidden.unflatten(-1, (n, -1)) + self.first.bias)

    def image(self, hidden: Tensor) -> Tensor:
        """
        The full picture.

        :param hidden: (..., hidden).
        :return: (..., 3, H, W), about [0, 1]; clamped only where it is shown.
        """
        flat = self.convolutions(self.expand(hidden.reshape(-1, hidden.shape[-1])))
        return flat.reshape(*hidden.shape[:-1], *flat.shape[1:])

    def coarse(self, hidden: Tensor) -> Tensor:
        """
        The early head: a small picture, an estimate of the full one's area average.

        :param hidden: (..., hidden).
        :return: (..., 3, coarse_size, coarse_size).
        """
        return self.coarse_head(hidden).unflatten(-1, (3, self.coarse_size, self.coarse_size))

    def forward(self, matrix: Tensor) -> Tensor:
        """
        Eq. (6): ``recon = d(cand_T)``.

        :param matrix: (..., u, u).
        :return: ``recon`` (..., 3, H, W).
        """
        return self.image(self.hidden(matrix))
