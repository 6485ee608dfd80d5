"""``python -m imn_world_model.infer``: the node's answers, offline, one JSON object a frame."""
import argparse
import json
import sys
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import h5py
import numpy as np
from tqdm import tqdm

from imn_world_model.cli import FULL, atomic_path, run_cli
from imn_world_model.cores import usable_cores
from imn_world_model.data.raw import RawFrame, Source, SourceReport
from imn_world_model.data.regions import Regions, cut, finder
from imn_world_model.data.sources import find_sources, read_frames
from imn_world_model.errors import UserError
from imn_world_model.inference import ImnModel, Winner
from imn_world_model.shipped import shipped_model

# ONNX Runtime's providers for what the other commands call accelerators.
ACCELERATORS = {'auto': None, 'cpu': ['cpu'], 'gpu': ['cuda']}
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


def main(arguments: list[str] | None = None) -> None:
    """Command line of offline inference."""
    parser = argparse.ArgumentParser(prog='imn_world_model.infer', description=__doc__)
    parser.add_argument('--model', type=Path, default=shipped_model(), metavar='FILE.onnx',
                        help='that export wrote (default: the one that comes with the package)')
    parser.add_argument('--data', nargs='+', type=Path, required=True, metavar='PATH',
                        help='whatever train reads')
    parser.add_argument('--out', type=Path, required=True, metavar='FILE.jsonl')
    parser.add_argument('--topics', nargs='+', default=[], metavar='GLOB',
                        help='image topics to use (default: all)')
    parser.add_argument('--batch', type=int, default=16, help='frames per inference')
    parser.add_argument('--providers', nargs='+', metavar='NAME',
                        help='tensorrt, cuda, cpu, best first (default: what is installed)')
    parser.add_argument('--accelerator', choices=tuple(ACCELERATORS), default='auto',
                        help='in place of --providers: cpu, gpu (CUDA) or auto')
    options = parser.parse_args(arguments)
    if options.batch < 1:
        raise UserError(f'--batch is {options.batch}; it must be at least 1')
    model = ImnModel(options.model, options.providers or ACCELERATORS[options.accelerator])
    notes: list[str] = []
    sources = find_sources(options.data, notes)
    for note in notes:
        print(note, file=sys.stderr)
    with atomic_path(options.out) as scratch, scratch.open('w') as stream:
        count, problems = write_answers(model, sources, tuple(options.topics), options.batch,
                                        stream)
        for problem in problems:
            print(problem, file=sys.stderr)
        if not count:
            raise UserError(f'nothing usable in {", ".join(map(str, options.data))}')
    print(f'{options.out}: {count} frames by {model.name} on {model.provider}')


if __name__ == '__main__':
    run_cli(main)
