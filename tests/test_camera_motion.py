"""How a background moves from picture to picture, against what pictures were moved by."""
import cv2
import numpy as np
import pytest

from imn_world_model.learning.photographs import texture
from imn_world_model.vision.camera_motion import CameraMotion

SIDES = 160, 120


def pictures(matrix: np.ndarray, light: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """:return: two of a table (120, 160, 3) uint8, the second moved by a similarity (2, 3)."""
    rng = np.random.default_rng(0)
    pattern = cv2.resize(texture(160, rng), (480, 360), interpolation=cv2.INTER_CUBIC)
    grain = cv2.GaussianBlur(rng.normal(0, 40, pattern.shape), (0, 0), 1.2)
    pattern = np.clip(pattern + grain, 0, 255).astype(np.uint8)
    one = pattern[100:220, 100:260]
    whole = np.vstack((matrix, (0, 0, 1))) @ np.array([[1.0, 0, -100], [0, 1, -100], [0, 0, 1]])
    other = cv2.warpAffine(pattern, whole[:2], SIDES)
    return one, np.clip(other * light, 0, 255).astype(np.uint8)


def error(found: np.ndarray, matrix: np.ndarray) -> float:
    """:return: pixels by which the corners of a picture are wrong at most."""
    corner = np.array([[0, 0, 1], [160, 0, 1], [0, 120, 1], [160, 120, 1]], float)
    return float(np.abs(corner @ (found[:2] - matrix).T).max())


@pytest.mark.parametrize('light', (1.0, 0.75))
@pytest.mark.parametrize(('x', 'y', 'zoom', 'turn'), ((0, 0, 1, 0), (6.3, -2.7, 1, 0),
                                                     (-3, 2, 1.04, 0.03)))
def test_points_tell_motion_to_a_fraction_of_a_pixel(x, y, zoom, turn, light):
    camera = CameraMotion()
    camera._flow = None                               # not needed: points agree
    matrix = np.array([[zoom * np.cos(turn), -zoom * np.sin(turn), x],
                       [zoom * np.sin(turn), zoom * np.cos(turn), y]])
    assert error(camera(*pictures(matrix, light)), matrix) < 0.6


def test_dense_flow_tells_where_points_do_not_agree(monkeypatch):
    monkeypatch.setattr('imn_world_model.vision.camera_motion.AGREE', 1.01)
    matrix = np.array([[1.0, 0, 2.5], [0, 1, -1.5]])
    assert error(CameraMotion()(*pictures(matrix)), matrix) < 1.0


def test_nothing_to_see_moves_nowhere():
    grey = np.full((120, 160, 3), 90, np.uint8)
    found = CameraMotion()(grey, grey)
    assert found is None or error(found, np.eye(3)[:2]) < 0.1
