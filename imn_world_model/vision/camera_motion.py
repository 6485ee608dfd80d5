"""
How the picture of a background moves from one picture to another: a similarity.

Points of a grid are followed (Lucas and Kanade, in a pyramid), which tells it to a fraction of a
pixel and in a fifth of the time of dense flow. Where they do not agree, as on things without
texture in other light, dense optical flow tells it (DIS, Kroeger et al. 2016).

Needs neither torch nor ROS.
"""
import cv2
import numpy as np

# Points lie so many pixels apart; a similarity explains where they go to within the second, and
# dense flow to within the third, in pixels.
STEP, POINT_ERROR, FLOW_ERROR = 8, 0.5, 1.0
# Points: side of what is compared, halvings of the picture, how many there must be and the share
# of them that the similarity must explain.
WINDOW, HALVINGS, POINTS, AGREE = 17, 3, 20, 0.3
# Light that changes over more pixels than this is left out; details are shown so strong as if a
# picture's mean were this grey level; least mean.
LIGHT, STRONG, DARK = 4.0, 200.0, 16.0


class CameraMotion:
    """Compares pictures of one camera."""

    def __init__(self) -> None:
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)

    def __call__(self, last: np.ndarray, picture: np.ndarray) -> np.ndarray | None:
        """
        Tell where what was seen has gone.

        :param last: (h, w, 3) uint8 RGB.
        :param picture: the same, later.
        :return: (3, 3), from the earlier picture's pixels to the later one's; ``None`` where no
            similarity explains what is seen.
        """
        before, now = (cv2.cvtColor(each, cv2.COLOR_RGB2GRAY) for each in (last, picture))
        half = STEP // 2
        y, x = np.mgrid[half:now.shape[0]:STEP, half:now.shape[1]:STEP]
        start = np.stack((x, y), -1).reshape(-1, 2).astype(np.float32)
        found = _followed(_even(before), _even(now), start)
        if found is None:
            flow = self._flow.calc(before, now, np.zeros((*now.shape, 2), np.float32))
            found, _ = _similarity(start, start + flow[y, x].reshape(-1, 2), FLOW_ERROR)
        return None if found is None else np.vstack((found, (0.0, 0.0, 1.0)))


def _similarity(start: np.ndarray, end: np.ndarray, error: float
                ) -> tuple[np.ndarray | None, float]:
    """:return: (2, 3), what most points (K, 2) agree on, if anything, and the share of them."""
    cv2.setRNGSeed(0)
    matrix, agree = cv2.estimateAffinePartial2D(start, end, ransacReprojThreshold=error)
    return matrix, float(agree.mean()) if matrix is not None else 0.0


def _followed(before: np.ndarray, now: np.ndarray, start: np.ndarray) -> np.ndarray | None:
    """:return: (2, 3), what points (K, 2) say that are followed, where enough of them agree."""
    end, seen, _ = cv2.calcOpticalFlowPyrLK(before, now, start[:, None], np.empty(0, np.float32),
                                            winSize=(WINDOW, WINDOW), maxLevel=HALVINGS,
                                            criteria=(3, 10, 0.03))
    kept = seen[:, 0] > 0
    if kept.sum() < POINTS:
        return None
    found, agree = _similarity(start[kept], end[kept, 0], POINT_ERROR)
    return found if agree >= AGREE else None


def _even(grey: np.ndarray) -> np.ndarray:
    """:return: (h, w) uint8, the details of a picture about a middle grey, whatever the light."""
    gain = STRONG / max(DARK, float(cv2.mean(grey)[0]))
    return cv2.addWeighted(grey, gain, cv2.GaussianBlur(grey, (0, 0), LIGHT), -gain, 128.0)
