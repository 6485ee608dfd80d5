"""From pixels to rays: a calibrated camera, as ROS describes it."""
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from imn_world_model.base.errors import UserError

# Distortion models of sensor_msgs/CameraInfo that share OpenCV's usual one.
USUAL = ('', 'plumb_bob', 'rational_polynomial')
FISHEYE = 'equidistant'


@dataclass(frozen=True)
class Pinhole:
    """
    A camera's calibration.

    :param matrix: (3, 3), from rays in the optical frame (right, down, forward) to pixels.
    :param distortion: (D,) coefficients in OpenCV's order; empty for none.
    :param model: of the distortion, as in sensor_msgs/CameraInfo.
    :param sides: width and height of the calibrated pictures in pixels.
    """

    matrix: np.ndarray
    distortion: np.ndarray
    model: str
    sides: tuple[int, int]

    @staticmethod
    def of(message: Any) -> 'Pinhole':
        """
        Read sensor_msgs/CameraInfo, of ROS 1 or 2, live or recorded.

        :raises UserError: when the camera was never calibrated, or has an unknown model.
        """
        old = hasattr(message, 'K')
        matrix = np.array(message.K if old else message.k, float).reshape(3, 3)
        distortion = np.array(message.D if old else message.d, float).ravel()
        if matrix[0, 0] <= 0 or matrix[1, 1] <= 0 or min(message.width, message.height) < 1:
            raise UserError('camera_info holds no calibration (focal length or size is 0); '
                            'calibrate the camera, for example with camera_calibration')
        model = message.distortion_model
        if distortion.any() and model not in (*USUAL, FISHEYE):
            raise UserError(f"camera_info has the distortion model '{model}', which is not known "
                            f'here; known are {", ".join((*USUAL[1:], FISHEYE))}')
        return Pinhole(matrix, distortion, model, (int(message.width), int(message.height)))

    def rays(self, points: np.ndarray, sides: tuple[int, int]) -> np.ndarray:
        """
        Directions in which the camera sees points.

        :param points: (N, 2), x and y in pixels.
        :param sides: width and height of their picture, which may be a scaled one.
        :return: (N, 2), x / z and y / z in the optical frame.
        :raises UserError: when the picture has other proportions than the calibrated ones.
        """
        scale = np.array(self.sides, float) / sides
        if abs(scale[0] / scale[1] - 1) > 0.01:
            raise UserError(f'pictures have {sides[0]}x{sides[1]} pixels, camera_info is for '
                            f'{self.sides[0]}x{self.sides[1]}: other proportions; give the '
                            'camera_info of these pictures')
        pixels = np.asarray(points, float).reshape(-1, 1, 2) * scale
        undistort = (cv2.fisheye.undistortPoints if self.model == FISHEYE and self.distortion.any()
                     else cv2.undistortPoints)
        plane: np.ndarray = undistort(pixels, self.matrix, self.distortion)
        return plane.reshape(-1, 2)


def unit(rays: np.ndarray) -> np.ndarray:
    """:return: (..., 3) unit vectors of rays (..., 2) as :meth:`Pinhole.rays` gives them."""
    ahead = np.concatenate((rays, np.ones((*rays.shape[:-1], 1))), -1)
    length: np.ndarray = np.linalg.norm(ahead, axis=-1, keepdims=True)
    return ahead / length
