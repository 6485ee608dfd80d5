"""
The service ``enroll`` of the perception node: one more object, learnt while the node goes on.

Views are those that the model answers anyway, as it sees them. They are learnt from in a process
of their own (:mod:`imn_world_model.enroll`), at low priority; its file is tried, then takes the
place of the model's.
"""
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from imn_msgs.srv import Enroll

from imn_world_model.base.cli import FULL
from imn_world_model.base.errors import UserError
from imn_world_model.robot.inference import ImnModel

# Views of one enrolment that are kept: a camera gives hundreds.
MAX_VIEWS = 256
LONGEST = 120.0
NICE = 10
# Of the file that was replaced.
PREVIOUS = '.previous.onnx'


@dataclass
class Collection:
    """
    Views of one object, as they come.

    :param source: topic of the camera.
    :param images: (S, S, 3) uint8 each.
    """

    source: str
    images: list[np.ndarray] = field(default_factory=list)

    def add(self, image: np.ndarray) -> None:
        """Keep a view; of very many every second one."""
        self.images.append(image)
        if len(self.images) > MAX_VIEWS:
            del self.images[1::2]


class Enrolment:
    """
    At most one enrolment at a time.

    :param load: tries a file as the node would use it; raises UserError where it cannot.
    :param use: lets the node answer from a model.
    """

    def __init__(self, load: Callable[[Path], ImnModel], use: Callable[[ImnModel], None]) -> None:
        self._load, self._use = load, use
        self._lock = threading.Lock()
        self._collection: Collection | None = None
        self._process: subprocess.Popen | None = None
        self._busy, self._closed = '', False

    def offer(self, source: str, image: np.ndarray) -> None:
        """
        Hand over a view; it is kept while one is collecting from this camera.

        :param source: topic of the camera.
        :param image: (S, S, 3) uint8, as the model sees it.
        """
        with self._lock:
            if self._collection is not None and self._collection.source == source:
                self._collection.add(image)

    def run(self, request: Enroll.Request, model: ImnModel | None,
            topics: list[str]) -> Enroll.Response:
        """
        Collect, learn, swap in; takes as long as it takes.

        :param request: of the service.
        :param model: that answers now; ``None`` while the node is not active.
        :param topics: full names of the cameras.
        """
        response = Enroll.Response()
        with self._lock:
            running = self._busy
            if not running:
                self._busy = request.label or '?'
        if running:
            response.message = f"'{running}' is being learnt; call again when that is done"
            return response
        try:
            self._run(request, model, topics, response)
        except UserError as error:
            response.message = ' '.join(str(error).split())
        except OSError as error:
            response.message = (f'no space left on the disk of {error.filename or "the model"}; '
                                'free some and call again' if error.errno in FULL else
                                f'{error.filename or "the model"}: {error.strerror}')
        finally:
            with self._lock:
                self._busy, self._collection = '', None
        return response

    def close(self) -> None:
        """End what is going on: the node ends."""
        with self._lock:
            self._closed = True
            if self._process is not None:
                self._process.kill()

    def _run(self, request: Enroll.Request, model: ImnModel | None, topics: list[str],
             response: Enroll.Response) -> None:
        if model is None:
            raise UserError('the node is not active and sees no images; activate it')
        if not request.label:
            raise UserError('label is empty; give the object a name')
        if not 0.0 < request.seconds <= LONGEST:
            raise UserError(f'seconds is {request.seconds}; give up to {LONGEST:.0f} s')
        chosen = [topic for topic in topics if request.source_topic in ('', topic)]
        if len(chosen) != 1:
            raise UserError(f"source_topic is '{request.source_topic}'; choose one of "
                            f'{", ".join(topics)}')
        missing = [name for name in ('torch', 'onnx') if importlib.util.find_spec(name) is None]
        if missing:
            raise UserError(f'learning takes {" and ".join(missing)}, not installed here; pip '
                            "install '.[train]', or enrol on another machine")
        path = model.path
        if not os.access(path.parent, os.W_OK):
            raise UserError(f'{path.parent} cannot be written; copy {path.name} to a folder that '
                            'can, and set the parameter model to the copy')
        images = self._collect(chosen[0], request.seconds)
        with tempfile.TemporaryDirectory(prefix=f'.{path.stem}.', dir=path.parent) as scratch:
            report = self._learn(path, images, request, Path(scratch))
            new = Path(scratch) / path.name
            self._load(new)
            shutil.copy2(path, Path(scratch) / 'previous')
            os.replace(Path(scratch) / 'previous', path.with_suffix(PREVIOUS))
            os.replace(new, path)
        self._use(self._load(path))
        response.success, response.model = True, str(path)
        for name in ('views', 'kept_back', 'right'):
            setattr(response, name, report[name])
        response.confidence = report['confidence']
        response.message = f"'{request.label}' {report['text']}"

    def _collect(self, source: str, seconds: float) -> np.ndarray:
        """:return: (K, S, S, 3) uint8 views."""
        with self._lock:
            collection = self._collection = Collection(source)
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self._closed:
            time.sleep(min(0.1, seconds))
        with self._lock:
            self._collection = None
        if not collection.images:
            raise UserError(f'no image came from {source} in {seconds:.1f} s; is the camera on?')
        return np.stack(collection.images)

    def _learn(self, path: Path, images: np.ndarray, request: Enroll.Request,
               scratch: Path) -> dict[str, Any]:
        """:return: what the learning process reports; its file is in ``scratch``."""
        views = scratch / 'views.npz'
        np.savez(views, images=images)
        words = ['nice', '-n', str(NICE), sys.executable, '-m', 'imn_world_model.enroll',
                 '--model', str(path), '--data', str(views), '--label', request.label,
                 '--out', str(scratch / path.name), '--json']
        with self._lock:
            if self._closed:
                raise UserError('the node ends; nothing was learnt')
            self._process = subprocess.Popen(
                words + ['--anyway'] * request.anyway, text=True, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE, env={**os.environ, 'OMP_NUM_THREADS': '1'})
        out, err = self._process.communicate()
        code, self._process = self._process.returncode, None
        if code < 0:
            raise UserError(f'learning was killed by signal {-code}; the model is as it was')
        if code:
            lines = err.strip().splitlines() or ['it says nothing']
            raise UserError(lines[-1].removeprefix('error: '))
        report: dict[str, Any] = json.loads(out.strip().splitlines()[-1])
        return report
