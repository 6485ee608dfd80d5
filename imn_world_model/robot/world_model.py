"""
A state that images correct and actions move: observe, predict, imagine. Needs no torch, no ROS.

One class for training, export and the robot: :meth:`WorldModel.load` takes an exported model with
its dynamics beside it, :func:`imagination.world_model_of` a run folder.
"""
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import onnxruntime
from scipy.stats import chi2

from imn_world_model.base.errors import UserError
from imn_world_model.robot.inference import ImnModel
from imn_world_model.robot.session import ModelError

# Of the two files beside FILE.onnx.
DYNAMICS_SUFFIX, PICTURE_SUFFIX = '.dynamics.onnx', '.picture.onnx'
DYNAMICS_FORMAT = '2'
MOVE_INPUTS = ('mean', 'variance', 'identity', 'action', 'seconds')
MOVE_OUTPUTS = ('mean_then', 'variance_then')
DRAW_INPUTS, DRAW_OUTPUTS = ('mean', 'identity', 'active'), ('picture',)
# Of one step of the flow, seconds; see flow.MAX_STEP, of which a test knows.
MAX_STEP = 0.25
# Images in a row that contradict the state until they are believed.
PATIENCE = 2


class Perceived(Protocol):
    """What a perception says of B images, see :class:`inference.Winner`."""

    @property
    def identity(self) -> np.ndarray:
        """(B,) int64."""

    @property
    def active(self) -> np.ndarray:
        """(B, m) bool."""

    @property
    def latent_mean(self) -> np.ndarray:
        """(B, m, L) float32."""

    @property
    def latent_variance(self) -> np.ndarray:
        """(B, m, L) float32."""


Perceive = Callable[[np.ndarray], Perceived]
# Arguments as MOVE_INPUTS and DRAW_INPUTS, results as MOVE_OUTPUTS and DRAW_OUTPUTS.
Move = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray],
                tuple[np.ndarray, np.ndarray]]
Draw = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class State:
    """
    What is believed of B objects.

    :param identity: (B,) int64.
    :param active: (B, m) bool, modules that make its picture.
    :param mean: (B, m, L) float32 Lie-algebra coordinates.
    :param variance: (B, m, L) float32 of them.
    :param doubts: (B,) int64, images in a row that contradict it.
    """

    identity: np.ndarray
    active: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    doubts: np.ndarray

    def repeated(self, count: int) -> 'State':
        """:return: the state ``count`` times, (B * count): to try several actions from it."""
        return State(*(np.repeat(value, count, 0) for value in (
            self.identity, self.active, self.mean, self.variance, self.doubts)))


@dataclass(frozen=True)
class Imagined:
    """
    What T actions would lead to.

    :param mean: (B, T, m, L) coordinates after each.
    :param variance: (B, T, m, L) of them.
    :param picture: (B, T, H, W, 3) uint8 RGB; ``None`` where not asked for.
    """

    mean: np.ndarray
    variance: np.ndarray
    picture: np.ndarray | None


