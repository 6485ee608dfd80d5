"""Encodings that people have on disk: deep samples, floats, planes, mosaics in JPEG and PNG."""
from pathlib import Path

import cv2
import numpy as np
import pytest
from recordings import COMPRESSED, IMAGE, STORE, header, raw, scene, write_bag

from imn_world_model.base.errors import UserError
from imn_world_model.data.encodings import ENCODINGS, ImageError, Levels
from imn_world_model.data.frames import DataOptions, Frames, load_frames
from imn_world_model.data.images import compressed_to_rgb, message_to_rgb

CORNERS = np.zeros((32, 48, 3), np.uint8)
CORNERS[:16, :24], CORNERS[:16, 24:] = (255, 0, 0), (0, 255, 0)
CORNERS[16:, :24], CORNERS[16:, 24:] = (0, 0, 255), (200, 200, 200)
# Grey levels of every kind, the brightest among them.
RAMP = np.arange(32 * 48, dtype=np.uint32).reshape(32, 48) * 255 // (32 * 48 - 1)


@pytest.fixture
def options(tmp_path: Path) -> DataOptions:
    return DataOptions(size=16, cache_dir=tmp_path / 'cache', still=0.0, scene_change=1e9)


def load(path: Path, options: DataOptions) -> Frames:
    return load_frames([path], options, progress=False)


def mosaic(pattern: str, rgb: np.ndarray = CORNERS) -> np.ndarray:
    """:return: (H, W) uint8 of a picture behind a colour filter of that first 2x2 block."""
    result = np.empty(rgb.shape[:2], np.uint8)
    for k, colour in enumerate(pattern):
        row, column = divmod(k, 2)
        result[row::2, column::2] = rgb[row::2, column::2, 'rgb'.index(colour)]
    return result


def luma_chroma() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """:return: Y, U, V of CORNERS, each (H, W) uint8, BT.601 limited range."""
    r, g, b = (CORNERS[..., k].astype(float) for k in range(3))
    planes = (16 + 0.257 * r + 0.504 * g + 0.098 * b, 128 - 0.148 * r - 0.291 * g + 0.439 * b,
              128 + 0.439 * r - 0.368 * g - 0.071 * b)
    y, u, v = (plane.round().astype(np.uint8) for plane in planes)
    return y, u, v


def padded(rows: np.ndarray, padding: int) -> np.ndarray:
    return np.pad(rows, ((0, 0), (0, padding)), constant_values=77)


def assert_corners(rgb: np.ndarray, tolerance: int = 6) -> None:
    """Compare the middles of the four corners, away from the edges that mosaics blur."""
    assert rgb.shape == CORNERS.shape and rgb.dtype == np.uint8
    for rows in (np.s_[4:12], np.s_[20:28]):
        for columns in (np.s_[4:20], np.s_[28:44]):
            difference = rgb[rows, columns].astype(int) - CORNERS[rows, columns]
            assert np.abs(difference).max() <= tolerance


@pytest.mark.parametrize('padding', [0, 6])
def test_nv21_has_its_colours_the_other_way_round_than_nv12(padding: int) -> None:
    y, u, v = luma_chroma()
    chroma = np.stack((v[::2, ::2], u[::2, ::2]), axis=-1).reshape(16, 48)
    rows = padded(np.concatenate((y, chroma)), padding)
    assert_corners(message_to_rgb(raw(rows, 'nv21', width=48, height=32, step=48 + padding)))


@pytest.mark.parametrize('padding', [0, 6])
def test_nv24_has_a_colour_per_pixel(padding: int) -> None:
    y, u, v = luma_chroma()
    chroma = padded(np.stack((u, v), axis=-1).reshape(32, 96), 2 * padding)
    data = np.concatenate((padded(y, padding).ravel(), chroma.ravel()))
    message = raw(data[None], 'nv24', width=48, height=32, step=48 + padding)
    assert_corners(message_to_rgb(message))


