"""
Image messages of Foxglove's own types, as their tools record them: protobuf or JSON in MCAP.

https://docs.foxglove.dev/docs/visualization/message-schemas/compressed-image and raw-image.
"""
import base64
import json
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

# ROS 2's form of the two types.
FOXGLOVE_FIELDS = {
    'foxglove_msgs/msg/CompressedImage':
        'builtin_interfaces/Time timestamp\nstring frame_id\nuint8[] data\nstring format\n',
    'foxglove_msgs/msg/RawImage':
        'builtin_interfaces/Time timestamp\nstring frame_id\nuint32 width\nuint32 height\n'
        'string encoding\nuint32 step\nuint8[] data\n',
}
FOXGLOVE_TYPES = tuple(FOXGLOVE_FIELDS)
FOXGLOVE_ENCODINGS = ('protobuf', 'json')


def decode_foxglove(payload: bytes, encoding: str, kind: str, schema: bytes) -> Any:
    """
    Deserialize a message that is not CDR.

    :param payload: its bytes.
    :param encoding: ``protobuf`` or ``json``.
    :param kind: its type in ROS 2's spelling.
    :param schema: protobuf's serialized ``FileDescriptorSet``, as MCAP holds it.
    :return: the fields of the ROS 2 type; ``stamp_ns`` is its time in ns.
    :raises Exception: of many kinds when the bytes are no message of that type.
    """
    if encoding == 'json':
        fields = json.loads(payload)
        time = fields['timestamp']
        fields['data'] = base64.b64decode(fields['data'], validate=True)
        return SimpleNamespace(**fields, stamp_ns=int(time['sec']) * 10 ** 9 + int(time['nsec']))
    message = _message_class(schema, kind.rpartition('/')[2])()
    message.ParseFromString(payload)
    fields = {field.name: getattr(message, field.name) for field in message.DESCRIPTOR.fields}
    return SimpleNamespace(**fields, stamp_ns=message.timestamp.ToNanoseconds())


@lru_cache(maxsize=64)
def _message_class(schema: bytes, name: str) -> Any:
    pool = DescriptorPool()
    for file in FileDescriptorSet.FromString(schema).file:
        pool.Add(file)
    return GetMessageClass(pool.FindMessageTypeByName(f'foxglove.{name}'))
