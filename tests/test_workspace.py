"""The repository as a folder in somebody's colcon workspace, built with no options."""
import json
import os
import re
import subprocess
import sys
from pathlib import Path

from ros_graph import ROOT

# What `ros2 launch` and the nodes look for.
PROGRAM = """
import imn_msgs, imn_world_model
from ament_index_python.packages import get_package_prefix, get_package_share_directory
from imn_msgs.msg import Identity
Identity()
print(imn_msgs.__file__, imn_world_model.__file__, get_package_share_directory('imn_msgs'),
      get_package_share_directory('imn_world_model'), get_package_prefix('other'), sep='\\n')
"""


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


def test_rosdep_and_the_readmes_pip_line_bring_all_that_the_package_needs():
    program = ('import json, runpy, setuptools; '
               'setuptools.setup = lambda **words: print(json.dumps(words["install_requires"])); '
               'runpy.run_path("setup.py")')
    done = subprocess.run([sys.executable, '-c', program], cwd=ROOT, capture_output=True,
                          text=True, check=True)
    needed = {re.split('[<>=]', line)[0] for line in json.loads(done.stdout)} | {'onnxruntime'}
    keys = set(re.findall('<exec_depend>python3-(.*?)<', (ROOT / 'package.xml').read_text()))
    robot = (ROOT / 'README.md').read_text().partition('## On a robot')[2]
    line = next(line for line in robot.splitlines() if line.startswith('pip install '))
    piped = {re.split('[<>=]', word.strip("'"))[0] for word in line.partition('#')[0].split()[2:]}
    called = {'opencv-python-headless': 'opencv', 'pyyaml': 'yaml'}
    assert {name for name in needed if called.get(name, name) not in keys | piped} == set()
    # Debian's own Python refuses pip outside of a virtual environment; colcon must not crawl it.
    before = robot.partition('pip install ')[0]
    assert '--system-site-packages' in before and 'COLCON_IGNORE' in before
    assert 'venv' in keys
