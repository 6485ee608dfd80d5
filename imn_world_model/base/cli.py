"""What every command line shares: errors in one line, files that are whole or absent."""
import ctypes
import errno
import io
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from imn_world_model.base.errors import UserError

# A disk, or a user's share of it.
FULL = (errno.ENOSPC, errno.EDQUOT)
EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130
# Of glibc's mallopt: blocks below 1 GiB come from the heap, and the heap keeps what is freed. All
# threads share it: one of their own would give back what is freed.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
KEPT_BLOCK, KEPT_HEAP = 1 << 30, (1 << 31) - 1


def run_cli(main: Callable[[list[str] | None], int | None]) -> None:
    """
    Run a command line and leave with its exit status.

    A :class:`UserError`, a missing or forbidden file, a full disk and Ctrl-C become one line on
    standard error; anything else is a bug and keeps its traceback.

    :param main: takes the arguments (``None`` for ``sys.argv``), returns the status or ``None``.
    """
    keep_freed_memory()
    # A file's name may be no UTF-8.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors='backslashreplace')
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
        if error.errno in FULL:
            _leave(f'no space left on the disk of {error.filename or "the output"}; '
                   'free some or choose another place', EXIT_USER_ERROR)
        if error.filename is None:
            raise
        _leave(f'{error.filename}: {error.strerror}', EXIT_USER_ERROR)


def keep_freed_memory() -> None:
    """
    Let the C library use freed memory again in place of giving it back.

    A network's layers ask for and free the same large blocks at every step. Given back to the
    system each time, new pages cost up to half of the processor's time.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):                 # not glibc
        return
    mallopt(M_MMAP_THRESHOLD, KEPT_BLOCK)
    mallopt(M_TRIM_THRESHOLD, KEPT_HEAP)
    mallopt(M_ARENA_MAX, 1)


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


def write_whole(path: str | Path, data: bytes) -> None:
    """
    Write a file that is whole or absent, whatever ends the process, the disk or the power.

    :param path: the file; folders on the way are made.
    :param data: all of it.
    """
    with atomic_path(path) as scratch, scratch.open('wb') as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


@contextmanager
def disk_of(folder: Path, remedy: str) -> Iterator[None]:
    """
    Name the disk that is full: not every library's error does.

    :param folder: what is written to.
    :param remedy: what the user can do once there is space.
    :raises UserError: in place of the :class:`OSError` of a full disk.
    """
    try:
        yield
    except OSError as error:
        named = error.filename and Path(os.fsdecode(error.filename)).absolute()
        elsewhere = named and folder.absolute() not in named.parents
        if error.errno not in FULL or elsewhere:
            raise
        raise UserError(f'no space left on the disk of {folder}; {remedy}') from error
