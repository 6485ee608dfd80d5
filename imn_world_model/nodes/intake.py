"""Where images wait for the inference thread: one place per camera, the newest image wins."""
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

from imn_world_model.vision.regions import Box


@dataclass(frozen=True)
class Arrival:
    """
    One image message as it came from DDS.

    :param source: index of the camera topic.
    :param payload: the serialized message; only images that are really used get deserialized.
    :param received: time.monotonic() of its arrival, in seconds.
    :param kind: message class of the payload.
    :param boxes: of the objects in it (x, y, width, height in pixels), where a detector tells.
    """

    source: int
    payload: bytes
    received: float
    kind: type
    boxes: tuple[Box, ...] | None = None


class Intake:
    """
    One mailbox per camera topic. A new image replaces one that nobody has taken yet.

    :param num_sources: number of camera topics.
    """

    def __init__(self, num_sources: int) -> None:
        self.num_sources = num_sources
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

    def take(self, gather: float) -> Iterator[Arrival]:
        """
        Wait for an image, then hand on the newest of each camera, each as soon as it is there.

        :param gather: seconds to wait for the other cameras once one image is there.
        :return: at most one image per camera, in order of arrival; none once closed.
        """
        missing = set(range(self.num_sources))
        deadline: float | None = None
        while missing:
            with self._changed:
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                self._changed.wait_for(
                    lambda: self._closed or any(self._slots[source] for source in missing), left)
                arrivals = [slot for source, slot in enumerate(self._slots)
                            if slot is not None and source in missing]
                if self._closed or not arrivals:
                    return
                for arrival in arrivals:
                    self._slots[arrival.source] = None
                    missing.remove(arrival.source)
                deadline = time.monotonic() + gather if deadline is None else deadline
            yield from arrivals

    @property
    def waits(self) -> bool:
        """Whether an image waits to be taken."""
        with self._changed:
            return any(slot is not None for slot in self._slots)

    def close(self) -> None:
        """Let `take` return at once, now and from now on."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
