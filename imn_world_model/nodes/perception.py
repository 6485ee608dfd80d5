"""
The perception node: camera images in, object identities and transform matrices out.

    ros2 run imn_world_model perception --ros-args -p model:=FILE.onnx
        -p image_topics:="['/front/image_raw', '/left/image_raw/compressed']"

A managed (lifecycle) node that by default configures and activates itself. Its executor answers
services; images come in through a thread of their own (cameras.py) and are read and answered in
another (worker.py).
"""
import sys
import threading
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from diagnostic_msgs.msg import DiagnosticArray
from imn_msgs.srv import Enroll
from rcl_interfaces.msg import SetParametersResult
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.executors import SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.task import Future

from imn_world_model.base.errors import UserError
from imn_world_model.nodes import objects, parameters
from imn_world_model.nodes.boxes import BoxTopics, Pairing
from imn_world_model.nodes.cameras import Cameras
from imn_world_model.nodes.enrolment import Enrolment
from imn_world_model.nodes.health import Health, ModelHealth
from imn_world_model.nodes.intake import Arrival, Intake
from imn_world_model.nodes.outputs import Outputs
from imn_world_model.nodes.running import run_until_stopped
from imn_world_model.nodes.worker import (
    NOT_FINITE,
    Empty,
    Frame,
    InferenceWorker,
    finite_rows,
    one_line,
)
from imn_world_model.robot.inference import ImnModel, Winner
from imn_world_model.robot.session import PROVIDERS
from imn_world_model.vision.following import Follower

DIAGNOSTICS_PERIOD = 1.0