def test_nv24_whose_step_counts_both_channels_is_read_as_well() -> None:
    y, u, v = luma_chroma()
    data = np.concatenate((y.ravel(), np.stack((u, v), axis=-1).ravel()))
    assert_corners(message_to_rgb(raw(data[None], 'nv24', width=48, height=32, step=96)))


def test_nv24_that_is_too_short_names_the_cause() -> None:
    with pytest.raises(ImageError, match='data has 4000 bytes'):
        message_to_rgb(raw(np.zeros((1, 4000), np.uint8), 'nv24', width=48, height=32, step=48))


DEEP = {'rgb16': CORNERS, 'bgr16': CORNERS[..., ::-1], '16UC3': CORNERS[..., ::-1],
        'rgba16': np.dstack((CORNERS, RAMP)), 'bgra16': np.dstack((CORNERS[..., ::-1], RAMP)),
        **{f'bayer_{pattern}16': mosaic(pattern) for pattern in ('rggb', 'bggr', 'gbrg', 'grbg')}}


@pytest.mark.parametrize('big', [0, 1])
@pytest.mark.parametrize('padding', [0, 5])
@pytest.mark.parametrize('encoding', DEEP)
def test_deep_encodings_give_the_four_corners(encoding: str, padding: int, big: int) -> None:
    values = (DEEP[encoding].astype(np.uint16) * 257).astype('>u2' if big else '<u2')
    rows = padded(values.reshape(32, -1).view(np.uint8), padding)
    assert_corners(message_to_rgb(raw(rows, encoding, width=48, height=32, step=rows.shape[1],
                                      big=big)))


