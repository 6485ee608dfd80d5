"""The inference thread: takes the newest images, asks the model, hands the answers on."""
import os
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from itertools import chain
from typing import Any

import numpy as np

from imn_world_model.base.errors import UserError
from imn_world_model.data.images import Halvings
from imn_world_model.nodes.intake import Arrival, Intake
from imn_world_model.robot.inference import ImnModel, Winner
from imn_world_model.vision.regions import Box, Region, cut

NOT_FINITE = ('the model answers with numbers that are not finite (NaN): its file is damaged, or '
              'it overflows; export it again')


@dataclass(frozen=True)
class Frame:
    """
    One object of an image, or a whole image, on its way through the model.

    :param arrival: where the image came from, and when.
    :param header: std_msgs/Header of the message.
    :param image: (S, S, 3) uint8, what the model sees of it.
    :param rgb: (H, W, 3) uint8, the image as it was read.
    :param sides: width and height of the image as it came; a whole image may be read halved.
    :param box: of the object in it (x, y, width, height); None for a whole image.
    """

    arrival: Arrival
    header: Any
    image: np.ndarray
    rgb: np.ndarray
    sides: tuple[int, int]
    box: Box | None = None


@dataclass(frozen=True)
class Empty:
    """
    An image in which no object is.

    :param arrival: where it came from, and when.
    :param header: std_msgs/Header of the message.
    :param rgb: (H, W, 3) uint8, the image as it was read.
    :param sides: its width and height.
    """

    arrival: Arrival
    header: Any
    rgb: np.ndarray
    sides: tuple[int, int]


class InferenceWorker(threading.Thread):
    """
    Runs until stopped; nothing that a message holds can end it.

    :param model: answers; may be replaced at any time through the attribute of that name.
    :param intake: where images come from.
    :param gather: seconds to wait for the other cameras once one image is there.
    :param decode: from an arrival, and how often its image may be halved, to (header, rgb);
        raises UserError on a bad image.
    :param answer: called with the model, its frames and their answers, row by row the same; the
        objects of an image follow each other.
    :param reject: called with an arrival that gets no answer, the cause, and whether that is the
        model rather than the image.
    :param find: from an arrival and its (H, W, 3) picture to the objects in it; by default whole
        images are looked at.
    :param nothing: called with the model and an image in which no object is.
    :param answered: called when a batch's answers are out with each camera's number, and whether
        another image waits already; several cameras' at once.
    """

    def __init__(self, model: ImnModel, intake: Intake, gather: float,
                 decode: Callable[[Arrival, Halvings], tuple[Any, np.ndarray]],
                 answer: Callable[[ImnModel, list[Frame], Winner, float], None],
                 reject: Callable[[Arrival, str, bool], None],
                 find: Callable[[Arrival, np.ndarray], list[Region]] | None = None,
                 nothing: Callable[[ImnModel, 'Empty'], None] = lambda model, picture: None,
                 answered: Callable[[int, bool], None] | None = None) -> None:
        super().__init__(name='inference', daemon=True)
        self.model = model
        self.gather = gather
        self._intake = intake
        self._decode = decode
        self._answer = answer
        self._reject = reject
        self._find = find
        self._nothing = nothing
        self._answered = answered
        # Several cameras' images are read at once; OpenCV decodes outside Python's lock.
        self._pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)), 'images')

    def run(self) -> None:
        """Loop; see the class."""
        while (first := next(arrivals := self._intake.take(self.gather), None)) is not None:
            # Read once, so that a batch is prepared and answered by one and the same model.
            model = self.model
            frames = self._frames(model, chain([first], arrivals))
            if not frames:
                self._settle(first)
                continue
            started = time.monotonic()
            try:
                winner = model.predict(np.stack([frame.image for frame in frames]))
                taken = time.monotonic() - started
                finite = finite_rows(winner)
                if not finite.all():
                    for row in np.flatnonzero(~finite):
                        self._reject(frames[row].arrival, NOT_FINITE, True)
                    frames = [frames[row] for row in np.flatnonzero(finite)]
                    winner = take_rows(winner, finite)
                if frames:
                    self._answer(model, frames, winner, taken)
            # Whatever goes wrong, out of memory included, the next image gets its chance.
            except Exception as error:
                for frame in frames:
                    self._reject(frame.arrival, f'inference failed: {one_line(error)}', True)
            self._settle(first)

    def _settle(self, arrival: Arrival) -> None:
        """Do what may wait until answers are out."""
        answered = self._answered
        if answered is None:
            return
        try:
            list(self._pool.map(lambda source: answered(source, self._intake.waits),
                                range(self._intake.num_sources)))
        except Exception as error:
            self._reject(arrival, f'cannot be learnt from: {one_line(error)}', False)

    def _frames(self, model: ImnModel, arrivals: Iterable[Arrival]) -> list[Frame]:
        """:return: what could be read, in topic order; reading starts while others still come."""
        if self._intake.num_sources == 1:
            found = [self._objects(model, arrival) for arrival in arrivals]
        else:
            waiting = [self._pool.submit(self._objects, model, arrival) for arrival in arrivals]
            found = [future.result() for future in waiting]
        for picture in found:
            if isinstance(picture, Empty):
                self._nothing(model, picture)
        return sorted((frame for picture in found if not isinstance(picture, Empty)
                       for frame in picture), key=lambda frame: frame.arrival.source)

    def _objects(self, model: ImnModel, arrival: Arrival) -> 'list[Frame] | Empty':
        try:
            sides: list[tuple[int, int]] = []

            def halvings(height: int, width: int) -> int:
                sides.append((width, height))
                # Boxes are in pixels of the whole image.
                return model.halvings(height, width) if self._find is None else 0

            header, rgb = self._decode(arrival, halvings)
            size = sides[0] if sides else (rgb.shape[1], rgb.shape[0])
            if self._find is None:
                return [Frame(arrival, header, model.prepare(rgb), rgb, size)]
            frames = [Frame(arrival, header, cut(rgb, region, model.image_size, model.crop), rgb,
                            size, region.box) for region in self._find(arrival, rgb)]
            return frames or Empty(arrival, header, rgb, size)
        except UserError as error:
            self._reject(arrival, one_line(error), False)
        # A library may choke on a damaged image in ways of its own.
        except Exception as error:
            self._reject(arrival, f'cannot be read: {one_line(error)}', False)
        return []

    def stop(self) -> None:
        """Finish the batch in progress and end."""
        self._intake.close()
        if self.is_alive():
            self.join()
        self._pool.shutdown()


def finite_rows(winner: Winner) -> np.ndarray:
    """
    Tell answers from what a broken model gives: it would pass for identity 0.

    :param winner: answers to B images.
    :return: (B,) bool, whether all numbers of an answer are finite.
    """
    finite = np.ones(len(winner.identity), bool)
    for field in fields(winner):
        values = getattr(winner, field.name)
        if isinstance(values, np.ndarray):
            finite &= np.isfinite(values).reshape(len(finite), -1).all(axis=1)
    return finite


def take_rows(winner: Winner, rows: np.ndarray) -> Winner:
    """
    Keep some of the answers.

    :param winner: answers to B images.
    :param rows: (B,) bool, which to keep.
    """
    kept = {field.name: getattr(winner, field.name) for field in fields(winner)}
    labels = [label for label, keep in zip(winner.label, rows) if keep]
    return Winner(**{name: values[rows] for name, values in kept.items() if name != 'label'},
                  label=labels)


def one_line(error: Exception) -> str:
    """
    Shorten an exception to what fits in a log line.

    :param error: any exception.
    """
    return ' '.join(str(error).split())[:300] or type(error).__name__
