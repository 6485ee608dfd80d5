"""A model file that knows poses: the same graph, with the map among its metadata."""
from pathlib import Path

import onnx

from imn_world_model.base.cli import atomic_path
from imn_world_model.robot.poses import KEY, PoseMap


def write_posed(model: Path, out: Path, poses: PoseMap) -> None:
    """
    Copy a model file and put a map into it, in place of one that it may have.

    :param model: the ``.onnx`` file.
    :param out: the new file; may be the same.
    :param poses: the map.
    """
    graph = onnx.load(model)
    kept = {item.key: item.value for item in graph.metadata_props} | {KEY: poses.to_json()}
    del graph.metadata_props[:]
    onnx.helper.set_model_props(graph, kept)
    with atomic_path(out) as scratch:
        onnx.save(graph, scratch)
