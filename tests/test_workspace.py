"""The repository as a folder in somebody's colcon workspace, built with no options."""
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from ros_graph import ROOT

MANIFEST = """<package format="3"><name>other</name><version>0.0.1</version>
<description>Another package that uses the messages.</description>
<maintainer email="nobody@example.com">nobody</maintainer><license>Apache-2.0</license>
<depend>imn_world_model</depend><export><build_type>ament_cmake</build_type></export></package>
"""
RECIPE = """cmake_minimum_required(VERSION 3.12)
project(other NONE)
find_package(ament_cmake REQUIRED)
find_package(imn_world_model REQUIRED)
find_package(imn_msgs REQUIRED)
ament_package()
"""
# What `ros2 launch` and the nodes look for.
PROGRAM = """
import imn_msgs, imn_world_model
from ament_index_python.packages import get_package_prefix, get_package_share_directory
from imn_msgs.msg import Identity
Identity()
print(imn_msgs.__file__, imn_world_model.__file__, get_package_share_directory('imn_msgs'),
      get_package_share_directory('imn_world_model'), get_package_prefix('other'), sep='\\n')
"""


@pytest.fixture(scope='module')
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a workspace with this repository and another package, built with `colcon build`."""
    path = tmp_path_factory.mktemp('workspace')
    other = path / 'src' / 'other'
    other.mkdir(parents=True)
    (other / 'package.xml').write_text(MANIFEST)
    (other / 'CMakeLists.txt').write_text(RECIPE)
    (path / 'src' / 'imn_world_model').symlink_to(ROOT)
    prefix = Path(sys.prefix)
    done = subprocess.run(
        [prefix / 'bin' / 'colcon', 'build'], cwd=path, capture_output=True, text=True,
        check=False, env={**os.environ, 'VIRTUAL_ENV': sys.prefix, 'AMENT_PREFIX_PATH': sys.prefix,
                          'CMAKE_PREFIX_PATH': sys.prefix,
                          'PATH': f'{prefix / "bin"}{os.pathsep}{os.environ["PATH"]}'})
    assert done.returncode == 0, done.stdout + done.stderr
    return path


def test_plain_colcon_build_brings_messages_package_and_executables(workspace):
    install = workspace / 'install'
    done = subprocess.run(
        ['bash', '-c', f'. {install}/setup.bash && exec {sys.executable} -c "$0"', PROGRAM],
        cwd=workspace, capture_output=True, text=True, check=False,
        env={**os.environ, 'AMENT_PREFIX_PATH': sys.prefix})
    assert done.returncode == 0, done.stderr
    assert all(line.startswith(str(install)) for line in done.stdout.splitlines()), done.stdout
    programs = install / 'imn_world_model' / 'lib' / 'imn_world_model'
    for name in ('perception', 'play', 'show', 'state_estimator'):
        assert os.access(programs / name, os.X_OK)


def test_colcon_installs_the_files_that_pip_installs(workspace):
    program = ('import json, runpy, setuptools; '
               'setuptools.setup = lambda **words: print(json.dumps(words["data_files"])); '
               'runpy.run_path("setup.py")')
    done = subprocess.run([sys.executable, '-c', program], cwd=ROOT, capture_output=True,
                          text=True, check=True)
    listed = [Path(folder, Path(file).name) for folder, files in json.loads(done.stdout)
              for file in files]
    names = {path.name for path in listed}
    assert {'perception.launch.py', 'perception.yaml', 'demo.onnx', 'metadata.yaml'} <= names
    installed = workspace / 'install' / 'imn_world_model'
    assert [path for path in listed if not (installed / path).is_file()] == []
