"""ONNX files of half the size, without a change in what they compute."""
import numpy as np
import onnx
from onnxscript import optimizer

from imn_world_model.model.compact import LEAST_SIZE

# Ends the names of weights that are stored in half precision.
HALF = '.half'


# Numbers in the largest constant that is computed once, here, in place of being stored.
FOLDED_SIZE = 100_000


def settle(model: onnx.ModelProto) -> onnx.ModelProto:
    """
    Compute what no image changes, and forget where in the source an operation came from.

    :param model: as the exporter wrote it.
    """
    model = optimizer.optimize(model, input_size_limit=FOLDED_SIZE, output_size_limit=FOLDED_SIZE)
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ''
    del model.graph.value_info[:]
    del model.graph.metadata_props[:]
    return model


def store_half(model: onnx.ModelProto) -> None:
    """
    Store float32 weights as float16 where nothing is lost; a Cast gives them back.

    ONNX Runtime does the Cast once, when it loads the file.

    :param model: changed in place.
    """
    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT or np.prod(tensor.dims) < LEAST_SIZE:
            continue
        values = onnx.numpy_helper.to_array(tensor)
        with np.errstate(over='ignore'):
            half = values.astype(np.float16)
        if not np.array_equal(half.astype(np.float32), values):
            continue
        name = tensor.name
        tensor.CopyFrom(onnx.numpy_helper.from_array(half, f'{name}{HALF}'))
        casts.append(onnx.helper.make_node('Cast', [tensor.name], [name],
                                           to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
