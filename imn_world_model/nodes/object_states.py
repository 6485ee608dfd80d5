"""A filter for each track of `objects`, so that each object of a camera has a state of its own."""
from collections.abc import Callable

import numpy as np
from imn_msgs.msg import Object, ObjectArray, State

from imn_world_model.base.errors import UserError
from imn_world_model.robot.tracking import Track, TrackingOptions


class ObjectStates:
    """
    Follows all objects of all cameras.

    :param options: of each filter.
    :param publish: called with each state.
    :param warn: called with a text where an object's numbers make no sense.
    """

    def __init__(self, options: TrackingOptions, publish: Callable[[State], None],
                 warn: Callable[[str], None]) -> None:
        self._options, self._publish, self._warn = options, publish, warn
        self._tracks: dict[str, dict[int, Track]] = {}
        self._seen: dict[str, dict[int, float]] = {}

    def see(self, message: ObjectArray) -> None:
        """Filter what an image says of its objects, and publish a state for each."""
        camera = message.source_topic or message.header.frame_id
        time = message.header.stamp.sec + message.header.stamp.nanosec * 1e-9
        seen = self._seen.setdefault(camera, {})
        tracks = self._tracks.setdefault(camera, {})
        for each in message.objects:
            seen[each.track] = time
            track = tracks.setdefault(each.track, Track(self._options))
            try:
                self._publish(_state(message, each, track, time))
            except UserError as error:
                self._warn(f'{camera}, track {each.track}: {error}')
        # A number is never used again, so what is old will not come back; nor will what is of a
        # time to come, where the clock went back.
        for number in [key for key, last in seen.items()
                       if not 0.0 <= time - last <= self._options.max_gap]:
            del seen[number], tracks[number]


def _state(message: ObjectArray, each: Object, track: Track, time: float) -> State:
    estimate = track.update(time, each.identity, np.asarray(each.latent_mean),
                            np.asarray(each.latent_variance))
    return State(
        header=message.header, identity=estimate.identity,
        # A foreign identity does not take over at once, and its name is not known before.
        label=each.label if estimate.identity == each.identity else '',
        mean=estimate.mean.tolist(), rate=estimate.rate.tolist(),
        covariance=estimate.covariance.ravel().tolist(), accepted=estimate.accepted,
        updates=estimate.updates, source_topic=message.source_topic, track=each.track)
