"""
What a GPU does for training and for the robot, in at most six minutes.

Needs no network, and of other packages only those of the rows that are wanted: what is missing,
of hardware or software, is named with the reason, and the rest is measured. Wheels in a folder
``wheels`` beside the tree stand in for packages that are not installed.

    python -m imn_world_model.bench --gpu
"""
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from imn_world_model.base.shipped import shipped_model
from imn_world_model.bench.gpu_machine import machine, unpack
from imn_world_model.bench.gpu_parts import Row, missing, run_part

# For all of it; the deadline leaves time to start and to end.
SECONDS = 345.0
ENGINES = (1, 256, 16, 64, 4)
# Of single parts, so that one that hangs leaves time for the others.
LIMITS = {'cpu': 75.0, 'training': 60.0, 'cuda': 60.0, 'float16 file': 75.0, 'node': 45.0}


def run(model: Path | None, packages: Path, accelerator: str = 'auto',
        seconds: float = SECONDS, **smaller: Any) -> dict[str, float]:
    """
    Measure what this machine has and print it as tables.

    :param model: exported file; by default the demo model.
    :param packages: folder of wheels for what this Python lacks.
    :param accelerator: of training, see :func:`hardware.device_for`.
    :param seconds: for all of it.
    :param smaller: options of :func:`judge`.
    :return: figures by table, row and column.
    """
    facts = machine()
    print('| machine | |\n|---|---|')
    for name, value in facts.items():
        print(f'| {name} | {value} |')
    with tempfile.TemporaryDirectory() as folder, beside(packages) as extra:
        rows = []
        for row in judge(model or Path(shipped_model()), Path(folder), accelerator, extra,
                         time.monotonic() + seconds, **smaller):
            print(f'{row.table}: {row.name} ... {row.reason or "done"}', file=sys.stderr,
                  flush=True)
            rows.append(row)
    print(tables(rows))
    return {f'{row.table}, {row.name}, {column}': value for row in rows
            for column, value in row.values.items()}


@contextmanager
def beside(packages: Path) -> Iterator[Path | None]:
    """:return: a folder with what lies beside as wheels and is not installed, while it is used."""
    with tempfile.TemporaryDirectory() as folder:
        names = unpack(packages, Path(folder))
        if names:
            print(f'from {packages}: {", ".join(names)}', file=sys.stderr)
        yield Path(folder) if names else None


def judge(model: Path, folder: Path, accelerator: str, packages: Path | None, deadline: float,
          inference: dict[str, Any] | None = None, training: dict[str, Any] | None = None
          ) -> Iterator[Row]:
    """
    Go through the parts, those that the goals are about first.

    :param model: exported file.
    :param folder: for what parts leave for each other.
    :param accelerator: of training.
    :param packages: see :func:`run_part`.
    :param deadline: on the monotonic clock.
    :param inference: further options of :func:`gpu_inference.measure`.
    :param training: further options of :func:`gpu_training.measure`.
    """
    def part(table: str, name: str, function: str, options: dict[str, Any],
             limit: float | None = None) -> Iterator[Row]:
        left = deadline - time.monotonic()
        yield from run_part(table, name, f'{__package__}.{function}', options,
                            min(left, limit or left), packages)

    def provider(name: str, title: str, file: Path, limit: float | None = None,
                 batches: Sequence[int] | None = None) -> Iterator[Row]:
        options = {'model': str(file), 'provider': name, 'name': title,
                   'answers': str(folder / 'answers.npz')} | (inference or {})
        if batches is not None:
            options['batches'] = batches
        yield from part('inference', title, 'gpu_inference:measure', options, limit)

    yield from provider('cpu', 'CPU', model, LIMITS['cpu'])
    for size in (64, 32):
        yield from part('training', f'{size}x{size}', 'gpu_training:measure',
                        {'accelerator': accelerator, 'size': size} | (training or {}),
                        LIMITS['training'])
    cuda = list(provider('cuda', 'CUDA', model, LIMITS['cuda']))
    yield from cuda
    works = any(row.values for row in cuda)
    half = folder / 'float16.onnx'
    yield from part('inference', 'float16 file', 'gpu_inference:half_precision',
                    {'model': str(model), 'out': str(half)}, LIMITS['float16 file'])
    if half.exists():
        # What half precision costs in winners can be told without a card, its speed cannot.
        yield from provider('cpu', 'float16 file on the CPU', half, LIMITS['cpu'], batches=())
    if works and half.exists():
        yield from provider('cuda', 'CUDA float16', half, LIMITS['cuda'])
    else:
        yield missing('inference', 'CUDA float16', 'takes the float16 file and CUDA, see there')
    yield from part('node', 'CPU', 'gpu_node:measure', {'model': str(model), 'provider': 'cpu'},
                    LIMITS['node'])
    if works:
        yield from part('node', 'CUDA', 'gpu_node:measure',
                        {'model': str(model), 'provider': 'cuda'}, LIMITS['node'])
    else:
        yield missing('node', 'CUDA', 'takes CUDA, see there')
    # Last, and the goals' batch sizes first: it builds an engine for each, which takes minutes.
    yield from provider('tensorrt', 'TensorRT', model, None, None if inference else ENGINES)


def tables(rows: Iterable[Row]) -> str:
    """:return: rows as Markdown, tables one after another, then what is missing and why."""
    rows = list(rows)
    lines: list[str] = []
    columns: list[str] | None = None
    for row in (row for row in rows if row.values):
        if list(row.values) != columns:
            columns = list(row.values)
            lines += ['', f'| {row.table} | {" | ".join(columns)} |',
                      '|---' * (len(columns) + 1) + '|']
        numbers = ' | '.join(f'{value:.4g}' for value in row.values.values())
        lines.append(f'| {row.name} | {numbers} |')
    told = [f'- {row.table}, {row.name}: {row.reason}' for row in rows if row.reason]
    return '\n'.join([*lines, *(['', 'not measured:', *told] if told else [])])
