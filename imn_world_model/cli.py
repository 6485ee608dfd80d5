"""What every command line shares: errors in one line, files that are whole or absent."""
import errno
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from imn_world_model.errors import UserError

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130


def run_cli(main: Callable[[list[str] | None], int | None]) -> None:
    """
    Run a command line and leave with its exit status.

    A :class:`UserError`, a missing or forbidden file, a full disk and Ctrl-C become one line on
    standard error; anything else is a bug and keeps its traceback.

    :param main: takes the arguments (``None`` for ``sys.argv``), returns the status or ``None``.
    """
    try:
        sys.exit(main(None) or 0)
    except UserError as error:
        _leave(str(error), EXIT_USER_ERROR)
    except KeyboardInterrupt:
        _leave('interrupted', EXIT_INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output has left (`... | head`); there is nobody to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_USER_ERROR)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            _leave(f'no space left on the disk of {error.filename or "the output"}; '
                   'free some or choose another place', EXIT_USER_ERROR)
        if error.filename is None:
            raise
        _leave(f'{error.filename}: {error.strerror}', EXIT_USER_ERROR)


def _leave(message: str, status: int) -> None:
    print(f'error: {" ".join(message.split())}', file=sys.stderr)
    sys.exit(status)


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """
    A temporary path beside ``path`` that takes its place when the block ends well.

    :param path: the file or folder to write; folders on the way are made.
    :return: the temporary path (does not exist yet); removed when the block fails.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f'.{path.name}.', dir=path.parent))
    try:
        yield scratch / path.name
        os.replace(scratch / path.name, path)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
