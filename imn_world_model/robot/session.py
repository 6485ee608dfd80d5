"""ONNX Runtime on the best provider there is, with every fallback said aloud."""
import os
import re
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnxruntime

from imn_world_model.base.cores import usable_cores
from imn_world_model.base.errors import UserError
from imn_world_model.robot import gpu_libraries

# Short names that users write for ONNX Runtime's providers, best first.
PROVIDERS = {'tensorrt': 'TensorrtExecutionProvider', 'cuda': 'CUDAExecutionProvider',
             'cpu': 'CPUExecutionProvider'}
TENSORRT, CUDA, CPU = PROVIDERS.values()
# Batch sizes that keep buffers (and a CUDA graph) of their own; a robot uses one or two.
MAX_KEPT = 8
TYPES = {'tensor(float)': np.float32, 'tensor(int64)': np.int64, 'tensor(bool)': np.bool_,
         'tensor(uint8)': np.uint8}


class ModelError(UserError):
    """A model file that cannot be used; the message names it, the cause and the remedy."""


class Session:
    """
    One ONNX file on one provider; not for several threads at once.

    On a GPU inputs and outputs stay in bound buffers, and CUDA replays each batch size's kernels
    as one graph.

    :param path: the ``.onnx`` file.
    :param providers: see :class:`inference.ImnModel`.
    :param threads: of one inference; 0 lets ONNX Runtime use every core.
    :raises ModelError: when no provider can read the file.
    """

    def __init__(self, path: Path, providers: Sequence[str] | None, threads: int) -> None:
        self.path = path
        self._session, self._graphs = _open(path, providers, threads)
        self.provider: str = self._session.get_providers()[0]
        self._bound: dict[int, Bound] = {}
        self._seen: set[int] = set()

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names, in the file's order."""
        return tuple(item.name for item in self._session.get_outputs())

    def shape(self, output: str) -> list[int | str]:
        """:return: of an output, its first entry the name of the batch."""
        return next(item.shape for item in self._session.get_outputs() if item.name == output)

    @property
    def metadata(self) -> dict[str, str]:
        """The file's ``metadata_props``."""
        return self._session.get_modelmeta().custom_metadata_map

    def run(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """
        One inference.

        :param image: (B, S, S, 3) uint8, contiguous.
        :return: outputs by name.
        """
        count = len(image)
        if self.provider == CPU:
            return dict(zip(self.outputs, self._session.run(None, {'image': image}), strict=True))
        first, known = count not in self._seen, count in self._bound
        self._seen.add(count)
        keep = known or len(self._bound) < MAX_KEPT
        bound = self._bound[count] if known else Bound(
            self._session, image.shape, 'cuda', str(count) if keep and self._graphs else None)
        if keep:
            self._bound[count] = bound
        if first and self.provider == TENSORRT:
            with elapsed(f'TensorRT builds its engine of {self.path.name} for batch {count} '
                         '(minutes, the first time only)'):
                return bound.run(image)
        return bound.run(image)


class Bound:
    """
    Buffers for one batch size, at addresses that stay.

    :param session: ONNX Runtime's.
    :param shape: of the input.
    :param device: ``cuda`` or ``cpu``.
    :param graph: name under which CUDA keeps this batch size's graph; ``None`` for no graph.
    """

    def __init__(self, session: onnxruntime.InferenceSession, shape: tuple[int, ...], device: str,
                 graph: str | None = None) -> None:
        self._session = session
        self._image = onnxruntime.OrtValue.ortvalue_from_numpy(
            np.zeros(shape, np.uint8), device, 0)
        self._outputs = {
            item.name: onnxruntime.OrtValue.ortvalue_from_shape_and_type(
                [shape[0], *item.shape[1:]], TYPES[item.type], device, 0)
            for item in session.get_outputs()}
        self._binding = session.io_binding()
        self._binding.bind_ortvalue_input('image', self._image)
        for name, value in self._outputs.items():
            self._binding.bind_ortvalue_output(name, value)
        self._options = onnxruntime.RunOptions()
        # -1 runs without a graph in a session that could record one.
        self._options.add_run_config_entry('gpu_graph_id', graph or '-1')

    def run(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """:return: outputs by name, in memory of their own."""
        self._image.update_inplace(image)
        self._binding.synchronize_inputs()
        self._session.run_with_iobinding(self._binding, self._options)
        self._binding.synchronize_outputs()
        return {name: value.numpy().copy() for name, value in self._outputs.items()}


def choose_providers(wanted: Sequence[str] | None) -> list[str]:
    """
    Full names of the providers to try, the CPU last.

    :param wanted: short or full names, best first; ``None`` for all that are installed.
    :raises UserError: for an unknown name.
    """
    available = onnxruntime.get_available_providers()
    if wanted is None:
        return [name for name in PROVIDERS.values() if name in available]
    names = [PROVIDERS.get(name.lower(), name) for name in wanted]
    for name in names:
        if name not in onnxruntime.get_all_providers():
            raise UserError(f"unknown provider '{name}'; choose from {', '.join(PROVIDERS)}")
        if name not in available:
            warnings.warn(f'{name} is not in this onnxruntime; pip install '
                          "'onnxruntime-gpu[cuda,cudnn]' in place of onnxruntime. "
                          f'Available: {", ".join(available)}', stacklevel=5)
    usable = [name for name in names if name in available]
    return usable if CPU in usable else [*usable, CPU]


def _open(path: Path, wanted: Sequence[str] | None,
          threads: int) -> tuple[onnxruntime.InferenceSession, bool]:
    """:return: the session on the first provider that starts, and whether it records graphs."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or usable_cores()
    options.log_severity_level = 3                    # its warnings are for graph authors
    # Threads that spin while they wait would keep a core busy on an idle robot.
    options.add_session_config_entry('session.intra_op.allow_spinning', '0')
    failures: list[str] = []
    missing: set[str] = set()
    for name, graphs in _attempts(choose_providers(wanted)):
        if name in missing:
            continue
        if name != CPU:
            gpu_libraries.preload()
        what = f'{name} with CUDA graphs' if graphs else name
        given = [(name, provider_options(name, graphs))]
        if name == TENSORRT:                          # CUDA for what TensorRT cannot do
            given.append((CUDA, {}))
        try:
            # Its own fallback would print to standard output and forget the cause.
            session = onnxruntime.InferenceSession(str(path), options, providers=given,
                                                   enable_fallback=0)
        except Exception as error:                    # ONNX Runtime's own exception classes
            if name == CPU:
                raise ModelError(f'{path} is not a readable ONNX file ({_first_line(error)}); '
                                 'export it again') from error
            cause = gpu_libraries.missing(name) or _first_line(error)
            failures.append(f'{what} could not be started ({cause})')
            continue
        if session.get_providers()[0] == name:
            break
        # A provider whose libraries are missing is left out without an exception.
        missing.add(name)
        cause = gpu_libraries.missing(name) or 'are its driver and libraries installed?'
        failures.append(f'{name} could not be started ({cause})')
    # By default the best that starts is taken; without any GPU the user should know why.
    if failures and (wanted or session.get_providers()[0] == CPU):
        warnings.warn(f'{"; ".join(failures)}; {path.name} runs on {session.get_providers()[0]}',
                      stacklevel=4)
    return session, graphs


def _attempts(chosen: list[str]) -> Iterator[tuple[str, bool]]:
    """:return: provider and whether it shall record CUDA graphs, best first."""
    for name in chosen:
        if name == CUDA:
            yield name, True
        yield name, False


def provider_options(name: str, graphs: bool = False) -> dict[str, str]:
    """
    Options of a provider.

    :param name: its full name.
    :param graphs: whether CUDA records graphs.
    :raises ModelError: when TensorRT's cache folder cannot be used.
    """
    if name == CUDA and graphs:
        return {'enable_cuda_graph': '1'}
    if name != TENSORRT:
        return {}
    base = os.environ.get('IMN_CACHE_DIR', '~/.cache/imn_world_model')
    folder = Path(base).expanduser() / 'tensorrt'
    try:
        folder.mkdir(parents=True, exist_ok=True)
        usable = os.access(folder, os.R_OK | os.W_OK | os.X_OK)
    except OSError:
        usable = False
    if not usable:
        raise ModelError(f'engine cache {folder} is not readable and writable; set IMN_CACHE_DIR '
                         'to a folder that is')
    return {'trt_engine_cache_enable': '1', 'trt_engine_cache_path': str(folder),
            'trt_timing_cache_enable': '1', 'trt_timing_cache_path': str(folder)}


@contextmanager
def elapsed(what: str, period: float = 10.0) -> Iterator[None]:
    """
    Say on standard error that something long goes on, and for how long.

    :param what: is going on.
    :param period: seconds between lines; nothing is said of what ends before the first.
    """
    done, start = threading.Event(), time.monotonic()

    def tell() -> None:
        while not done.wait(period):
            print(f'{what}: {time.monotonic() - start:.0f} s', file=sys.stderr, flush=True)

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _first_line(error: Exception) -> str:
    """:return: what an exception of ONNX Runtime says, without the place in its source."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return re.sub(r'^/\S+:\d+ .*?\) ', '', lines[0])[:160]
