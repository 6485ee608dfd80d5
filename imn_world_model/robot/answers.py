"""The node's answers to recorded frames, in order."""
import json
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import h5py
import numpy as np
from tqdm import tqdm

from imn_world_model.base.cli import FULL
from imn_world_model.base.cores import usable_cores
from imn_world_model.base.errors import UserError
from imn_world_model.data.raw import RawFrame, Source, SourceReport
from imn_world_model.data.regions import Regions, finder
from imn_world_model.data.sources import read_frames
from imn_world_model.robot.inference import ImnModel, Winner
from imn_world_model.vision.regions import cut

# Answers that are written; the reconstruction is a picture, not a line.
KEYS = ('identity', 'score', 'identity_scores', 'active', 'transform', 'module_transforms',
        'latent_mean', 'latent_variance', 'label', 'confidence', 'novel')


def answers(model: ImnModel, source: Source, topics: tuple[str, ...], batch: int,
            report: SourceReport) -> Iterator[dict[str, Any]]:
    """
    The winners of a source's frames, in order.

    :param model: an exported model.
    :param source: where the frames are.
    :param topics: globs of image topics; empty for all.
    :param batch: frames per inference.
    :param report: filled with what could not be read.
    :return: one dictionary per readable frame.
    """
    prepared = _prepared(model, source, topics, report)
    while chunk := list(islice(prepared, batch)):
        winner = model.predict(np.stack([pixels for _, pixels in chunk]))
        for row, (origin, _) in enumerate(chunk):
            yield _plain(winner, row) | origin


def _plain(winner: Winner, row: int) -> dict[str, Any]:
    """:return: one image's answers as what JSON can hold."""
    values = {key: getattr(winner, key)[row] for key in KEYS}
    return {key: value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value
            for key, value in values.items()}


def _prepared(model: ImnModel, source: Source, topics: tuple[str, ...],
              report: SourceReport) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
    """:return: each readable frame's origin and pixels; broken ones go into the report."""
    if source.kind == 'h5':
        yield from _h5_frames(model, source.path)
        return

    find = finder(source, topics, Regions(**model.regions))

    def load(frame: RawFrame) -> np.ndarray | UserError:
        try:
            rgb = frame.load(None if find else model.halvings)
            region = find(frame, rgb) if find else None
            return (model.prepare(rgb) if region is None
                    else cut(rgb, region, model.image_size, model.crop))
        except UserError as error:
            return error

    frames = enumerate(read_frames(source, topics, None, report))
    with ThreadPoolExecutor(usable_cores()) as pool:
        waiting: deque[tuple[int, RawFrame, Future]] = deque()

        def finish() -> Iterator[tuple[dict[str, Any], np.ndarray]]:
            index, frame, future = waiting.popleft()
            pixels = future.result()
            if isinstance(pixels, UserError):
                report.problems.append(f'{source.path}, frame {index}: {pixels}')
                return
            place = {'stamp': frame.stamp} if frame.stamp else {'index': index}
            if frame.clip >= 0:                       # whose stamps begin anew with each
                place['episode'] = frame.clip
            yield {'source': str(source.path), 'topic': frame.topic, **place}, pixels

        for index, frame in frames:
            waiting.append((index, frame, pool.submit(load, frame)))
            if len(waiting) > 2 * usable_cores():
                yield from finish()
        while waiting:
            yield from finish()


def _h5_frames(model: ImnModel, path: Path) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
    try:
        with h5py.File(path, 'r') as file:
            for start in range(0, len(file['images']), 1000):
                for offset, image in enumerate(file['images'][start:start + 1000]):
                    yield ({'source': str(path), 'topic': '', 'index': start + offset},
                           model.prepare(image))
    except BlockingIOError as error:
        raise UserError(f'{path} is locked: another program writes to it, or its disk knows no '
                        'locks; wait for that program, or set HDF5_USE_FILE_LOCKING=FALSE'
                        ) from error
    except (OSError, KeyError) as error:
        raise UserError(f'{path} is not in the 3Dshapes format (no readable images)') from error


def write_answers(model: ImnModel, sources: list[Source], topics: tuple[str, ...], batch: int,
                  stream: TextIO) -> tuple[int, list[str]]:
    """
    Write one JSON object per line.

    :return: how many, and what could not be read.
    """
    count, problems = 0, []
    with tqdm(desc=model.name, unit=' frames') as bar:
        for source in sources:
            report = SourceReport()
            try:
                for answer in answers(model, source, topics, batch, report):
                    stream.write(json.dumps(answer) + '\n')
                    count += 1
                    bar.update()
            except UserError as error:                # the others may be whole
                problems.append(str(error))
            except OSError as error:
                if error.errno in FULL:               # of the answers' disk
                    raise
                problems.append(f'{source.path} cannot be read ({error.strerror or error})')
            problems += report.problems + [f'{source.path}: {topic} left out ({reason})'
                                           for topic, reason in report.left_out.items()]
    return count, problems
