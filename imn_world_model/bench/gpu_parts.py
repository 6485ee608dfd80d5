"""
Parts of a judgement, each in a process of its own with a deadline.

A driver that hangs, a library that crashes or an engine that takes minutes to build then costs its
own rows and no others. A part is a function that yields :class:`Row`; the process writes each as
one line of JSON as soon as it is there.
"""
import json
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import IO, Any

# Begins a line that is a row: libraries write to standard output, too.
MARK = '\x1e'
ROOT = Path(__file__).resolve().parents[2]
# Seconds that a part which was told to end may take for it.
GRACE = 5.0


@dataclass(frozen=True)
class Row:
    """
    One line of a table, or why there is none.

    :param table: which it belongs to.
    :param name: what was measured.
    :param values: what was found, by column.
    :param reason: why nothing was; empty where something was.
    """

    table: str
    name: str
    values: dict[str, float] = field(default_factory=dict)
    reason: str = ''


def missing(table: str, name: str, reason: object) -> Row:
    """:return: a row that says in one line why nothing was measured."""
    return Row(table, name, reason=' '.join(str(reason).split())[:300])


def run_part(table: str, name: str, function: str, options: dict[str, Any], seconds: float,
             packages: Path | None = None) -> Iterator[Row]:
    """
    Let another process measure.

    :param table: of what is missing when it fails.
    :param name: likewise.
    :param function: ``module:function``; takes ``options``, yields rows.
    :param options: what JSON can hold.
    :param seconds: after which it is ended.
    :param packages: folder of packages that this Python lacks.
    :return: its rows as they come; one more says what went wrong, if anything did.
    """
    if seconds <= 0:
        yield missing(table, name, 'no time was left')
        return
    request = json.dumps({'function': function, 'options': options, 'table': table, 'name': name,
                          'packages': str(packages) if packages else ''})
    deadline = time.monotonic() + seconds
    lines: queue.Queue[str] = queue.Queue()
    with tempfile.TemporaryFile('w+') as errors, subprocess.Popen(
            [sys.executable, '-m', __name__, request], cwd=ROOT, text=True,
            stdout=subprocess.PIPE, stderr=errors) as process:
        assert process.stdout is not None
        reader = threading.Thread(target=_read, args=(process.stdout, lines), daemon=True)
        reader.start()
        try:
            while line := lines.get(timeout=max(0.0, deadline - time.monotonic())):
                if line.startswith(MARK):
                    yield Row(**json.loads(line[1:]))
        except queue.Empty:
            yield missing(table, name, f'stopped after {seconds:.0f} s')
        else:
            status = process.wait()
            if status:
                cause = signal.Signals(-status).name if status < 0 else f'status {status}'
                errors.seek(0)
                last = (errors.read().strip().splitlines() or [''])[-1]
                yield missing(table, name, f'its process ended with {cause}: {last}')
        finally:
            _end(process)
            reader.join()


def _read(stream: IO[str], lines: 'queue.Queue[str]') -> None:
    """Hand lines over; an empty one says that there are no more."""
    for line in stream:
        lines.put(line)
    lines.put('')


def _end(process: subprocess.Popen[str]) -> None:
    """End a part that is still there."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def main() -> None:
    """Run one part, as :func:`run_part` asks for it."""
    request = json.loads(sys.argv[1])
    if request['packages']:
        # At the end: what is installed comes first.
        sys.path.append(request['packages'])
    warnings.simplefilter('ignore')
    table, name = request['table'], request['name']
    try:
        module, function = request['function'].split(':')
        part = getattr(import_module(module), function)
        for row in part(**request['options']):
            _tell(row)
    except ImportError as error:
        _tell(missing(table, name, f'{error}; install it, or put its wheel where --packages '
                                   'looks'))
    except Exception as error:                        # whatever a library or driver may raise
        lines = str(error).strip().splitlines() or ['']
        _tell(missing(table, name, f'{type(error).__name__}: {lines[0]}'))


def _tell(row: Row) -> None:
    print(MARK + json.dumps(asdict(row)), flush=True)


if __name__ == '__main__':
    main()