class PerceptionNode(LifecycleNode):
    """
    The node; what it does in each state:

    - configure: load the model and run it once, create publishers. Fails, and says why, if the
      model is bad; with `autostart` the node then waits for parameter `model` to be set.
    - activate: subscribe to the cameras and start the inference thread; deactivate: the reverse.
    - cleanup: forget model and publishers, so that every parameter may change.

    :param options: passed on to rclpy's Node, for composition with other nodes in one process.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__('perception', **{'namespace': 'imn', **options})
        self._state = 'unconfigured'
        self._error = ''
        self._model: ImnModel | None = None
        self._outputs: Outputs | None = None
        self._cameras: Cameras | None = None
        self._worker: InferenceWorker | None = None
        self._settings = parameters.Settings()
        self._enrolment = Enrolment(self._load_as_configured, self._use_enrolled)
        self._topics: list[str] = []
        self._health = Health([])
        self._followers: list[Follower] = []
        # Whether it still tries to start itself: until that worked, or somebody else took over.
        self._starting = True
        # After these: Kilted destroys a node on whose command line a parameter is wrong.
        parameters.declare(self)
        self.add_on_set_parameters_callback(self._on_set_parameters)
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        # An answer takes a minute; in a group of its own no other service waits for it.
        self.create_service(Enroll, 'enroll', self._on_enroll,
                            callback_group=ReentrantCallbackGroup())
        # Wall time: diagnostics must go on while simulated time stands still.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = self.create_timer(DIAGNOSTICS_PERIOD, self._publish_diagnostics,
                                        clock=steady)
        self._start_timer = self.create_timer(0.0, self._start, clock=steady)

    # Lifecycle

    def _start(self) -> None:
        """Configure and activate, from within the executor."""
        self._start_timer.cancel()
        if (self._starting and self._state == 'unconfigured'
                and self.get_parameter('autostart').value):
            self.trigger_configure()
            if self._state == 'inactive':
                self.trigger_activate()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model and create publishers."""
        try:
            self._settings = parameters.read(self)
            self._topics = [self.resolve_topic_name(name) for name in self._settings.image_topics]
            model = load_model(self._settings)
        except (UserError, rclpy_implementation.RCLError) as error:
            self._error = one_line(error)
            self.get_logger().error(f'cannot configure: {self._error}')
            return TransitionCallbackReturn.FAILURE
        self._error = ''
        self._starting = False
        self._outputs = Outputs(self, self._topics, self._settings)
        self._use(model)
        self._enter('inactive', 'configured')
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe and start the inference thread."""
        assert self._model is not None and self._outputs is not None
        result = super().on_activate(state)
        self._outputs.publish_labels(self._model)
        intake = Intake(len(self._topics))
        self._health = Health(self._topics)
        self._followers = [Follower() for _ in self._topics]
        entry = intake if self._settings.regions != 'topic' else Pairing(
            intake, self._settings.region_tolerance, self._health.add_dropped)
        self._cameras = cameras = Cameras(self, self._health, entry,
                                          self._settings.qos_reliability, self._settings.qos_depth)
        find, answered = None, None
        if isinstance(entry, Pairing):
            BoxTopics(cameras.node, [self.resolve_topic_name(name) for name
                                     in self._settings.region_topics], entry, cameras.warn)
            find = objects.by_detector(cameras.warn)
        elif self._settings.regions == 'auto':
            find = objects.ByItself(len(self._topics))
            answered = find.learn
        self._worker = InferenceWorker(self._model, intake, self._settings.batch_wait,
                                       cameras.decode, self._answer, self._reject, find,
                                       self._answer_nothing, answered)
        self._worker.start()
        self._enter('active', f'active on {", ".join(self._topics)}')
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe and end the inference thread."""
        self._stop()
        self._enter('inactive', 'deactivated: no image is answered')
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Forget model and publishers."""
        self._release()
        # Who cleans up wants no start but their own.
        self._starting = False
        self._enter('unconfigured', 'cleaned up: model and topics are gone')
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """End, from whatever state."""
        self._release()
        self._enter('finalized', 'shut down')
        return TransitionCallbackReturn.SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Back to unconfigured after a transition that broke."""
        self._error = self._error or 'a transition broke; see the log'
        return self.on_cleanup(state)

    def _enter(self, state: str, text: str) -> None:
        """Note the state and log what happened."""
        self._state = state
        self.get_logger().info(text)

    def _stop(self) -> None:
        if self._worker is not None:
            self._worker.stop()
            self._worker = None
        if self._cameras is not None:
            self._cameras.close()
            self._cameras = None

    def _release(self) -> None:
        self._stop()
        if self._outputs is not None:
            self._outputs.close()
            self._outputs = None
        self._model = None

    def destroy_node(self) -> None:
        """End the inference thread, then the node."""
        self._enrolment.close()
        self._stop()
        super().destroy_node()

    # Model

    def _use(self, model: ImnModel) -> None:
        """Let the next image be answered by this model."""
        assert self._outputs is not None
        self._model = model
        if self._worker is not None:
            self._worker.model = model
        self._outputs.publish_labels(model)
        self.get_logger().info(
            f'model {model.name} on {model.provider}: {", ".join(model.labels)}')
        if model.regions and self._settings.regions == 'none':
            self.get_logger().warning(
                f'model {model.name} learnt from objects cut out of larger pictures: set regions '
                'to auto or topic, or publish pictures in which one object fills the view')

    def _on_set_parameters(self, changes: list[Parameter]) -> SetParametersResult:
        """Refuse what cannot be changed now; load a new model, or refuse it and keep the old."""
        values = {change.name: change.value for change in changes
                  if change.name in parameters.Settings.__dataclass_fields__}
        fixed = [name for name in values if name not in parameters.CHANGEABLE]
        if fixed and self._state != 'unconfigured':
            return SetParametersResult(successful=False, reason=(
                f'{", ".join(fixed)} cannot change while {self._state}; deactivate and clean up '
                'first'))
        model = None
        try:
            parameters.check(**values)
            if 'model' in values:
                model = load_model(parameters.read(self, **values))
        except UserError as error:
            reason = f'{"model " if "model" in values else ""}refused: {one_line(error)}'
            self.get_logger().error(reason)
            return SetParametersResult(successful=False, reason=reason)
        if model is not None and self._model is not None:
            self._use(model)
        elif values:
            # The parameters have their new values only when this callback has returned.
            self._start_timer.reset()
        if 'batch_wait' in values and self._worker is not None:
            self._worker.gather = float(values['batch_wait'])
        return SetParametersResult(successful=True)

    # Enrolment

    async def _on_enroll(self, request: Enroll.Request, response: Enroll.Response
                         ) -> Enroll.Response:
        """Learn one more object in a thread; everything else goes on."""
        model = self._model if self._state == 'active' else None
        done: Future = Future(executor=self.executor)
        self.get_logger().info(f"enroll: '{request.label}' is asked for")

        def work() -> None:
            try:
                answer = self._enrolment.run(request, model, self._topics)
            # Whatever it is, who asked gets an answer.
            except Exception as error:
                answer = Enroll.Response(message=f'enrolment broke: {one_line(error)}')
            self.get_logger().info(f'enroll: {answer.message}')
            done.set_result(answer)

        threading.Thread(target=work, name='enrolment', daemon=True).start()
        return await done

    def _load_as_configured(self, path: Path) -> ImnModel:
        return load_model(replace(self._settings, model=str(path)))

    def _use_enrolled(self, model: ImnModel) -> None:
        """Answer from now on by a model that has learnt, unless the node was given another."""
        if self._model is not None and self._model.path == model.path:
            self._use(model)

    # Images, in the inference thread

    def _answer(self, model: ImnModel, frames: list[Frame], winner: Winner,
                inference: float) -> None:
        outputs = self._outputs
        assert outputs is not None
        images = objects.largest_first(frames)
        firsts = [frames[rows[0]] for rows in images]
        for rows, first in zip(images, firsts):
            outputs.publish(model, first, winner, rows[0])
            self._enrolment.offer(self._topics[first.arrival.source], first.image)
        now = time.monotonic()
        self._health.add_batch([first.arrival.source for first in firsts],
                               [now - first.arrival.received for first in firsts], inference)
        tracks = [objects.follow(self._followers[first.arrival.source], first.header, frames,
                                 winner, rows) for rows, first in zip(images, firsts)]
        told = []
        for rows, first, of in zip(images, firsts, tracks):
            found = [objects.object_message(model, frames[row], winner, row, track)
                     for row, track in zip(rows, of)]
            outputs.publish_objects(model, first, found)
            told.append(found)
        for rows, of, found in zip(images, tracks, told):
            outputs.publish_poses(model, frames, winner, rows, of, found)
        try:
            for rows, first, found in zip(images, firsts, told):
                outputs.publish_extras(first, winner, rows[0], found)
        # The answers are out; a picture for people to look at must not make them count as bad.
        except Exception as error:
            if self._health.may_log('debug_image', 'extras') is not None:
                self.get_logger().warning(f'debug image or marker failed: {one_line(error)}')

    def _answer_nothing(self, model: ImnModel, picture: Empty) -> None:
        assert self._outputs is not None
        self._outputs.publish_objects(model, picture, [])
        arrival = picture.arrival
        self._health.add_batch([arrival.source], [time.monotonic() - arrival.received], None)

    def _reject(self, arrival: Arrival, cause: str, model_at_fault: bool) -> None:
        self._health.add_bad(arrival.source, cause, model_at_fault)
        if self._cameras is not None:
            self._cameras.warn(arrival.source, 'bad image', f'no answer to an image: {cause}')

    # Diagnostics

    def _publish_diagnostics(self) -> None:
        if self._cameras is not None and self._cameras.failure is not None:
            raise self._cameras.failure               # a node without its cameras must not go on
        message = DiagnosticArray()
        message.header.stamp = self.get_clock().now().to_msg()
        timeout = self.get_parameter('image_timeout').value
        message.status = self._health.statuses(
            self.get_fully_qualified_name().lstrip('/').replace('/', '.'),
            self._model.provider if self._model else '', self._model_health(), timeout)
        self._diagnostics.publish(message)

    def _model_health(self) -> ModelHealth:
        model = self._model
        if model is None:
            return ModelHealth(self._state, self._error)
        asked = self._settings.provider
        fallback = ''
        best = best_provider()
        if asked == 'auto' and model.provider != best:
            fallback = f'runs on {model.provider}, though {best} is installed'
        return ModelHealth(self._state, self._error, (
            ('model', model.name), ('file', str(model.path)),
            ('labels', ', '.join(model.labels)), ('provider', model.provider),
            ('provider asked for', asked)), fallback)


