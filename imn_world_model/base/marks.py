"""What this package writes beside data says so, lest a later command takes it for data."""
import struct
import zlib
from pathlib import Path

# Of a PNG: written by whom. Matplotlib's ``savefig`` takes it as ``metadata``.
MARK = {'Software': 'imn_world_model'}
# What every run folder holds, see run.py.
CONFIG = 'config.yaml'
DATA = 'data.json'
# What ``data inspect`` writes.
SHEET = 'contact_sheet.png'
SHEET_FIGURES = 'inspect.json'

SIGNATURE = b'\x89PNG\r\n\x1a\n'
# A PNG begins with its signature and 25 bytes that tell its size.
HEAD = len(SIGNATURE) + 25
# The mark stands among the first chunks.
LOOK = 512


def mark(png: bytes) -> bytes:
    """
    Write into a PNG that this package made it.

    :param png: a whole file.
    :return: the same with a text chunk; its pixels are as they were.
    """
    (key, value), = MARK.items()
    body = b'tEXt' + key.encode() + b'\0' + value.encode()
    chunk = struct.pack('>I', len(body) - 4) + body + struct.pack('>I', zlib.crc32(body))
    return png[:HEAD] + chunk + png[HEAD:]


def is_marked(path: Path) -> bool:
    """:return: whether a file is a picture that this package made."""
    (key, value), = MARK.items()
    try:
        with path.open('rb') as stream:
            head = stream.read(LOOK)
    except OSError:
        return False
    return head.startswith(SIGNATURE) and f'tEXt{key}\0{value}'.encode() in head


def is_own_picture(path: Path) -> bool:
    """:return: the same, contact sheets from before they were marked included."""
    if path.suffix.lower() != '.png':
        return False
    return is_marked(path) or (path.name == SHEET and path.with_name(SHEET_FIGURES).exists())


def is_run(folder: Path) -> bool:
    """:return: whether a folder is what ``train`` writes."""
    return (folder / CONFIG).is_file() and (folder / DATA).is_file()
