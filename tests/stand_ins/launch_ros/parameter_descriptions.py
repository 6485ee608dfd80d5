"""Stand-in, see launch/__init__.py."""
from pathlib import Path


class ParameterFile:
    """
    A parameters file.

    :param path: of the file.
    :param allow_substs: not used.
    :raises OSError: when it cannot be read.
    """

    def __init__(self, path: str, *, allow_substs: bool = False) -> None:
        Path(path).read_text()
        self.path = path
