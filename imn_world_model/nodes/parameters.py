"""Parameters of the nodes: declared with descriptions and ranges, read as a whole."""
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node

from imn_world_model.base.errors import UserError
from imn_world_model.base.shipped import shipped_model
from imn_world_model.robot.session import PROVIDERS

PROVIDER_CHOICES = ('auto', *PROVIDERS)
RELIABILITY_CHOICES = ('auto', 'best_effort', 'reliable')
REGION_CHOICES = ('none', 'auto', 'topic')
RANGES: dict[str, tuple[float, float]] = {
    'threads': (0, 256), 'qos_depth': (1, 100), 'batch_wait': (0.0, 0.1),
    'image_timeout': (0.1, 3600.0), 'region_tolerance': (0.0, 10.0)}
# These may change while images flow; the others shape subscriptions or the model's session.
CHANGEABLE = ('model', 'batch_wait', 'image_timeout')
KINDS = {float: 'a number', int: 'a whole number', str: 'a text', bool: 'true or false',
         tuple: 'a list of texts'}


@dataclass(frozen=True)
class Settings:
    """
    Values of the parameters; defaults here (but the model's), meaning in `declare`.

    :raises UserError: on a value outside the choices.
    """

    model: str = ''
    image_topics: tuple[str, ...] = ('image_raw',)
    provider: str = 'auto'
    threads: int = 0
    qos_reliability: str = 'auto'
    qos_depth: int = 5
    batch_wait: float = 0.002
    image_timeout: float = 2.0
    regions: str = 'none'
    region_topics: tuple[str, ...] = ('',)
    region_tolerance: float = 0.1
    camera_info_topics: tuple[str, ...] = ('',)
    fixed_frame: str = ''
    autostart: bool = True

    def __post_init__(self) -> None:
        for name, choices in (('provider', PROVIDER_CHOICES),
                              ('qos_reliability', RELIABILITY_CHOICES),
                              ('regions', REGION_CHOICES)):
            if getattr(self, name) not in choices:
                raise UserError(f'parameter {name} is {getattr(self, name)!r}; '
                                f'use one of: {", ".join(choices)}')
        if not self.image_topics or not all(self.image_topics):
            raise UserError(f'parameter image_topics is {list(self.image_topics)}; '
                            'name at least one topic and no empty one')
        if len(set(self.image_topics)) < len(self.image_topics):
            raise UserError(f'parameter image_topics names a topic twice: '
                            f'{list(self.image_topics)}')


def convert(name: str, value: Any, default: Any) -> Any:
    """
    Bring a value to the type of its parameter's default.

    :param name: of the parameter.
    :param value: a whole number will do for a number, a text with commas for a list of texts.
    :param default: of the parameter; a tuple stands for a list of texts.
    :raises UserError: for another type, or outside the parameter's range.
    """
    if isinstance(default, float) and type(value) is int:
        value = float(value)
    elif isinstance(default, tuple):
        # An empty list comes without a type, as None (ros2/rclpy#912).
        words = value.split(',') if isinstance(value, str) else [] if value is None else value
        if isinstance(words, (list, tuple)) and all(isinstance(word, str) for word in words):
            value = tuple(word.strip() for word in words)
    if type(value) is not type(default):
        raise UserError(f'parameter {name} is {[] if value is None else value!r}; '
                        f'it must be {KINDS[type(default)]}')
    low, high = RANGES.get(name, (value, value))
    if name in RANGES and not low <= value <= high:
        raise UserError(f'parameter {name} is {value}, out of range; it may be {low} to {high}')
    return value


def declare_one(node: Node, name: str, default: Any, text: str, read_only: bool = False) -> Any:
    """
    Declare a parameter.

    :param node: which gets it.
    :param name: of the parameter.
    :param default: its value if none is given; decides the type.
    :param text: what it means.
    :param read_only: whether it may not change later.
    :return: its value, of the default's type.
    :raises UserError: when the value given has another type or lies out of range.
    """
    low, high = RANGES.get(name, (None, None))
    whole = isinstance(default, int)
    descriptor = ParameterDescriptor(
        description=text, read_only=read_only,
        # rclpy would refuse 5 for 5.0, and /front/image_raw for a list.
        dynamic_typing=isinstance(default, (float, tuple)),
        integer_range=[IntegerRange(from_value=low, to_value=high, step=1)]
        if low is not None and whole else [],
        floating_point_range=[FloatingPointRange(from_value=low, to_value=high)]
        if low is not None and not whole else [])
    start = list(default) if isinstance(default, tuple) else default
    # rclpy's get_parameter raises where an empty list left a parameter without a value.
    value = node.declare_parameter(name, start, descriptor).value
    return convert(name, value, default)


