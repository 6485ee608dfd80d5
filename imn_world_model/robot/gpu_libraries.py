"""
NVIDIA's libraries for ONNX Runtime: found where pip installs them, or named when they are not.

pip puts them into folders of its own (``onnxruntime-gpu[cuda,cudnn]``, ``tensorrt``), where the
dynamic loader does not look. A library that is in the process already is not looked for again, so
they are loaded first. torch brings the same ones, of its own version.
"""
import contextlib
import ctypes
import io
import re
import sys
from functools import cache
from pathlib import Path

import onnxruntime

DRIVER = 'libcuda.so.1'
# Of TensorRT, in the order in which they need each other.
TENSORRT_LIBRARIES = ('libnvinfer.so.*', 'libnvinfer_plugin.so.*', 'libnvonnxparser.so.*')
# By provider: ONNX Runtime's part that needs the libraries.
PARTS = {'CUDAExecutionProvider': 'cuda', 'TensorrtExecutionProvider': 'tensorrt'}


@cache
def preload() -> None:
    """Load what pip installed, once; what is not there is left to the system's own."""
    # It prints what it does not find.
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(Exception):
        onnxruntime.preload_dlls()
    for folder in (Path(entry) / 'tensorrt_libs' for entry in sys.path):
        for pattern in TENSORRT_LIBRARIES:
            for file in sorted(folder.glob(pattern)):
                with contextlib.suppress(OSError):
                    ctypes.CDLL(str(file), ctypes.RTLD_GLOBAL)


def missing(provider: str, folder: Path | None = None) -> str:
    """
    Say what keeps a provider from starting.

    :param provider: its full name.
    :param folder: of ONNX Runtime's parts; by default the installed one's.
    :return: one line with the remedy; empty when the loader finds everything.
    """
    if provider not in PARTS:
        return ''
    try:
        ctypes.CDLL(DRIVER)
    except OSError:
        return f"NVIDIA's driver is not installed ({DRIVER}); install it for this card"
    folder = folder or Path(onnxruntime.__file__).parent / 'capi'
    try:
        ctypes.CDLL(str(folder / f'libonnxruntime_providers_{PARTS[provider]}.so'))
    except OSError as error:
        # The loader resolves what a library needs before its own symbols, which are ONNX
        # Runtime's affair.
        found = re.match(r'(\S+): cannot open shared object file', str(error))
        if found:
            name = Path(found[1].rstrip(':')).name
            if name.startswith(('libnvinfer', 'libnvonnx')):
                return f'{name} is missing; pip install tensorrt'
            return (f"{name} is missing; pip install 'onnxruntime-gpu[cuda,cudnn]'"
                    f'{_disagreement()}')
    return ''


def _disagreement() -> str:
    """:return: that torch has another CUDA, where that may be the reason."""
    torch = sys.modules.get('torch')
    cuda = getattr(getattr(torch, 'version', None), 'cuda', None)
    ours = getattr(onnxruntime, 'cuda_version', '')
    if not cuda or not ours or cuda.split('.')[0] == ours.split('.')[0]:
        return ''
    return (f' (this onnxruntime-gpu is built for CUDA {ours}, torch brings CUDA {cuda}: choose '
            'versions of one CUDA)')
