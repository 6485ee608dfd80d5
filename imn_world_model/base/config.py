"""Every number that a run depends on: frozen dataclasses, the YAML saved with a run."""
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BeforeValidator, ConfigDict, Field, Strict, TypeAdapter, ValidationError

from imn_world_model.base.cli import write_whole
from imn_world_model.base.errors import UserError

# Side in pixels of the patches that an image is cut into, and in cells of the smallest grid.
PATCH = 4
GRID = 4
# n of a configuration that leaves the number of identities to the data; written ``auto``.
AUTO = 0


def _spelled(value: Any) -> Any:
    """:return: a number of '1e-4', a string to YAML 1.1 and a number to everyone else."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


# What a value may be; pydantic checks it wherever a configuration is read.
CLOSED = ConfigDict(extra='forbid')
Flag = Annotated[bool, Strict()]
Natural = Annotated[int, Strict(), Field(ge=0)]
Count = Annotated[int, Strict(), Field(ge=1)]
Number = Annotated[float, Strict(), BeforeValidator(_spelled)]
Positive = Annotated[Number, Field(gt=0)]
Sizes = tuple[Count, ...]
Identities = Annotated[Natural, BeforeValidator(lambda value: AUTO if value == 'auto' else value)]


@dataclass(frozen=True)
class ModelConfig:
    """
    Sizes of the network; the defaults follow those of the Lie-group VAE on 3Dshapes.

    :param image_size: H = W in pixels of what the modules see and the decoder draws.
    :param input_size: H = W of the input, a multiple of ``image_size``; 0 for the same. The
        recognizer sees the input as it is, the modules see it reduced.
    :param background: ``remove`` leaves objects alone before plain grey, see :mod:`cutout`.
    :param turn: ``level`` turns objects that are alone so that their longest axis lies level;
        ``auto`` does so where that helps to recognise them, which takes a recognizer.
    :param num_modules: m, compositional modules.
    :param num_identities: n, identity matrices; ``auto`` (kept as :data:`AUTO`) for as many as
        the clips ask for, which takes a recognizer.
    :param num_latents: L, Lie-algebra coordinates of each module.
    :param matrix_size: u; matrices are u*u.
    :param encoder_channels: of an encoder's cells, from 4x4-pixel patches to a grid of 4x4 cells,
        each time half as many across.
    :param encoder_features: width of the encoder's fully connected layer.
    :param decoder_hidden: width of the decoder's first layer.
    :param decoder_channels: of the decoder's cells, from the grid back to patches.
    :param coarse_size: side of the early head's picture, in pixels.
    :param basis_std: standard deviation of the initial bases A.
    :param identity_std: standard deviation of the initial identities about the unit matrix.
    :param recognizer: what names the identity beside the decoded picture, see
        :mod:`recognition`: ``none``, ``conv`` (learnt from the logs alone), ``efficientnet_lite0``
        (frozen, pretrained on ImageNet with labels, under a learnt layer).
    :param recognizer_channels: of the ``conv`` recognizer's layers, each half as many across.
    :param recognizer_features: length of its learnt feature vectors.
    :param recognizer_components: principal components of small pictures beside them, of the
        ``conv`` recognizer; 0 for none.
    :param recognizer_outlines: the same of outlines, coarse and as many fine ones.
    :param recognizer_colours: the same of colours.
    """

    __pydantic_config__ = CLOSED

    image_size: Count = 64
    input_size: Natural = 0
    background: Literal['keep', 'remove'] = 'keep'
    turn: Literal['keep', 'level', 'auto'] = 'keep'
    num_modules: Count = 5
    num_identities: Identities = 5
    num_latents: Count = 2
    matrix_size: Count = 20
    encoder_channels: Sizes = (64, 64, 64)
    encoder_features: Count = 256
    decoder_hidden: Count = 256
    decoder_channels: Sizes = (128, 64, 64)
    coarse_size: Count = 8
    basis_std: Number = 0.001
    identity_std: Number = 0.001
    recognizer: Literal['none', 'conv', 'efficientnet_lite0'] = 'none'
    recognizer_channels: Sizes = (32, 64, 128, 256)
    recognizer_features: Count = 128
    recognizer_components: Natural = 0
    recognizer_outlines: Natural = 0
    recognizer_colours: Natural = 0

    def __post_init__(self) -> None:
        if self.num_identities == AUTO and self.recognizer == 'none':
            raise UserError("model.num_identities is 'auto', which takes a recognizer; use the "
                            'preset objects, or give a number')
        if self.turn != 'keep' and self.background == 'keep':
            raise UserError(f"model.turn is '{self.turn}', but what an object's longest axis is "
                            "shows only where it is alone; set model.background=remove, or "
                            'model.turn=keep')
        for name in ('recognizer_components', 'recognizer_outlines', 'recognizer_colours'):
            if getattr(self, name) and self.recognizer != 'conv':
                raise UserError(f'model.{name} are for model.recognizer=conv; set one of the two')
        if self.turn == 'auto' and self.recognizer == 'none':
            raise UserError("model.turn is 'auto', which takes a recognizer; give keep or level")
        for name in ('encoder_channels', 'decoder_channels'):
            count = len(getattr(self, name))
            side = PATCH * GRID * 2 ** max(0, count - 1)
            if count < 1 or side != self.image_size:
                raise UserError(f'model.{name} has {count} entries, which fit images of {side}x'
                                f'{side} pixels, not of {self.image_size}; give one entry for 16, '
                                'two for 32, three for 64')
        if self.input_size % self.image_size:
            raise UserError(f'model.input_size {self.input_size} is not a multiple of '
                            f'model.image_size {self.image_size}')
        if self.image_size % self.coarse_size:
            raise UserError(f'model.coarse_size {self.coarse_size} does not divide '
                            f'model.image_size {self.image_size}')

    @property
    def signature_size(self) -> int:
        """d, length of what images and identities are compared by."""
        return (self.recognizer_features + self.recognizer_components
                + 2 * self.recognizer_outlines + self.recognizer_colours)

    @property
    def side(self) -> int:
        """H = W of the input, in pixels."""
        return self.input_size or self.image_size


@dataclass(frozen=True)
class LossConfig:
    """
    Weights of Eq. (9) and (10). A squared error is summed over the pixels of a 64x64 image.

    :param image_weight: weight of the squared error, Eq. (7).
    :param kl_weight: weight of the KL term per nat when training starts, above 0.
    :param kl_weight_split: the same when identities come apart, after
        ``train.single_identity_steps``; geometric in between.
    :param kl_weight_end: the same when training ends; geometric in between.
    :param choice_weight: weight, in KL units, of the code that names the winner's subset; 0 as in
        the paper.
    :param independence: form of Eq. (8).
    :param independence_weight: its weight.
    :param subspace_weight: weight, per coordinate, of the squared distance between a module's
        mean and its first guess (:mod:`subspaces`); falls to 0 over ``train.subspace_steps``.
    :param radius_weight: weight of the relative variance of a module's radius, see
        :func:`losses.radius_variance`.
    :param radius_from: step from which the radius counts; it counts in full 250 steps later.
        While coordinates take shape, its price would make them binary.
    :param group_weight: weight of the Lie-group VAE's group-feature reconstruction.
    :param group_image_probability: how often the image is decoded from the group feature.
    :param classifier_weight: weight of the ID classifier's terms (section III-C2); labels reach
        training if and only if it is above 0.
    :param image_tail: in the score, a squared error beyond so many times that of training's
        winners counts by its logarithm (Student's t in place of a Gaussian); 0 for never.
    :param recognition_weight: weight per nat, in score and loss, of what the recognizer says
        against an identity.
    """

    __pydantic_config__ = CLOSED

    image_weight: Number = 2.5
    kl_weight: Positive = 1.0
    kl_weight_split: Positive = 1.0
    kl_weight_end: Positive = 1.0
    choice_weight: Number = 1.0
    independence: Literal['algebraic', 'hessian'] = 'algebraic'
    independence_weight: Number = 1.0
    subspace_weight: Number = 100.0
    radius_weight: Number = 0.0
    radius_from: Natural = 250
    group_weight: Number = 0.1
    group_image_probability: Number = 0.2
    classifier_weight: Number = 0.0
    recognition_weight: Number = 0.0
    image_tail: Number = 0.0


@dataclass(frozen=True)
class TrainConfig:
    """
    The optimisation, and how identities come apart.

    :param steps: optimiser steps.
    :param batch_size: images per step, over all devices.
    :param learning_rate: peak rate of Adam; warmed up, then annealed by a cosine.
    :param decoder_rate: the decoder's rate as a multiple of ``learning_rate``, from soon after
        ``all_modules_steps``: what the modules hold is settled, its picture may be learnt fast.
        From the first step on, so fast a decoder read a factor off another one's radius.
    :param share: what the views of one group have in common. ``none``: every image decides its
        identity alone. ``clip``: views are frames of one clip or, with the ID classifier,
        images of one label. ``augment``: views are
        augmentations of one image.
    :param views: images in a group, which together choose one identity.
    :param recolor: whether each view's hues go through a random curve of their own; hues that most
        frames have, those of the place, stay.
    :param zoom: largest relative zoom of a view, 0 for none.
    :param shift: largest shift of a view along either side, as a share of it; 0 for none.
    :param flip: whether views are mirrored at random.
    :param clip_steps: steps before all others in which the recognizer alone learns to tell clips
        apart; then the clips are grouped into identities, which it learns in half as many steps,
        see :mod:`discovery`.
    :param trial_steps: steps of each trial before that: are objects turned any way?
    :param clip_batch: images per such step, over all devices.
    :param clip_rate: peak rate of AdamW in these steps.
    :param naming_steps: steps after all others in which the recognizer alone learns to name single
        images as the clips they are from are named, see :mod:`votes`; 0 for never.
    :param photo: whether the recognizer learns from views made for photographs
        (:mod:`photographs`): turned, zoomed, shifted, in other light, before other backgrounds.
    :param search: ``exhaustive`` decodes all P*n candidates; ``fast`` looks at all of them with
        the decoder's early head and decodes the best of each identity.
    :param subspace_steps: steps in which modules are drawn to subspaces of the images.
    :param subspaces: which: ``independent`` ones, or ``clip`` for the principal components of what
        varies within a clip, see :mod:`subspaces`.
    :param single_identity_steps: steps in which one identity and all modules take every image, a
        plain Lie-group VAE: the modules learn what they can, then the identities divide the rest.
    :param all_modules_steps: steps in which all modules are active whatever the image; after them
        the winner's subset is searched for, too.
    :param revive_every: steps between renewals of coordinates that hold nothing, between
        ``all_modules_steps`` and the end of restarts; 0 for never.
    :param balance: strength of the pull towards equal use, in units of the score's spread.
    :param restart_every: steps between restarts of the least useful identity; 0 for never.
    :param restart_until: share of the steps after which identities and coordinates are left alone.
    :param checkpoint_every: steps between checkpoints; --resume goes on from the last one.
    :param workers: processes that prepare batches; 0 prepares them in the training process.
    :param compile: whether torch compiles a step's stages: ``none``, or its mode, ``default`` or
        ``reduce-overhead`` (CUDA graphs; for GPUs). The first steps take minutes then.
    :param precision: Lightning's precision, such as ``32-true`` or ``bf16-mixed``.
    :param seed: of initial weights, batches, noise and augmentation.
    """

    __pydantic_config__ = CLOSED

    steps: Count = 6000
    batch_size: Count = 128
    learning_rate: Positive = 1e-3
    decoder_rate: Positive = 1.0
    share: Literal['none', 'clip', 'augment'] = 'none'
    views: Count = 1
    recolor: Flag = False
    zoom: Number = 0.0
    shift: Number = 0.0
    flip: Flag = False
    clip_steps: Natural = 0
    trial_steps: Natural = 0
    clip_batch: Annotated[int, Strict(), Field(ge=2)] = 64
    clip_rate: Positive = 2e-3
    naming_steps: Natural = 0
    photo: Flag = False
    search: Literal['exhaustive', 'fast'] = 'fast'
    subspace_steps: Natural = 0
    subspaces: Literal['independent', 'clip'] = 'independent'
    single_identity_steps: Natural = 0
    all_modules_steps: Natural = 0
    revive_every: Natural = 0
    balance: Number = 0.0
    restart_every: Natural = 0
    restart_until: Number = 0.75
    checkpoint_every: Count = 250
    workers: Natural = 0
    compile: Literal['none', 'default', 'reduce-overhead'] = 'none'
    precision: str = '32-true'
    seed: Natural = 0

    def __post_init__(self) -> None:
        if self.views < 1 or self.batch_size % self.views:
            raise UserError(f'train.batch_size {self.batch_size} is not a multiple of '
                            f'train.views {self.views}')
        if self.share == 'none' and self.views != 1:
            raise UserError(f"train.views is {self.views} but train.share is 'none'; "
                            "set train.share to 'clip' or 'augment', or train.views to 1")
        if self.naming_steps and self.share != 'clip':
            raise UserError("train.naming_steps is above 0 but train.share is "
                            f"'{self.share}'; images take their names from clips: set one of "
                            'the two')


@dataclass(frozen=True)
class Config:
    """A whole run: what is built, what is minimised, how."""

    __pydantic_config__ = CLOSED

    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        if self.train.naming_steps and self.model.recognizer == 'none':
            raise UserError('train.naming_steps is above 0 but model.recognizer is none; set '
                            'model.recognizer=conv, or train.naming_steps=0')
        if self.train.naming_steps and self.model.num_identities == AUTO:
            raise UserError("model.num_identities is 'auto', which takes clips that are grouped "
                            'first; use the preset objects, or give a number')

        if self.train.naming_steps and self.model.turn == 'auto':
            raise UserError("model.turn is 'auto', which takes a recognizer from the first step "
                            'on; use the preset objects, or give keep or level')
        entries = self.model.matrix_size ** 2
        together = self.model.num_identities + self.model.recognizer_features
        if self.train.naming_steps and together > entries:
            raise UserError(f'model.num_identities and recognizer_features are {together} '
                            f'together, more than the {entries} entries of an identity matrix; '
                            'lower one, or raise model.matrix_size')

    @property
    def discovers(self) -> bool:
        """Whether training begins with :mod:`discovery`: clips are named before all else."""
        return self.model.recognizer != 'none' and not self.train.naming_steps


def from_dict(values: Any) -> Config:
    """
    Build a configuration from nested dictionaries.

    :param values: its sections and their fields; those left out keep their defaults.
    :raises UserError: for an unknown key, or a value of the wrong type or out of range.
    """
    try:
        return TypeAdapter(Config).validate_python(values)
    except ValidationError as errors:
        first = errors.errors()[0]
        key = '.'.join(map(str, first['loc']))
        if first['type'] == 'unexpected_keyword_argument':
            section = getattr(Config(), str(first['loc'][0])) if '.' in key else Config()
            known = ', '.join(sorted(item.name for item in fields(section)))
            raise UserError(f"unknown configuration key '{key}'; known keys: {known}") from errors
        if first['type'] == 'value_error':            # of what goes together
            raise UserError(str(first['ctx']['error'])) from errors
        words = first['msg'].replace('Input should', 'it must')
        raise UserError(f"configuration key '{key}' is {first['input']!r}; {words}" if key else
                        f'the configuration must be a mapping, got {values!r}') from errors


def override(config: Config, settings: list[str]) -> Config:
    """
    Change single values by name.

    :param config: where to start.
    :param settings: items ``section.key=value``; the value is read as YAML.
    :raises UserError: for an item of another form, an unknown key, a wrong value.
    """
    values = to_dict(config)
    for setting in settings:
        path, equals, text = setting.partition('=')
        section, dot, key = path.partition('.')
        if not (equals and dot):
            raise UserError(f"setting '{setting}' is not of the form section.key=value")
        if section not in values or key not in values[section]:
            raise UserError(f"unknown configuration key '{path}'")
        try:
            values[section][key] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise UserError(f"cannot read the value of '{setting}'") from error
    return from_dict(values)


def to_dict(config: Config) -> dict[str, Any]:
    """:return: plain nested dictionaries, tuples as lists, ready for YAML or JSON."""
    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        return list(value) if isinstance(value, tuple) else value
    return plain(asdict(config))


def save_config(config: Config, path: Path) -> None:
    """Write a resolved configuration as YAML."""
    write_whole(path, yaml.safe_dump(to_dict(config), sort_keys=False).encode())


def load_config(path: Path) -> Config:
    """
    Read a configuration.

    :raises UserError: when the file is missing, is not YAML, or holds an unknown key.
    """
    try:
        values = yaml.safe_load(path.read_text())
    except FileNotFoundError as error:
        raise UserError(f'configuration {path} does not exist') from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f'configuration {path} is not valid YAML') from error
    return from_dict(values)
