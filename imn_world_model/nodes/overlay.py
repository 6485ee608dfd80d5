"""A picture of what the model saw and what it made of it, for the debug topic."""
from typing import Any

import cv2
import numpy as np

SIDE = 256
TEXT_HEIGHT = 28


def draw(image: np.ndarray, reconstruction: np.ndarray, text: str) -> np.ndarray:
    """
    Put the input and its reconstruction side by side above a line of text.

    :param image: (S, S, 3) uint8 RGB, what the model saw.
    :param reconstruction: (S, S, 3) uint8 RGB.
    :param text: written below; ASCII.
    :return: (284, 512, 3) uint8 RGB.
    """
    pictures = [cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST)
                for picture in (image, reconstruction)]
    canvas = np.zeros((SIDE + TEXT_HEIGHT, 2 * SIDE, 3), np.uint8)
    canvas[:SIDE] = np.hstack(pictures)
    cv2.putText(canvas, text, (6, SIDE + 19), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1,
                cv2.LINE_AA)
    return canvas


def colour_of(track: int) -> tuple[int, int, int]:
    """:return: RGB of a track; those of numbers that follow each other differ."""
    hue = np.uint8(track * 73 % 180)
    red, green, blue = cv2.cvtColor(np.array([[[hue, 200, 255]]], np.uint8),
                                    cv2.COLOR_HSV2RGB)[0, 0]
    return int(red), int(green), int(blue)


def caption(found: Any) -> str:
    """:return: what is written on an object (imn_msgs/Object); ASCII."""
    return f'{found.track} {found.label} {found.confidence:.2f}' + ' novel' * found.novel


def outlined(rgb: np.ndarray, objects: list[Any]) -> np.ndarray:
    """
    Draw boxes and names into a camera's picture.

    :param rgb: (H, W, 3) uint8.
    :param objects: imn_msgs/Object messages.
    :return: (284, W', 3) uint8, the picture scaled to that height.
    """
    height = SIDE + TEXT_HEIGHT
    scale = height / rgb.shape[0]
    canvas = cv2.resize(rgb, (max(1, round(rgb.shape[1] * scale)), height),
                        interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST)
    for found in objects:
        x, y, across, down = (round(float(value) * scale) for value in found.box)
        colour = colour_of(found.track)
        cv2.rectangle(canvas, (x, y), (x + across, y + down), colour, 2)
        cv2.putText(canvas, caption(found), (max(2, x), max(12, y - 4)),
                    cv2.FONT_HERSHEY_SIMPLEX, 0.45, colour, 1, cv2.LINE_AA)
    return canvas


def shrunk(picture: np.ndarray, most: int) -> np.ndarray:
    """
    Make a picture as small as a message may be.

    :param picture: (H, W, 3) uint8.
    :param most: bytes.
    :return: the picture, or one of the same shape that holds no more bytes.
    """
    scale = (most / picture.nbytes) ** 0.5
    if scale >= 1:
        return picture
    sides = [max(1, int(side * scale)) for side in picture.shape[1::-1]]
    return np.asarray(cv2.resize(picture, sides, interpolation=cv2.INTER_AREA))
