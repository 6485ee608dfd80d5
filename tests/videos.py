"""Videos for tests that OpenCV does not write: of variable rate, trimmed, damaged."""
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from recordings import scene

UNKNOWN = b'\x01' + b'\xff' * 7


def _element(name: str, data: bytes, length: bytes = b'') -> bytes:
    """:return: an EBML element; its length is written in eight bytes."""
    return bytes.fromhex(name) + (length or (1 << 56 | len(data)).to_bytes(8, 'big')) + data


def _number(value: int) -> bytes:
    return value.to_bytes(8, 'big')


def matroska(path: Path, seconds: Sequence[float], duration: float | None, sized: bool = True
             ) -> Path:
    """
    Write MJPEG as Matroska, which gives every frame its own time and counts none.

    :param seconds: of each frame.
    :param duration: s, as the file says, if it does; longer than its frames where sound goes on.
    :param sized: whether it says its length.
    """
    video = _element('e0', _element('b0', _number(64)) + _element('ba', _number(48)))
    track = _element('ae', _element('d7', _number(1)) + _element('73c5', _number(1))
                     + _element('83', _number(1)) + _element('86', b'V_MJPEG')
                     + _element('23e383', _number(round(1e9 / 30))) + video)
    told = b'' if duration is None else _element('4489', np.array(duration * 1e3, '>f8').tobytes())
    clusters = b''
    for k, second in enumerate(seconds):
        jpeg = cv2.imencode('.jpg', cv2.cvtColor(scene(7, k % 20), cv2.COLOR_RGB2BGR))[1].tobytes()
        clusters += _element('1f43b675', _element('e7', _number(round(second * 1e3)))
                             + _element('a3', b'\x81\0\0\x80' + jpeg))
    body = (_element('1549a966', _element('2ad7b1', _number(10 ** 6)) + told)
            + _element('1654ae6b', track) + clusters)
    path.write_bytes(_element('1a45dfa3', _element('4282', b'matroska'))
                     + _element('18538067', body, b'' if sized else UNKNOWN))
    return path


def mpeg4(path: Path, count: int) -> Path:
    """:return: an MP4 file at 30 Hz whose header comes last, as OpenCV writes it."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'mp4v'), 30, (64, 48))
    assert writer.isOpened()
    for k in range(count):
        writer.write(cv2.cvtColor(scene(7, k % 20), cv2.COLOR_RGB2BGR))
    writer.release()
    return path


def trim(path: Path, first: int, rate: float = 30) -> None:
    """Begin an MP4 file later, by its edit list as telephones do: all frames stay in the file."""
    data = bytearray(path.read_bytes())

    def number(place: int) -> int:
        return int.from_bytes(data[place:place + 4], 'big')

    def put(place: int, value: float) -> None:
        data[place:place + 4] = round(value).to_bytes(4, 'big')

    media, movie, entry = (data.index(name) for name in (b'mdhd', b'mvhd', b'elst'))
    cut = first / rate
    put(entry + 16, cut * number(media + 16))         # where the media begin
    for place in (entry + 12, movie + 20):            # how long it takes
        put(place, number(place) - cut * number(movie + 16))
    path.write_bytes(data)
