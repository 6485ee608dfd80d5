"""
Looks for NaN among the weights in an ONNX file; needs neither onnx nor torch.

An inference need not show them: a search that finds NaN where it looks for candidates answers with
another candidate. The file is protobuf, of which only the few fields read here must be understood
(https://protobuf.dev/programming-guides/encoding, onnx/onnx.proto).
"""
from collections.abc import Iterator
from pathlib import Path

import numpy as np

# Field numbers of ModelProto, GraphProto and TensorProto.
GRAPH, INITIALIZER, DATA_TYPE, FLOATS, NAME, RAW = 7, 5, 2, 4, 8, 9
# TensorProto.DataType: FLOAT, FLOAT16, DOUBLE, little-endian as the file has them.
FLOAT = 1
KINDS = {FLOAT: '<f4', 10: '<f2', 11: '<f8'}
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


def nan_weights(path: Path) -> list[str]:
    """
    Name the weights that hold NaN.

    :param path: an ONNX file that ONNX Runtime has read.
    """
    names = []
    for graph in _parts(memoryview(path.read_bytes()), GRAPH):
        for tensor in _parts(graph, INITIALIZER):
            fields = dict(_fields(tensor))
            kind = fields.get(DATA_TYPE)
            data = fields.get(RAW, fields.get(FLOATS) if kind == FLOAT else None)
            if (kind in KINDS and isinstance(data, memoryview)
                    and np.isnan(np.frombuffer(data, KINDS[kind])).any()):
                name = fields.get(NAME, b'')
                names.append('' if isinstance(name, int) else str(name, 'utf-8', 'replace'))
    return names


def _parts(message: memoryview, number: int) -> Iterator[memoryview]:
    """:return: a message's fields of one number that are messages themselves."""
    for found, value in _fields(message):
        if found == number and isinstance(value, memoryview):
            yield value


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """:return: number and value of each of a message's fields."""
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        kind, size = key & 7, 0
        if kind == VARINT:
            value, place = _varint(message, place)
            yield key >> 3, value
            continue
        if kind == BYTES:
            size, place = _varint(message, place)
        elif kind in (FIXED32, FIXED64):
            size = 4 if kind == FIXED32 else 8
        yield key >> 3, message[place:place + size]
        place += size


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    """:return: the number that begins at a place, and the place after it."""
    value = shift = 0
    while True:
        byte = message[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return value, place
