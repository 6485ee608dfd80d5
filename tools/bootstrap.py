"""
Make the virtual environment that `make demo` and `make test` run in, ROS 2 included.

    python3 tools/bootstrap.py demo     what the node and the demo need
    python3 tools/bootstrap.py dev      that, and what training and the tests need

Needs nothing but the standard library. Every step leaves a stamp that holds a hash of what the
step depends on, so a second run has nothing to do, a changed pin repeats what it touches, and an
interrupted run goes on where it stopped.
"""
from __future__ import annotations

import argparse
import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# The versions for which everything in constraints.txt has a wheel.
OLDEST_PYTHON, NEWEST_PYTHON = (3, 11), (3, 13)
WHEEL_BUILD_PREFIX = '/opt/python/cp'
# A sourced ROS 2 or another environment would shadow the one made here.
FOREIGN_VARIABLES = (
    'AMENT_PREFIX_PATH', 'CMAKE_PREFIX_PATH', 'COLCON_PREFIX_PATH', 'LD_LIBRARY_PATH',
    'PYTHONHOME', 'PYTHONPATH', '_ROS_WHEELS_BOOTSTRAP_COMPLETE',
)


class BootstrapError(Exception):
    """One line for the user: what is missing, what to do."""


def check_machine() -> None:
    """
    Look for the few things that pip cannot bring.

    :raises BootstrapError: naming all that is missing and the packages that hold it.
    """
    missing = []
    version = f'{sys.version_info.major}.{sys.version_info.minor}'
    if not OLDEST_PYTHON <= sys.version_info[:2] <= NEWEST_PYTHON:
        raise BootstrapError(f'this is Python {version}; one of 3.11 to 3.13 is needed. '
                             'Name it: make PYTHON=python3.12 demo')
    # Debian ships venv without ensurepip, and venv then fails late.
    if not all(importlib.util.find_spec(name) for name in ('ensurepip', 'venv')):
        missing.append(('the venv module', f'python{version}-venv'))
    if not (Path(sysconfig.get_paths()['include']) / 'Python.h').is_file():
        missing.append(("Python's C headers", f'python{version}-dev'))
    if not any(shutil.which(name) for name in (os.environ.get('CXX', 'c++'), 'g++', 'clang++')):
        missing.append(('a C++ compiler', 'g++'))
    if not shutil.which('make'):
        missing.append(('make', 'make'))
    if missing:
        names = ', '.join(name for name, _ in missing)
        packages = ' '.join(package for _, package in missing)
        raise BootstrapError(f'missing: {names}. On Debian or Ubuntu: '
                             f'sudo apt-get install {packages}')