class WorldModel:
    """
    Predicts what actions do to what a perception sees.

    :param perceive: images (B, S, S, 3) uint8 to identities and coordinates.
    :param move: the flow over at most :data:`MAX_STEP` seconds.
    :param draw: coordinates to pictures (B, H, W, 3) uint8.
    :param action_names: of the A numbers in an action, such as ``linear.x``.
    :param action_units: of each, such as ``m/s``.
    :param trust: (m, L) or one for all, factors on the variances that the perception tells: the
        share of an image's error that is new in it, as far as filtering goes.
    :param gate: probability with which an image that fits the state is accepted.
    """

    def __init__(self, perceive: Perceive, move: Move, draw: Draw, action_names: tuple[str, ...],
                 action_units: tuple[str, ...], trust: np.ndarray | float = 1.0,
                 gate: float = 0.999) -> None:
        self._perceive, self._move, self._draw = perceive, move, draw
        self.action_names, self.action_units = action_names, action_units
        self.trust, self._gate = np.asarray(trust, np.float32), gate

    @classmethod
    def load(cls, path: str | Path, threads: int = 0) -> 'WorldModel':
        """
        Load an exported model and the dynamics beside it.

        :param path: FILE.onnx; FILE.dynamics.onnx and FILE.picture.onnx lie beside it.
        :param threads: of one inference; 0 for every core.
        :raises ModelError: when a file is missing or broken, or they do not belong together.
        """
        path = Path(path)
        model = ImnModel(path, ['cpu'], threads)
        flow = Graph(path.with_suffix(DYNAMICS_SUFFIX), threads)
        picture = Graph(path.with_suffix(PICTURE_SUFFIX), threads)
        for graph in (flow, picture):
            if graph.metadata['weights'] != model.weights_hash:
                raise ModelError(f'{graph.path} does not belong to {path}; export both anew')
        return cls(model.predict, flow.move, picture.draw,
                   tuple(json.loads(flow.metadata['action_names'])),
                   tuple(json.loads(flow.metadata['action_units'])),
                   np.array(json.loads(flow.metadata['trust'])))

    def observe(self, state: State | None, images: np.ndarray) -> State:
        """
        Correct what is believed by what is seen.

        Coordinates are fused one by one by their variances. An image of another identity, or one
        whose coordinates do not fit, is left out; after two in a row it is believed instead.

        :param state: believed of the images' time; ``None`` to begin with the images.
        :param images: (B, S, S, 3) uint8, prepared as the perception takes them.
        """
        return self.correct(state, self._perceive(images))

    def correct(self, state: State | None, seen: Perceived) -> State:
        """:return: the same as :meth:`observe`, of what a perception has said already."""
        fresh = State(seen.identity, seen.active, seen.latent_mean,
                      seen.latent_variance * self.trust, np.zeros_like(seen.identity))
        if state is None:
            return fresh
        total = state.variance + fresh.variance
        gain = state.variance / total
        miss = (np.square(fresh.mean - state.mean) / total).sum((1, 2))
        fits = ((miss <= chi2.ppf(self._gate, state.mean[0].size))
                & (state.identity == fresh.identity))
        doubts = np.where(fits, 0, state.doubts + 1)
        believed = State(
            state.identity, np.where(fits[:, None], fresh.active, state.active),
            state.mean + np.where(fits[:, None, None], gain * (fresh.mean - state.mean), 0.0),
            state.variance * np.where(fits[:, None, None], 1.0 - gain, 1.0), doubts)
        anew = doubts >= PATIENCE
        return State(*(_choose(anew, new, old) for new, old in (
            (fresh.identity, believed.identity), (fresh.active, believed.active),
            (fresh.mean, believed.mean), (fresh.variance, believed.variance),
            (fresh.doubts, believed.doubts))))

    def predict(self, state: State, action: np.ndarray, seconds: float) -> State:
        """
        Move what is believed: the identity stays, the coordinates flow.

        :param state: now.
        :param action: (A,) or (B, A), held; units as :attr:`action_units`.
        :param seconds: for how long, not negative.
        :return: the state then.
        :raises UserError: for an action of the wrong length or a negative time.
        """
        batch = len(state.identity)
        action = np.asarray(action, np.float32)
        if action.shape[-1:] != (len(self.action_names),):
            raise UserError(f'an action has {len(self.action_names)} numbers '
                            f'({", ".join(self.action_names)}), got {action.shape}')
        if not seconds >= 0:
            raise UserError(f'seconds is {seconds}; the past cannot be predicted')
        action = np.broadcast_to(action, (batch, len(self.action_names)))
        parts = max(1, int(np.ceil((seconds - 1e-4) / MAX_STEP)))
        mean, variance = state.mean, state.variance
        time = np.full(batch, seconds / parts, np.float32)
        for _ in range(parts):
            mean, variance = self._move(mean, variance, state.identity, action, time)
        return replace(state, mean=mean, variance=variance)

    def imagine(self, state: State, actions: np.ndarray, seconds: float,
                pictures: bool = True) -> Imagined:
        """
        Go through actions in mind.

        :param state: now.
        :param actions: (T, A) or (B, T, A).
        :param seconds: each is held.
        :param pictures: whether to draw what would be seen.
        """
        actions = np.asarray(actions, np.float32)
        actions = np.broadcast_to(actions, (len(state.identity), *actions.shape[-2:]))
        states = []
        for k in range(actions.shape[1]):
            state = self.predict(state, actions[:, k], seconds)
            states.append(state)
        return Imagined(np.stack([one.mean for one in states], 1),
                        np.stack([one.variance for one in states], 1),
                        np.stack([self.picture(one) for one in states], 1) if pictures else None)

    def picture(self, state: State) -> np.ndarray:
        """:return: (B, H, W, 3) uint8 RGB, what the state looks like."""
        return self._draw(state.mean, state.identity, state.active)


def _choose(where: np.ndarray, new: np.ndarray, old: np.ndarray) -> np.ndarray:
    return np.where(where.reshape(-1, *[1] * (new.ndim - 1)), new, old).astype(new.dtype)


class Graph:
    """
    One of the ONNX files beside an exported model; small enough for the CPU everywhere.

    :param path: the file.
    :param threads: of one inference; 0 for every core.
    :raises ModelError: when it is missing, broken or of another format.
    """

    def __init__(self, path: Path, threads: int = 0) -> None:
        self.path = path
        if not path.is_file():
            raise ModelError(f'{path} does not exist: the model has no dynamics; train it with '
                             'python -m imn_world_model.dynamics and export the run again')
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        options.add_session_config_entry('session.intra_op.allow_spinning', '0')
        try:
            self._session = onnxruntime.InferenceSession(str(path), options,
                                                         providers=['CPUExecutionProvider'])
        except Exception as error:                    # ONNX Runtime's own exception classes
            raise ModelError(f'{path} is not a readable ONNX file; export the run again'
                             ) from error
        self.metadata: dict[str, str] = self._session.get_modelmeta().custom_metadata_map
        if self.metadata.get('imn_dynamics_version') != DYNAMICS_FORMAT:
            raise ModelError(f'{path} is no dynamics of this version; export the run again')

    def move(self, *values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See :class:`WorldModel`."""
        mean, variance = self._session.run(MOVE_OUTPUTS, dict(zip(MOVE_INPUTS, values,
                                                                  strict=True)))
        return mean, variance

    def draw(self, *values: np.ndarray) -> np.ndarray:
        """See :class:`WorldModel`."""
        picture, = self._session.run(DRAW_OUTPUTS, dict(zip(DRAW_INPUTS, values, strict=True)))
        return picture
