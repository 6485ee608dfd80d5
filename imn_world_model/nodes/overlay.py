"""A picture of what the model saw and what it made of it, for the debug topic."""
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