def best_provider() -> str:
    """Return the fastest provider that the installed ONNX Runtime was built with."""
    available = onnxruntime.get_available_providers()
    return next(name for name in PROVIDERS.values() if name in available)


def load_model(settings: parameters.Settings) -> ImnModel:
    """
    Load a model and run it once for every batch size, so that the first image finds it warm.

    :param settings: of the node.
    :raises UserError: when there is no such file, it is not a model of this package, or it does
        not run where it should, or answers with NaN.
    """
    if not settings.model:
        raise UserError('parameter model is empty; set it to the path of an exported .onnx file')
    # In full, so that a message names a file that can be found.
    path = Path(settings.model).expanduser().absolute()
    wanted = None if settings.provider == 'auto' else PROVIDERS[settings.provider]
    with warnings.catch_warnings():
        # What it would warn of is an error here, or told by diagnostics.
        warnings.simplefilter('ignore')
        model = ImnModel(path, [wanted] if wanted else None, settings.threads)
    if wanted not in (None, model.provider):
        raise UserError(f'parameter provider is {settings.provider!r}, but ONNX Runtime offers '
                        f'only {model.provider} for {path.name}; install onnxruntime-gpu '
                        "and its driver, or set provider to 'auto' or 'cpu'")
    model.warm_up(range(1, len(settings.image_topics) + 1))
    black = np.zeros((1, model.image_size, model.image_size, 3), np.uint8)
    if not finite_rows(model.predict(black)).all():
        raise UserError(f'{path}: {NOT_FINITE}')
    return model


def main(arguments: list[str] | None = None) -> int:
    """
    Run the node until it is told to stop.

    :param arguments: command line, ROS arguments included.
    :return: exit code.
    """
    return run_until_stopped(PerceptionNode, SingleThreadedExecutor, arguments)


if __name__ == '__main__':
    sys.exit(main())
