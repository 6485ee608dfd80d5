"""The cut and resize that training and robot share."""
from typing import Any

import numpy as np
import pytest

from imn_world_model.base.errors import UserError
from imn_world_model.vision.preprocess import Crop, prepare


def numbered(height: int, width: int) -> np.ndarray:
    """:return: (H, W, 3) uint8 whose channels hold row, column and their sum."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack((rows, columns, rows + columns), axis=-1).astype(np.uint8)


def test_prepare_averages_areas() -> None:
    image = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    expected = image.reshape(8, 3, 8, 3, 3).mean((1, 3))
    assert np.abs(prepare(image, 8, Crop()) - expected).max() <= 0.5 + 1e-6


@pytest.mark.parametrize('side', [96, 192])
def test_large_images_are_halved_first_to_the_same_averages(side: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    expected = image.reshape(8, side // 8, 8, side // 8, 3).mean((1, 3))
    # OpenCV rounds halves up: an eighth of a level on average at each halving.
    assert np.abs(prepare(image, 8, Crop()) - expected).max() <= 1.25


def test_halves_that_cut_the_areas_stay_near_the_averages() -> None:
    image = numbered(120, 120)
    expected = image.reshape(8, 15, 8, 15, 3).mean((1, 3))
    assert np.abs(prepare(image, 8, Crop()) - expected).max() <= 1.5


@pytest.mark.parametrize(('height', 'width', 'first'), [(10, 16, (0, 3)), (17, 10, (3, 0))])
def test_center_cuts_the_largest_centred_square(height: int, width: int,
                                                first: tuple[int, int]) -> None:
    result = prepare(numbered(height, width), 10, Crop())
    assert tuple(result[0, 0, :2]) == first
    assert tuple(result[-1, -1, :2]) == (first[0] + 9, first[1] + 9)


def test_none_keeps_the_whole_image() -> None:
    result = prepare(numbered(20, 40), 10, Crop('none'))
    assert tuple(result[0, 0, :2]) in {(0, 2), (1, 2)} and result[-1, -1, 1] in (37, 38)


def test_region_of_interest_is_cut_first() -> None:
    result = prepare(numbered(30, 40), 8, Crop('center', (4, 5, 12, 8)))
    assert tuple(result[0, 0, :2]) == (5, 6) and tuple(result[-1, -1, :2]) == (12, 13)


def test_region_outside_the_image_is_refused() -> None:
    with pytest.raises(UserError, match='does not fit into an image of 40x30'):
        prepare(numbered(30, 40), 8, Crop('center', (35, 0, 10, 10)))


def test_result_is_contiguous_even_when_nothing_is_resized() -> None:
    result = prepare(numbered(8, 16), 8, Crop())
    assert result.flags['C_CONTIGUOUS'] and result.shape == (8, 8, 3)


@pytest.mark.parametrize(('mode', 'roi', 'cause'), [
    ('middle', None, "crop mode is 'middle'"), ('center', (0, 0, 5), 'give x, y, width, height'),
    ('none', (-1, 0, 5, 5), 'at least 0'), ('none', (0, 0, 0, 5), 'at least 1')])
def test_impossible_crops_name_what_was_received(mode: Any, roi: Any,
                                                 cause: str) -> None:
    with pytest.raises(UserError, match=cause):
        Crop(mode, roi)


def test_background_is_removed_where_that_is_asked_for() -> None:
    image = np.full((64, 64, 3), (30, 90, 40), np.uint8)
    image[16:48, 20:44] = (250, 10, 10)
    left = prepare(image, 64, Crop('none', None, 'remove'))
    assert (left[:8] == 127).all() and (left[:, :12] == 127).all()
    assert np.abs(left[24:40, 28:36].astype(int) - (250, 10, 10)).max() <= 1
    assert (prepare(image, 64, Crop('none')) == image).all()


def test_backgrounds_that_are_unknown_or_kept_under_turned_objects_are_refused() -> None:
    with pytest.raises(UserError, match="background is 'blur'; it must be 'keep' or 'remove'"):
        Crop('none', None, 'blur')                    # type: ignore[arg-type]
    with pytest.raises(UserError, match='only those before a removed background'):
        Crop('none', None, 'keep', True)