def name_unknown(node: Node, known: Iterable[str]) -> None:
    """
    Warn of parameters that were given and that the node does not have, as after a slip.

    :param node: which has declared its own.
    :param known: names of those.
    """
    # rclpy tells of them in no other way.
    given = node._parameter_overrides
    unknown = sorted(name for name in given
                     if not node.has_parameter(name) and not name.startswith('qos_overrides.'))
    if unknown:
        node.get_logger().warning(f'there is no parameter {", ".join(unknown)}; '
                                  f'there are {", ".join(known)}')


def declare(node: Node) -> None:
    """
    Declare every parameter of the perception node.

    :param node: which gets them.
    :raises UserError: when a value given has the wrong type or lies out of range.
    """
    def describe(name: str, text: str) -> None:
        default = shipped_model() if name == 'model' else getattr(Settings, name)
        declare_one(node, name, default, text)

    describe('model', 'Path of an exported .onnx file; by default the demo model that comes with '
             'the package. Setting it while the node runs loads the new model and swaps it in; a '
             'bad file is refused and the old model goes on.')
    describe('image_topics', 'Camera topics, sensor_msgs/Image or CompressedImage in any mix: a '
             'list, or a text with commas. A name that ends in /compressed is taken for '
             'compressed until a publisher shows.')
    describe('provider', f'Where the model runs: {", ".join(PROVIDER_CHOICES)}. Only auto may '
             'fall back to another provider, and diagnostics then say so.')
    describe('threads', 'Threads of one inference; 0 lets ONNX Runtime use every core.')
    describe('qos_reliability', f'Of the image subscriptions: {", ".join(RELIABILITY_CHOICES)}. '
             'auto is reliable where every publisher offers that, else best_effort, which matches '
             'every publisher; reliable brings uncompressed images whole that a busy machine '
             'would otherwise lose.')
    describe('qos_depth', 'Images that DDS keeps until the node takes them all; the newest wins.')
    describe('batch_wait', 'Seconds to wait for the other cameras once one image is there, so '
             'that cameras that fire together share one inference.')
    describe('image_timeout', 'Seconds without an image after which diagnostics warn.')
    describe('regions', f'Where objects are in the pictures: {", ".join(REGION_CHOICES)}. none '
             'takes a picture for one object, auto finds what moves against the background, '
             'topic takes the boxes of region_topics.')
    describe('region_topics', 'Boxes for each of image_topics, in their order: '
             'vision_msgs/Detection2DArray or sensor_msgs/RegionOfInterest. An image is answered '
             'once its boxes have come.')
    describe('region_tolerance', 'Seconds by which the stamps of an image and its boxes may '
             'differ where none is the same.')
    describe('camera_info_topics', 'sensor_msgs/CameraInfo for each of image_topics, in their '
             'order, for bearing and pose; an empty one is the camera_info beside the images.')
    describe('fixed_frame', "Frame of tf in which pose is told; empty for the camera's own.")
    describe('autostart', 'Whether the node configures and activates itself; otherwise a '
             'lifecycle manager does.')
    name_unknown(node, [field.name for field in fields(Settings)])


def read(node: Node, **changes: Any) -> Settings:
    """
    Collect the parameters' present values.

    :param node: on which they were declared.
    :param changes: values that take the place of present ones.
    :raises UserError: on a value that makes no sense.
    """
    settings = Settings(**{
        field.name: convert(field.name, changes[field.name] if field.name in changes
                            else node.get_parameter(field.name).value, field.default)
        for field in fields(Settings)})
    boxes = settings.region_topics
    if settings.regions == 'topic' and not (all(boxes)
                                            and len(boxes) == len(settings.image_topics)):
        raise UserError(f'parameter region_topics is {list(boxes)}; with regions set to topic, '
                        'name one for each of image_topics')
    return settings


def check(**changes: Any) -> None:
    """
    Refuse values that make no sense, whatever the other parameters are.

    :param changes: values by parameter; names that are no setting are left alone.
    :raises UserError: naming what is wrong.
    """
    Settings(**{field.name: convert(field.name, changes[field.name], field.default)
                for field in fields(Settings) if field.name in changes})
