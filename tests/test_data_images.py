"""Messages to RGB: every encoding, padding and byte order; wrong ones are named."""
import resource
from functools import partial

import cv2
import numpy as np
import pytest
from recordings import compressed, raw

from imn_world_model.data.encodings import ENCODINGS, ImageError
from imn_world_model.data.images import message_to_rgb
from imn_world_model.vision.preprocess import Crop, prepare

# Four plain corners: a swapped channel, a sheared row or a transposed image all show.
CORNERS = np.zeros((32, 48, 3), np.uint8)
CORNERS[:16, :24], CORNERS[:16, 24:] = (255, 0, 0), (0, 255, 0)
CORNERS[16:, :24], CORNERS[16:, 24:] = (0, 0, 255), (200, 200, 200)
GRAY = cv2.cvtColor(CORNERS, cv2.COLOR_RGB2GRAY)


def yuyv(order: str) -> np.ndarray:
    """:return: (H, W, 2) uint8 of CORNERS, BT.601 limited range as cameras send it."""
    r, g, b = (CORNERS[..., k].astype(float) for k in range(3))
    y = 16 + 0.257 * r + 0.504 * g + 0.098 * b
    u = 128 - 0.148 * r - 0.291 * g + 0.439 * b
    v = 128 + 0.439 * r - 0.368 * g - 0.071 * b
    chroma = np.where(np.arange(48) % 2 == 0, u, v)
    pair = (y, chroma) if order == 'yuy2' else (chroma, y)
    return np.stack(pair, axis=-1).round().astype(np.uint8)


def nv12() -> np.ndarray:
    """:return: (48, 48) uint8 of CORNERS."""
    packed = yuyv('yuy2')
    return np.concatenate((packed[..., 0], packed[::2, :, 1]))


def mosaic(pattern: str) -> np.ndarray:
    """:return: (H, W) uint8 of CORNERS behind a colour filter of that first 2x2 block."""
    result = np.empty(CORNERS.shape[:2], np.uint8)
    for k, colour in enumerate(pattern):
        row, column = divmod(k, 2)
        result[row::2, column::2] = CORNERS[row::2, column::2, 'rgb'.index(colour)]
    return result


CASES = {
    'rgb8': CORNERS, 'bgr8': CORNERS[..., ::-1],
    'rgba8': np.dstack((CORNERS, GRAY)), 'bgra8': np.dstack((CORNERS[..., ::-1], GRAY)),
    'yuv422': yuyv('uyvy'), 'yuv422_yuy2': yuyv('yuy2'), 'nv12': nv12(),
    **{f'bayer_{pattern}8': mosaic(pattern) for pattern in ('rggb', 'bggr', 'gbrg', 'grbg')},
}


@pytest.mark.parametrize('padding', [0, 7])
@pytest.mark.parametrize('encoding', CASES)
def test_raw_colour_encodings_give_the_four_corners(encoding: str, padding: int) -> None:
    pixels = CASES[encoding]
    rows = pixels.reshape(len(pixels), -1)
    padded = np.pad(rows, ((0, 0), (0, padding)), constant_values=77)
    message = raw(padded, encoding, width=48, height=32, step=padded.shape[1])
    rgb = message_to_rgb(message)
    assert rgb.shape == (32, 48, 3) and rgb.dtype == np.uint8
    inner = np.s_[4:-4, 4:20], np.s_[4:-4, 28:-4]
    for part in inner:                               # away from edges that mosaics blur
        for rows_of in (np.s_[:8], np.s_[-8:]):
            difference = rgb[part][rows_of].astype(int) - CORNERS[part][rows_of]
            assert np.abs(difference).max() <= 6


@pytest.mark.parametrize('padding', [0, 5])
def test_mono8_and_mono16_of_either_byte_order(padding: int) -> None:
    expected = np.repeat(GRAY[..., None], 3, axis=2)
    for encoding, values, big in (('mono8', GRAY, 0),
                                  ('mono16', (GRAY.astype('<u2') << 8), 0),
                                  ('mono16', (GRAY.astype('>u2') << 8).astype('>u2'), 1)):
        rows = np.ascontiguousarray(values).view(np.uint8).reshape(32, -1)
        padded = np.pad(rows, ((0, 0), (0, padding)), constant_values=9)
        message = raw(padded, encoding, width=48, step=padded.shape[1], big=big)
        assert np.array_equal(message_to_rgb(message), expected)


def test_rgb8_is_a_view_not_a_copy() -> None:
    message = raw(CORNERS, 'rgb8')
    assert np.shares_memory(message_to_rgb(message), message.data)


def test_last_row_may_lack_its_padding() -> None:
    padded = np.pad(CORNERS.reshape(32, -1), ((0, 0), (0, 8)))
    message = raw(padded, 'rgb8', width=48, step=padded.shape[1])
    message.data = message.data[:-8]
    assert np.array_equal(message_to_rgb(message), CORNERS)


