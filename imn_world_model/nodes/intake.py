"""Where images wait for the inference thread: one place per camera, the newest image wins."""
import threading
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Arrival:
    """
    One image message as it came from DDS.

    :param source: index of the camera topic.
    :param payload: the serialized message; only images that are really used get deserialized.
    :param received: time.monotonic() of its arrival, in seconds.
    :param kind: message class of the payload.
    """

    source: int
    payload: bytes
    received: float
    kind: type


class Intake:
    """
    One mailbox per camera topic. A new image replaces one that nobody has taken yet.

    :param num_sources: number of camera topics.
    """

    def __init__(self, num_sources: int) -> None:
        self._slots: list[Arrival | None] = [None] * num_sources
        self._changed = threading.Condition()
        self._closed = False

    def put(self, arrival: Arrival) -> bool:
        """
        Leave an image for the inference thread.

        :param arrival: the image.
        :return: True when it replaced an older image, which is thereby dropped.
        """
        with self._changed:
            replaced = self._slots[arrival.source] is not None
            self._slots[arrival.source] = arrival
            self._changed.notify()
        return replaced

    def take(self, gather: float) -> list[Arrival]:
        """
        Wait for images and take the newest of each camera.

        :param gather: seconds to wait for the other cameras once one image is there.
        :return: at most one image per camera, in topic order; empty once closed.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or any(self._slots))
            deadline = time.monotonic() + gather
            while not self._closed and not all(self._slots):
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            taken = [slot for slot in self._slots if slot is not None and not self._closed]
            self._slots = [None] * len(self._slots)
        return taken

    def close(self) -> None:
        """Let `take` return at once, now and from now on."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
