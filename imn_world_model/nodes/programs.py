"""What `ros2 run` and the launch files start."""
import importlib
import signal


def perception() -> int:
    """:return: exit code of the node."""
    return _run('perception')


def play() -> int:
    """:return: exit code of the player."""
    return _run('player')


def show() -> int:
    """:return: exit code of the node."""
    return _run('viewer')


def state_estimator() -> int:
    """:return: exit code of the node."""
    return _run('estimator')


def _run(name: str) -> int:
    # Imports take a second or more: meanwhile Ctrl-C ends the process, and without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    code: int = importlib.import_module(f'imn_world_model.nodes.{name}').main()
    return code