@pytest.mark.parametrize('kind', ['jpeg', 'png'])
def test_compressed_images_decode(kind: str) -> None:
    rgb = message_to_rgb(compressed(CORNERS, 1, kind))
    assert np.abs(rgb[4:12, 4:20].astype(int) - (255, 0, 0)).max() <= (0 if kind == 'png' else 6)


def test_jpeg_is_halved_while_it_is_decoded() -> None:
    large = cv2.resize(CORNERS, None, fx=10, fy=10, interpolation=cv2.INTER_LINEAR)
    message, size = compressed(large, 1), len(large) // 16
    halved = message_to_rgb(message, partial(Crop().halvings, size=size))
    assert halved.shape == (len(large) // 8, large.shape[1] // 8, 3)
    whole = prepare(message_to_rgb(message), size, Crop())
    assert np.abs(prepare(halved, size, Crop()).astype(int) - whole).max() <= 4
    png = compressed(large, 1, 'png')
    assert message_to_rgb(png, partial(Crop().halvings, size=size)).shape == large.shape
    part = Crop(roi=(0, 0, 100, 100))
    assert message_to_rgb(message, partial(part.halvings, size=size)).shape == large.shape


@pytest.mark.parametrize('kind', ['jpeg', 'png'])
def test_opencv_of_ubuntu_2404_and_debian_12_decodes_to_the_same_pixels(
        monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    large = cv2.resize(CORNERS, None, fx=10, fy=10, interpolation=cv2.INTER_LINEAR)
    message = compressed(large, 1, kind)
    halve = partial(Crop().halvings, size=40)
    new = [message_to_rgb(message), message_to_rgb(message, halve)]
    monkeypatch.delattr(cv2, 'IMREAD_COLOR_RGB')
    old = [message_to_rgb(message), message_to_rgb(message, halve)]
    for before, after in zip(new, old):
        assert np.array_equal(before, after)


def test_data_may_be_bytes_or_array() -> None:
    from array import array
    message = raw(CORNERS, 'rgb8')
    for kind in (bytes, bytearray, lambda data: array('B', data)):
        message.data = kind(CORNERS.tobytes())
        assert np.array_equal(message_to_rgb(message), CORNERS)


@pytest.mark.parametrize(('changes', 'cause'), [
    ({'encoding': '16UC1'}, 'depth or a mask'), ({'encoding': 'rgb9'}, 'is unknown'),
    ({'step': 10}, 'step 10 is too small'), ({'height': 400}, 'data has'),
    ({'height': 0}, 'is empty'), ({'encoding': 'yuv422', 'width': 47}, 'even sides'),
    ({'data': np.zeros(0, np.uint8)}, 'data has 0 bytes'),
])
def test_bad_raw_images_name_the_cause(changes: dict, cause: str) -> None:
    message = raw(CORNERS, 'rgb8')
    for name, value in changes.items():
        setattr(message, name, value)
    with pytest.raises(ImageError, match=cause):
        message_to_rgb(message)


@pytest.mark.parametrize('data', [b'', b'not a jpeg', b'\xff\xd8\xff\xe0' + bytes(40)])
def test_bad_compressed_images_name_the_cause(data: bytes) -> None:
    message = compressed(CORNERS, 1)
    message.data = np.frombuffer(data, np.uint8)
    with pytest.raises(ImageError, match='cannot be decoded'):
        message_to_rgb(message)


def test_jpeg_that_claims_to_be_huge_is_refused_before_it_fills_memory() -> None:
    message = compressed(CORNERS, 1)
    data = np.array(message.data)
    frame = bytes(data).index(b'\xff\xc0')                # the frame header: length, depth, sides
    data[frame + 5:frame + 9] = (0x7F, 0xFF, 0x7F, 0xFF)  # 32767 x 32767 pixels, 3 GiB of RGB
    message.data = data
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ImageError, match='cannot be decoded'):
        message_to_rgb(message)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 18      # KiB


def test_fuzzed_messages_never_escape_the_error() -> None:
    rng = np.random.default_rng(0)
    encodings = [*ENCODINGS, '16UC1', 'junk', '']
    fine = 0
    for _ in range(3000):
        message = raw(CORNERS, str(rng.choice(encodings)), big=int(rng.integers(2)))
        message.width, message.height, message.step = map(int, rng.integers(0, 100, 3))
        message.data = rng.integers(0, 256, int(rng.integers(0, 20000)), dtype=np.uint8)
        try:
            rgb = message_to_rgb(message)
        except ImageError:
            continue
        fine += 1
        assert rgb.shape == (message.height, message.width, 3)
    assert fine > 20
