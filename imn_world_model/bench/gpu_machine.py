"""What a GPU judgement runs on: card, driver, versions, load; wheels that lie beside the tree."""
import platform
import subprocess
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from imn_world_model.base.cores import usable_cores

PACKAGES = ('torch', 'lightning', 'onnxruntime', 'onnxruntime-gpu', 'tensorrt')
# Milliseconds between looks at the load.
PERIOD = 200


def machine() -> dict[str, str]:
    """:return: what the figures are of, by name; why where something cannot be had."""
    facts = {'processor': f'{_processor()}, {usable_cores()} cores',
             'python': platform.python_version()}
    try:
        names, driver = zip(*(line.split(', ') for line in ask('name,driver_version')),
                            strict=True)
        facts |= {'card': ', '.join(names), 'driver': driver[0]}
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        facts['card'] = f'none that nvidia-smi tells of ({type(error).__name__})'
    for package in PACKAGES:
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            facts[package] = 'not installed'
    return facts


def ask(query: str) -> list[str]:
    """:return: nvidia-smi's answer, a line for each card."""
    done = subprocess.run(['nvidia-smi', f'--query-gpu={query}', '--format=csv,noheader,nounits'],
                          check=True, capture_output=True, text=True, timeout=20)
    return done.stdout.strip().splitlines()


class Load:
    """
    How busy a card was.

    :ivar share: mean over the block in [0, 1], after it; NaN where nvidia-smi does not say.
    """

    share = float('nan')


@contextmanager
def load(card: str) -> Iterator[Load]:
    """
    Watch a card while a block runs.

    :param card: its number or UUID, as nvidia-smi has it.
    """
    found = Load()
    try:
        watcher = subprocess.Popen(
            ['nvidia-smi', '-i', card, '--query-gpu=utilization.gpu', '-lms', str(PERIOD),
             '--format=csv,noheader,nounits'], stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True)
    except OSError:
        yield found
        return
    try:
        yield found
    finally:
        watcher.terminate()
        lines = watcher.communicate()[0].split()
        values = [float(line) for line in lines if line.isdigit()]
        if values:
            found.share = float(np.mean(values)) / 100


def _processor() -> str:
    try:
        text = Path('/proc/cpuinfo').read_text()
        return next(line.split(': ', 1)[1] for line in text.splitlines()
                    if line.startswith('model name'))
    except (OSError, StopIteration, IndexError):
        return platform.machine()


def unpack(wheels: Path, folder: Path) -> list[str]:
    """
    Lay out the wheels that this Python can use and does not have.

    :param wheels: folder of ``.whl`` files.
    :param folder: to unpack into; put it at the end of ``sys.path``.
    :return: their names.
    """
    files = sorted(wheels.glob('*.whl'))
    if not files:
        return []
    # Comes with onnxruntime; nothing else here needs it.
    from packaging.tags import sys_tags
    from packaging.utils import parse_wheel_filename
    usable, found = set(sys_tags()), []
    for file in files:
        name, _, _, tags = parse_wheel_filename(file.name)
        if usable.isdisjoint(tags) or _installed(name):
            continue
        with zipfile.ZipFile(file) as archive:
            archive.extractall(folder)
        found.append(str(name))
    return found


def _installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True
