"""The one decoder d that all candidates share: Eq. (6)."""
from torch import Tensor, nn

from imn_world_model.base.config import GRID, PATCH, ModelConfig
from imn_world_model.model.patches import linear, nest, unnest
from imn_world_model.model.products import affine


class Decoder(nn.Module):
    """
    From a matrix to an image, in two steps with an early head between them.

    ``hidden`` is the first layer on the matrix; ``image`` makes the full picture of it (a small
    grid of cells, each split two by two until it is a patch of pixels, see :mod:`patches`);
    ``coarse`` reads a small picture straight from the hidden units, cheap enough to look at every
    candidate.

    Layers end in SiLU (arXiv:1702.03118): a picture is smooth in its coordinates. Where the rates
    are as high as ``train.decoder_rate`` makes them, ReLU left twice the squared error.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        channels, hidden = config.decoder_channels, config.decoder_hidden
        self.first = linear(config.matrix_size ** 2, hidden)
        self.expand = linear(hidden, channels[0] * GRID ** 2)
        self.splits = nn.ModuleList(
            linear(inputs, 4 * outputs)
            for inputs, outputs in zip(channels[:-1], channels[1:], strict=True))
        self.pixels = linear(channels[-1], 3 * PATCH ** 2)
        self.coarse_head = linear(hidden, 3 * config.coarse_size ** 2)
        self.coarse_size = config.coarse_size
        self.sides = (GRID, *[2] * len(self.splits), PATCH)

    def hidden(self, matrix: Tensor) -> Tensor:
        """
        The first layer, for matrices one by one.

        :param matrix: (..., u, u).
        :return: (..., hidden).
        """
        return affine(matrix.flatten(-2), self.first.weight, self.first.bias, 'swish')

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
        hidden = affine(subset_T.flatten(-2), weight.reshape(-1, u * u),
                        self.first.bias.repeat(n), 'swish')                   # (B, P, n*hidden)
        return hidden.unflatten(-1, (n, -1))

    def image(self, hidden: Tensor) -> Tensor:
        """
        The full picture.

        :param hidden: (..., hidden).
        :return: (..., 3, H, W), about [0, 1]; clamped only where it is shown.
        """
        return self.picture(self.cells(hidden)).to(hidden.dtype)

    def cells(self, hidden: Tensor) -> Tensor:
        """
        The second layer: the small grid of cells, in the layer's own precision.

        :param hidden: (..., hidden).
        :return: (..., GRID*GRID*channels).
        """
        weight = self.expand.weight
        return affine(hidden.to(weight.dtype), weight, self.expand.bias, 'swish')

    def picture(self, cells: Tensor) -> Tensor:
        """
        What is left of :meth:`image` after :meth:`cells`.

        :param cells: (..., GRID*GRID*channels).
        :return: (..., 3, H, W).
        """
        flat = self.pixels_of(cells)
        picture = unnest(flat.reshape(-1, flat.shape[-1]), self.sides).permute(0, 3, 1, 2)
        return picture.reshape(*cells.shape[:-1], *picture.shape[1:])

    def pixels_of(self, cells: Tensor) -> Tensor:
        """
        The full picture's pixels in nested order: enough to compare it with others.

        :param cells: (..., GRID*GRID*channels).
        :return: (..., H*W*3).
        """
        value = cells.reshape(-1, cells.shape[-1]).unflatten(-1, (GRID * GRID, -1))
        for layer in self.splits:
            assert isinstance(layer, nn.Linear)
            parts = affine(value, layer.weight, layer.bias, 'swish').unflatten(-1, (4, -1))
            value = parts.flatten(1, 2)
        return affine(value, self.pixels.weight, self.pixels.bias).reshape(*cells.shape[:-1], -1)

    def nested(self, image: Tensor) -> Tensor:
        """
        An image's pixels in the order of :meth:`pixels_of`.

        :param image: (B, 3, H, W).
        :return: (B, H*W*3).
        """
        return nest(image.permute(0, 2, 3, 1), self.sides)

    def coarse(self, hidden: Tensor) -> Tensor:
        """
        The early head: a small picture, an estimate of the full one's area average.

        :param hidden: (..., hidden).
        :return: (..., 3, coarse_size, coarse_size).
        """
        flat = affine(hidden, self.coarse_head.weight, self.coarse_head.bias)
        return flat.unflatten(-1, (3, self.coarse_size, self.coarse_size))

    def forward(self, matrix: Tensor) -> Tensor:
        """
        Eq. (6): ``recon = d(cand_T)``.

        :param matrix: (..., u, u).
        :return: ``recon`` (..., 3, H, W).
        """
        return self.image(self.hidden(matrix))