@pytest.mark.parametrize('bits', [8, 10, 12, 14, 16])
@pytest.mark.parametrize('encoding', ['mono16', 'bayer_rggb16', 'rgb16'])
def test_deep_samples_fill_the_bits_that_they_use(encoding: str, bits: int) -> None:
    pixels = {'mono16': RAMP, 'rgb16': CORNERS, 'bayer_rggb16': mosaic('rggb')}[encoding]
    values = (pixels.astype(np.uint32) * ((1 << bits) - 1) // 255).astype('<u2')
    rgb = message_to_rgb(raw(values.reshape(32, -1), encoding, width=48))
    if encoding == 'mono16':
        assert np.abs(rgb.astype(int) - RAMP[..., None]).max() <= 1
    else:
        assert_corners(rgb)


def test_range_is_the_topics_not_the_pictures() -> None:
    levels = Levels()
    bright = raw((RAMP * 16).astype('<u2'), 'mono16')
    dark = raw((RAMP * 2).astype('<u2'), 'mono16')
    message_to_rgb(bright, levels=levels)
    assert levels.bits == 12 and '12 of 16 bits' in levels.said
    assert np.abs(message_to_rgb(dark, levels=levels)[..., 0].astype(int) - RAMP // 8).max() <= 1
    assert message_to_rgb(dark)[..., 0].max() > 100       # alone, it is 10 bits as far as we know


def test_levels_say_nothing_of_pictures_that_use_all_bits() -> None:
    levels = Levels()
    message_to_rgb(raw(CORNERS, 'rgb8'), levels=levels)
    assert levels.said == ''
    message_to_rgb(raw((RAMP * 257).astype('<u2'), 'mono16'), levels=levels)
    assert levels.said == ''


@pytest.mark.parametrize('big', [0, 1])
@pytest.mark.parametrize('top', [1.0, 255.0])
def test_32fc3_holds_colours_up_to_1_or_up_to_255(top: float, big: int) -> None:
    values = (CORNERS[..., ::-1] / 255.0 * top).astype('>f4' if big else '<f4')
    assert_corners(message_to_rgb(raw(values.reshape(32, -1), '32FC3', width=48, big=big)))


@pytest.mark.parametrize('odd', [-0.5, np.nan, np.inf, 300.0])
def test_32fc3_of_points_or_normals_is_no_picture(odd: float) -> None:
    values = (CORNERS / 255.0).astype('<f4')
    values[3, 5, 1] = odd
    with pytest.raises(ImageError, match="'32FC3'.*no colours"):
        message_to_rgb(raw(values.reshape(32, -1), '32FC3', width=48))


@pytest.mark.parametrize('values', [RAMP / 255.0, RAMP.astype(float), RAMP * 257 / 65535.0])
def test_32fc1_of_grey_levels_is_a_picture(values: np.ndarray) -> None:
    rgb = message_to_rgb(raw(values.astype('<f4'), '32FC1'))
    assert np.abs(rgb.astype(int) - RAMP[..., None]).max() <= 1


@pytest.mark.parametrize('values', [
    0.3 + RAMP / 400.0,                                   # a table under a wrist camera, metres
    1.5 + RAMP / 97.0, RAMP * 11.0,                       # a room; millimetres
    np.where(RAMP > 90, np.nan, RAMP / 255.0), np.where(RAMP > 90, np.inf, RAMP / 255.0),
    (RAMP > 90).astype(float), np.zeros((32, 48)),        # masks
])
def test_32fc1_of_depth_or_masks_is_refused_in_one_line(values: np.ndarray) -> None:
    with pytest.raises(ImageError, match="'32FC1' is depth or a mask, not a picture.*mono8"):
        message_to_rgb(raw(values.astype('<f4'), '32FC1'))


def packed(data: np.ndarray, kind: str, suffix: str = '.png', stamp: int = 1):
    """:return: a ``CompressedImage`` of that format field around pixels as they are."""
    return STORE.types[COMPRESSED](header=header(stamp), format=kind,
                                   data=cv2.imencode(suffix, data)[1].ravel())


@pytest.mark.parametrize('pattern', ['rggb', 'bggr', 'gbrg', 'grbg'])
@pytest.mark.parametrize(('bits', 'suffix'), [(8, '.jpg'), (8, '.png'), (16, '.png')])
def test_mosaics_in_jpeg_and_png_get_their_colours(pattern: str, bits: int, suffix: str) -> None:
    data = mosaic(pattern)
    data = data.astype(np.uint16) << 8 if bits == 16 else data
    kind = f'bayer_{pattern}{bits}; {"jpeg" if suffix == ".jpg" else "png"} compressed '
    # A mosaic of strong colours is rough, which a JPEG does not hold to the last level.
    assert_corners(message_to_rgb(packed(data, kind, suffix), lambda height, width: 1),
                   60 if suffix == '.jpg' else 6)


def test_jpeg_of_a_bayer_camera_that_has_colours_already_is_left_alone() -> None:
    message = packed(CORNERS[..., ::-1], 'bayer_rggb8; jpeg compressed bgr8', '.jpg')
    assert_corners(message_to_rgb(message), 12)


@pytest.mark.parametrize('kind', ['png', '', 'tiff', '16UC1; png compressed ', 'rgb8'])
def test_deep_grey_that_does_not_call_itself_a_picture_is_depth(kind: str) -> None:
    with pytest.raises(ImageError, match='depth.*mono16|depth or a mask'):
        message_to_rgb(packed((RAMP * 16).astype(np.uint16), kind))


def test_deep_png_of_12_bits_fills_its_range() -> None:
    message = packed((RAMP * 16).astype(np.uint16), 'mono16; png compressed ')
    assert np.abs(message_to_rgb(message)[..., 0].astype(int) - RAMP).max() <= 1
    colours = (CORNERS[..., ::-1].astype(np.uint32) * 4095 // 255).astype(np.uint16)
    assert_corners(message_to_rgb(packed(colours, 'png')))


@pytest.mark.parametrize('maxval', [15, 255, 300, 1023, 4095, 65535])
@pytest.mark.parametrize('magic', ['P2', 'P5'])
def test_pgm_fills_the_range_that_its_header_names(magic: str, maxval: int) -> None:
    values = RAMP * maxval // 255
    head = f'{magic}\n# by a camera 12\n48 32\n{maxval}\n'.encode()
    body = (values.astype('>u2' if maxval > 255 else np.uint8).tobytes() if magic == 'P5'
            else (' '.join(map(str, values.ravel())) + '\n').encode())
    rgb = compressed_to_rgb(head + body, '.pgm', file=True)
    assert np.abs(rgb[..., 0].astype(int) - values * 255 // maxval).max() <= 1


def test_dark_pgm_stays_dark() -> None:
    head = b'P5 48 32 1023\n'
    rgb = compressed_to_rgb(head + (RAMP // 8).astype('>u2').tobytes(), '.pgm', file=True)
    assert rgb.max() <= 8


def test_log_of_12_bits_is_as_bright_as_one_of_8_and_says_so_once(tmp_path: Path,
                                                                  options: DataOptions) -> None:
    grey = [cv2.cvtColor(scene(0, k), cv2.COLOR_RGB2GRAY) for k in range(6)]
    messages = [('/plain', IMAGE, k + 1, raw(grey[k], 'mono8', k + 1)) for k in range(6)]
    messages += [('/deep', IMAGE, k + 1, raw(grey[k].astype('<u2') << 4, 'mono16', k + 1))
                 for k in range(6)]
    messages += [('/packed', COMPRESSED, k + 1, packed(
        grey[k].astype(np.uint16) << 4, 'mono16; png compressed ', stamp=k + 1))
        for k in range(6)]
    frames = load(write_bag(tmp_path / 'bag', messages), options)
    assert frames.topics == ('/deep', '/packed', '/plain')
    deep, png, plain = (frames.images[np.flatnonzero(frames.topic == k)] for k in range(3))
    assert np.array_equal(deep, plain) and np.array_equal(png, plain)
    for topic in ('/deep', '/packed'):
        assert sum(topic in note and '12 of 16 bits' in note for note in frames.notes) == 1
    assert len(frames.notes) == 2


def test_logs_leave_out_depth_whatever_it_is_called(tmp_path: Path, options: DataOptions) -> None:
    room = (1.5 + RAMP / 97.0).astype('<f4')
    messages = [('/camera', IMAGE, 1, raw(scene(0), 'rgb8')),
                ('/float_grey', IMAGE, 1, raw((RAMP / 255).astype('<f4'), '32FC1')),
                ('/range_m', IMAGE, 1, raw(room, '32FC1')),
                ('/range_mm', COMPRESSED, 1, packed((RAMP * 16).astype(np.uint16), 'png'))]
    frames = load(write_bag(tmp_path / 'bag', messages), options)
    assert frames.topics == ('/camera', '/float_grey') and len(frames.notes) == 2
    assert any('/range_m left out' in note and '32FC1' in note for note in frames.notes)
    assert any('/range_mm left out' in note and 'mono16' in note for note in frames.notes)


def test_folder_of_deep_files_has_one_range(tmp_path: Path, options: DataOptions) -> None:
    folder = tmp_path / 'thermal'
    folder.mkdir()
    for name, factor in (('a.png', 16), ('b.png', 4), ('c.tiff', 4)):
        cv2.imwrite(str(folder / name), (RAMP * factor).astype(np.uint16))
    frames = load(folder, options)
    means = frames.images[:].mean((1, 2, 3))
    assert means[0] == pytest.approx(128, abs=3) and means[1:] == pytest.approx(32, abs=3)
    assert sum('12 of 16 bits' in note for note in frames.notes) == 1


def test_deep_grey_files_of_a_folder_named_depth_are_left_out(tmp_path: Path,
                                                              options: DataOptions) -> None:
    folder = tmp_path / 'depth'
    folder.mkdir()
    cv2.imwrite(str(folder / 'a.png'), (RAMP * 16).astype(np.uint16))
    with pytest.raises(UserError, match='depth.*1 image'):
        load(folder, options)
    cv2.imwrite(str(folder / 'b.png'), scene(0))
    assert len(load(folder, options).images) == 1


def test_names_of_the_table_are_those_of_the_error() -> None:
    with pytest.raises(ImageError) as caught:
        message_to_rgb(raw(CORNERS, 'purple12'))
    for name in ('nv21', 'nv24', 'rgb16', 'bgra16', 'bayer_grbg16', '32fc3'):
        assert name in ENCODINGS and name in str(caught.value)
