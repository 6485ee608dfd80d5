"""Parameters of the perception node: declared with descriptions and ranges, read as a whole."""
from dataclasses import dataclass, fields

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node
from rclpy.qos import QoSProfile, QoSReliabilityPolicy

from imn_world_model.errors import UserError
from imn_world_model.session import PROVIDERS

PROVIDER_CHOICES = ('auto', *PROVIDERS)
RELIABILITIES = {
    'best_effort': QoSReliabilityPolicy.BEST_EFFORT,
    'reliable': QoSReliabilityPolicy.RELIABLE,
}
# These may change while images flow; the others shape subscriptions or the model's session.
CHANGEABLE = ('model', 'batch_wait', 'image_timeout')


@dataclass(frozen=True)
class Settings:
    """
    Values of the parameters; defaults here, meaning in `declare`.

    :raises UserError: on a value outside the choices.
    """

    model: str = ''
    image_topics: tuple[str, ...] = ('image_raw',)
    provider: str = 'auto'
    threads: int = 0
    qos_reliability: str = 'best_effort'
    qos_depth: int = 5
    batch_wait: float = 0.002
    image_timeout: float = 2.0
    autostart: bool = True

    def __post_init__(self) -> None:
        for name, choices in (('provider', PROVIDER_CHOICES), ('qos_reliability', RELIABILITIES)):
            if getattr(self, name) not in choices:
                raise UserError(f'parameter {name} is {getattr(self, name)!r}; '
                                f'use one of: {", ".join(choices)}')
        if not self.image_topics or not all(self.image_topics):
            raise UserError(f'parameter image_topics is {list(self.image_topics)}; '
                            'name at least one topic and no empty one')
        if len(set(self.image_topics)) < len(self.image_topics):
            raise UserError(f'parameter image_topics names a topic twice: '
                            f'{list(self.image_topics)}')

    @property
    def qos(self) -> QoSProfile:
        """Quality of service of the image subscriptions."""
        return QoSProfile(depth=self.qos_depth, reliability=RELIABILITIES[self.qos_reliability])


def declare(node: Node) -> None:
    """
    Declare every parameter.

    :param node: which gets them.
    """
    def describe(name: str, text: str, **limits: list) -> None:
        default = getattr(Settings, name)
        node.declare_parameter(name, list(default) if isinstance(default, tuple) else default,
                               ParameterDescriptor(description=text, **limits))

    describe('model', 'Path of an exported .onnx file. Setting it while the node runs loads the '
             'new model and swaps it in; a bad file is refused and the old model goes on.')
    describe('image_topics', 'Camera topics, sensor_msgs/Image or CompressedImage in any mix. A '
             'name that ends in /compressed is taken for compressed until a publisher shows.')
    describe('provider', f'Where the model runs: {", ".join(PROVIDER_CHOICES)}. Only auto may '
             'fall back to another provider, and diagnostics then say so.')
    describe('threads', 'Threads of one inference; 0 lets ONNX Runtime use every core.',
             integer_range=[IntegerRange(from_value=0, to_value=256, step=1)])
    describe('qos_reliability', f'Of the image subscriptions: {", ".join(RELIABILITIES)}. '
             'best_effort matches every publisher; reliable also brings uncompressed images whole '
             'that a busy machine would otherwise lose.')
    describe('qos_depth', 'Images that DDS keeps until the node takes them all; the newest wins.',
             integer_range=[IntegerRange(from_value=1, to_value=100, step=1)])
    describe('batch_wait', 'Seconds to wait for the other cameras once one image is there, so '
             'that cameras that fire together share one inference.',
             floating_point_range=[FloatingPointRange(from_value=0.0, to_value=0.1)])
    describe('image_timeout', 'Seconds without an image after which diagnostics warn.',
             floating_point_range=[FloatingPointRange(from_value=0.1, to_value=3600.0)])
    describe('autostart', 'Whether the node configures and activates itself; otherwise a '
             'lifecycle manager does.')


def read(node: Node) -> Settings:
    """
    Collect the parameters' present values.

    :param node: on which they were declared.
    :raises UserError: on a value outside the choices.
    """
    values = {field.name: node.get_parameter(field.name).value for field in fields(Settings)}
    return Settings(**{**values, 'image_topics': tuple(values['image_topics'] or ())})