class Environment:
    """
    The virtual environment and its stamps.

    :param path: where it is or will be.
    :param distro: ROS 2 distribution of the wheels, as in tools/ros_DISTRO.txt.
    """

    def __init__(self, path: Path, distro: str) -> None:
        self.path = path
        self.python = path / 'bin' / 'python'
        self.stamps = path / '.bootstrap'
        self.ros_pins = ROOT / 'tools' / f'ros_{distro}.txt'
        if not self.ros_pins.is_file():
            known = sorted(file.stem[4:] for file in (ROOT / 'tools').glob('ros_*.txt'))
            raise BootstrapError(f'no pins for ROS 2 {distro!r}; there are: {", ".join(known)}')

    def step(self, name: str, title: str, inputs: list[Path], work: Callable[[], None]) -> None:
        """
        Do `work` unless it was done with the same inputs and the same earlier steps.

        :param name: of the stamp.
        :param title: what the user reads while it runs.
        :param inputs: files whose contents decide whether the work is still good.
        :param work: does it, or raises.
        """
        digest = hashlib.sha256(f'{name} {sys.version} {self.path}'.encode())
        for file in [Path(__file__), *inputs]:
            digest.update(file.read_bytes())
        stamp = self.stamps / name
        if stamp.is_file() and stamp.read_text() == digest.hexdigest():
            return
        stamp.unlink(missing_ok=True)
        print(f'[setup] {title} ...', flush=True)
        work()
        temporary = stamp.with_suffix('.new')
        temporary.write_text(digest.hexdigest())
        temporary.replace(stamp)

    def run(self, *command: object, **variables: str) -> None:
        """
        Run a command inside the environment; its output is kept and shown only if it fails.

        :param command: program and arguments.
        :param variables: set on top of the cleaned environment.
        :raises BootstrapError: with the end of the output when it fails.
        """
        environment = {key: value for key, value in os.environ.items()
                       if key not in FOREIGN_VARIABLES}
        environment.update(variables, VIRTUAL_ENV=str(self.path),
                           PATH=f'{self.path / "bin"}{os.pathsep}{os.environ["PATH"]}')
        words = [str(word) for word in command]
        log = self.stamps / 'last.log'
        with open(log, 'wb') as output:
            done = subprocess.run(words, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL,
                                  stdout=output, stderr=subprocess.STDOUT, check=False)
        if done.returncode:
            tail = log.read_text(errors='replace').splitlines()[-25:]
            print('\n'.join(tail), file=sys.stderr)
            raise BootstrapError(f'failed with code {done.returncode}: {" ".join(words[:6])} ... '
                                 f'(all of its output: {log})')

    def pip(self, *arguments: object) -> None:
        """Install with every version pinned."""
        self.run(self.python, '-m', 'pip', 'install', '--disable-pip-version-check',
                 '-c', ROOT / 'constraints.txt', '-c', self.ros_pins, *arguments)

    def create(self) -> None:
        """Make the environment itself."""
        self.run(sys.executable, '-m', 'venv', self.path)

    def install_demo(self) -> None:
        """Install ROS 2, the tools that build messages for it, and what the node needs."""
        self.pip('-r', self.ros_pins, '-r', ROOT / 'tools' / 'build.txt')
        self.pip('--no-build-isolation', '-e', f'{ROOT}[ros]')

    def fix_prefixes(self) -> None:
        """Point the wheels' CMake files here instead of at the machine that they were built on."""
        include = Path(sysconfig.get_paths()['include']).parent
        version = f'{sys.version_info.major}{sys.version_info.minor}'
        wheel_prefix = f'{WHEEL_BUILD_PREFIX}{version}-cp{version}'
        for file in (self.path / 'share').rglob('*.cmake'):
            text = file.read_text()
            if wheel_prefix in text:
                text = text.replace(f'{wheel_prefix}/include', str(include))
                file.write_text(text.replace(wheel_prefix, str(self.path)))

    def build_messages(self) -> None:
        """
        Build imn_msgs into the environment itself.

        Its libraries and Python modules then lie where the wheels' own do, and nothing has to be
        sourced.
        """
        build = self.path / 'colcon'
        shutil.rmtree(build, ignore_errors=True)
        self.run(self.path / 'bin' / 'colcon', '--log-base', build / 'log', 'build',
                 '--base-paths', ROOT / 'ros2_ws' / 'src' / 'imn_msgs', '--build-base', build,
                 '--merge-install', '--install-base', self.path, '--cmake-args',
                 f'-DPython3_EXECUTABLE={self.python}', '-DBUILD_TESTING=OFF',
                 AMENT_PREFIX_PATH=str(self.path), CMAKE_PREFIX_PATH=str(self.path))

    def install_dev(self) -> None:
        """
        Install what training and the tests need.

        torch comes first, alone: were it one of many requirements, a resolver in trouble could
        download several builds of it.
        """
        index = os.environ.get('TORCH_INDEX_URL')
        pin = next(line for line in (ROOT / 'constraints.txt').read_text().splitlines()
                   if line.startswith('torch=='))
        self.pip(*(['--index-url', index] if index else []), pin)
        self.pip('--no-build-isolation', '-e', f'{ROOT}[ros,train,pretrained,lerobot,dev]')


def bootstrap(stage: str, path: Path, distro: str) -> None:
    """
    Bring the environment up to a stage.

    :param stage: `demo` or `dev`, the latter includes the former.
    :param path: of the virtual environment.
    :param distro: ROS 2 distribution of the wheels.
    """
    check_machine()
    environment = Environment(path, distro)
    environment.stamps.mkdir(parents=True, exist_ok=True)
    pins = [ROOT / 'constraints.txt', environment.ros_pins]
    demo = [*pins, ROOT / 'tools' / 'build.txt', ROOT / 'setup.py']
    messages = sorted(file for file in (ROOT / 'ros2_ws' / 'src' / 'imn_msgs').rglob('*')
                      if file.is_file())
    with open(environment.stamps / 'lock', 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        environment.step('venv', f'virtual environment in {path}', [], environment.create)
        environment.step('demo', f"ROS 2 {distro} and the node's libraries (a minute or two)",
                         demo, environment.install_demo)
        environment.step('prefixes', 'paths in the ROS 2 wheels', demo, environment.fix_prefixes)
        environment.step('messages', 'imn_msgs, with colcon', [*demo, *messages],
                         environment.build_messages)
        if stage == 'dev':
            environment.step('dev', 'torch and the libraries for training and tests '
                             '(a minute or more)', demo, environment.install_dev)


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('stage', choices=('demo', 'dev'))
    parser.add_argument('--venv', type=Path, default=ROOT / '.venv')
    parser.add_argument('--ros', default='jazzy', help='ROS 2 distribution: jazzy, kilted')
    arguments = parser.parse_args()
    try:
        bootstrap(arguments.stage, arguments.venv.absolute(), arguments.ros)
    except BootstrapError as error:
        sys.exit(f'setup: {error}')
    except KeyboardInterrupt:
        sys.exit('setup: interrupted; the next run goes on from here')


if __name__ == '__main__':
    main()
