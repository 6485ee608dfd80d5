"""
Independent Modular Networks: object identities and transform matrices from camera images.

What a program of one's own needs:

    from imn_world_model import ImnModel, WorldModel          # without torch, without ROS
    from imn_world_model import load_run, load_frames, observe, export_onnx

Each name is imported when it is first asked for, so a robot without torch can ask for those of the
first line.
"""
from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = '0.1.0'

if TYPE_CHECKING:
    from imn_world_model.base.errors import UserError
    from imn_world_model.data.frames import DataOptions, Frames, load_frames
    from imn_world_model.exporting.graph import export_onnx
    from imn_world_model.learning.run import Run, load_run
    from imn_world_model.model.imn import IndependentModularNetwork
    from imn_world_model.model.observe import Observation, observe
    from imn_world_model.robot.inference import ImnModel, Winner
    from imn_world_model.robot.world_model import WorldModel

# Where each of the names lies.
_HOMES = {
    'DataOptions': 'data.frames', 'Frames': 'data.frames', 'ImnModel': 'robot.inference',
    'IndependentModularNetwork': 'model.imn', 'Observation': 'model.observe',
    'Run': 'learning.run', 'UserError': 'base.errors', 'Winner': 'robot.inference',
    'WorldModel': 'robot.world_model', 'export_onnx': 'exporting.graph',
    'load_frames': 'data.frames', 'load_run': 'learning.run', 'observe': 'model.observe',
}
__all__ = [
    'DataOptions', 'Frames', 'ImnModel', 'IndependentModularNetwork', 'Observation', 'Run',
    'UserError', 'Winner', 'WorldModel', 'export_onnx', 'load_frames', 'load_run', 'observe',
]


def __getattr__(name: str) -> Any:
    """
    Import one of the package's names when it is asked for (PEP 562).

    :param name: of ``__all__``.
    :raises AttributeError: for another name.
    """
    if name not in _HOMES:
        raise AttributeError(f'imn_world_model has no {name!r}; it offers {", ".join(__all__)}')
    return getattr(import_module(f'imn_world_model.{_HOMES[name]}'), name)
