"""What every command line does with errors, and with outputs that are interrupted."""
import errno
from pathlib import Path

import pytest

from imn_world_model.base.cli import atomic_path, run_cli
from imn_world_model.base.errors import UserError


def raising(error: BaseException):
    """:return: a command line that fails."""
    def main(_: list[str] | None) -> None:
        raise error
    return main


@pytest.mark.parametrize(('error', 'status', 'message'), [
    (UserError('size is 0;\n it must be 1'), 2, 'error: size is 0; it must be 1\n'),
    (FileNotFoundError(errno.ENOENT, 'No such file or directory', 'x.h5'), 2,
     'error: x.h5: No such file or directory\n'),
    (OSError(errno.ENOSPC, 'No space left on device'), 2, 'error: no space left on the disk'),
    (KeyboardInterrupt(), 130, 'error: interrupted\n'),
])
def test_run_cli_turns_a_mistake_into_one_line(capsys: pytest.CaptureFixture[str],
                                               error: BaseException, status: int,
                                               message: str) -> None:
    with pytest.raises(SystemExit) as left:
        run_cli(raising(error))
    output = capsys.readouterr()
    assert left.value.code == status and output.out == ''
    assert output.err.startswith(message) and output.err.count('\n') == 1


def test_run_cli_keeps_the_traceback_of_a_bug() -> None:
    with pytest.raises(ZeroDivisionError):
        run_cli(raising(ZeroDivisionError()))


@pytest.mark.parametrize(('answer', 'status'), [(None, 0), (0, 0), (3, 3)])
def test_run_cli_leaves_with_the_status(answer: int | None, status: int) -> None:
    with pytest.raises(SystemExit) as left:
        run_cli(lambda _: answer)
    assert left.value.code == status


def test_atomic_path_replaces_the_target_when_all_went_well(tmp_path: Path) -> None:
    target = tmp_path / 'new' / 'out.txt'
    with atomic_path(target) as scratch:
        scratch.write_text('first')
        assert not target.exists()
    with atomic_path(target) as scratch:
        scratch.write_text('second')
        assert target.read_text() == 'first'
    assert target.read_text() == 'second' and list(target.parent.iterdir()) == [target]


def test_atomic_path_leaves_the_target_alone_on_failure(tmp_path: Path) -> None:
    target = tmp_path / 'out.txt'
    target.write_text('old')
    with pytest.raises(KeyboardInterrupt):
        with atomic_path(target) as scratch:
            scratch.write_text('half')
            raise KeyboardInterrupt
    assert target.read_text() == 'old' and list(tmp_path.iterdir()) == [target]
