"""What the perception node knows of its own condition, as /diagnostics tells it."""
import threading
import time
from collections import deque
from dataclasses import dataclass, field

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

# Long enough to smooth a 10 Hz camera, short enough to follow a change.
RATE_WINDOW = 5.0
LATENCIES_KEPT = 1000
LOG_PERIOD = 5.0
# Share of lost images worth a warning: one now and then is nothing to act on.
LOST_SHARE = 0.03


@dataclass
class SourceHealth:
    """
    Counts of one camera topic since the node was activated.

    :param topic: full name.
    :param received: images that reached the node.
    :param answered: images that got an answer.
    :param dropped: images replaced by a newer one before the model was free.
    :param lost: images that DDS reported lost.
    :param bad: images that could not be read.
    :param time_jumps: images with a stamp before their predecessor's.
    :param last_error: newest cause of a bad image, empty if none.
    :param last_bad: time.monotonic() of it.
    :param last_received: time.monotonic() of the newest image, or of the start.
    :param qos_problem: names the policy on which a publisher is incompatible, empty if none.
    :param publishers: publishers on the topic when last looked at.
    :param reliability: of the subscription, `reliable` or `best_effort`.
    """

    topic: str
    received: int = 0
    answered: int = 0
    dropped: int = 0
    lost: int = 0
    bad: int = 0
    time_jumps: int = 0
    last_error: str = ''
    last_bad: float = float('-inf')
    last_received: float = field(default_factory=time.monotonic)
    qos_problem: str = ''
    publishers: int = 0
    reliability: str = ''


@dataclass(frozen=True)
class Rates:
    """
    What happened on one topic in the last seconds.

    :param received: images per second in.
    :param answered: answers per second out.
    :param lost: share of the images that DDS reported lost.
    """

    received: float
    answered: float
    lost: float


@dataclass(frozen=True)
class ModelHealth:
    """
    The model's part of the diagnostics.

    :param state: lifecycle state.
    :param error: why there is no model, or empty.
    :param details: name, file, provider and so on, as shown.
    :param fallback: says so if the model runs elsewhere than it could, or empty.
    """

    state: str
    error: str = ''
    details: tuple[tuple[str, str], ...] = ()
    fallback: str = ''


class Health:
    """
    Counters that the executor's and the inference thread share, and what they mean.

    :param topics: full names of the camera topics.
    """

    def __init__(self, topics: list[str]) -> None:
        self.lock = threading.Lock()
        self.sources = [SourceHealth(topic) for topic in topics]
        self._latency: deque[float] = deque(maxlen=LATENCIES_KEPT)
        self._inference: deque[float] = deque(maxlen=LATENCIES_KEPT)
        # From the start, so that what is lost in the first second counts.
        self._history = deque([(time.monotonic(), np.zeros((len(topics), 3), np.int64))])
        self._fault = ('', float('-inf'))
        self._logged: dict[tuple[str, str], tuple[float, int]] = {}

    def add_batch(self, sources: list[int], latencies: list[float],
                  inference: float | None) -> None:
        """
        Count answered images.

        :param sources: index of each image's camera.
        :param latencies: of each image, from arrival to publication, in seconds.
        :param inference: what the model took for all of them, in seconds; None where it was not
            asked.
        """
        with self.lock:
            for source in sources:
                self.sources[source].answered += 1
            self._latency.extend(latencies)
            if inference is not None:
                self._inference.append(inference)

    def add_dropped(self, source: int) -> None:
        """
        Count an image that another one replaced.

        :param source: index of its camera.
        """
        with self.lock:
            self.sources[source].dropped += 1

    def add_bad(self, source: int, cause: str, model_at_fault: bool) -> None:
        """
        Count an image that got no answer.

        :param source: index of its camera.
        :param cause: what was wrong.
        :param model_at_fault: whether with the model rather than with the image.
        """
        now = time.monotonic()
        with self.lock:
            health = self.sources[source]
            health.bad += 1
            health.last_error, health.last_bad = cause, now
            if model_at_fault:
                self._fault = (cause, now)

    def may_log(self, topic: str, cause: str) -> str | None:
        """
        Say whether a warning is due, so that a broken camera does not flood the log.

        :param topic: it is about.
        :param cause: kind of trouble; each kind is throttled by itself.
        :return: a note on how many were left out, possibly empty; None when not yet due.
        """
        now = time.monotonic()
        with self.lock:
            logged, skipped = self._logged.get((topic, cause), (float('-inf'), 0))
            if now - logged < LOG_PERIOD:
                self._logged[topic, cause] = (logged, skipped + 1)
                return None
            self._logged[topic, cause] = (now, 0)
        return f' ({skipped} more like this)' if skipped else ''

    def statuses(self, node: str, hardware: str, model: ModelHealth,
                 image_timeout: float) -> list[DiagnosticStatus]:
        """
        Sum up, one status for the model and one for each camera.

        :param node: name that the statuses begin with.
        :param hardware: hardware_id of the statuses.
        :param model: the model's condition.
        :param image_timeout: seconds without an image that are worth a warning.
        """
        now = time.monotonic()
        with self.lock:
            rates = self._rates(now)
            statuses = [self._model_status(node, model, now)]
            if model.state == 'active':
                statuses += [source_status(node, source, own, now, image_timeout)
                             for source, own in zip(self.sources, rates)]
        for status in statuses:
            status.hardware_id = hardware
        return statuses

    def _rates(self, now: float) -> list[Rates]:
        counts = np.array([(source.received, source.answered, source.lost)
                           for source in self.sources]).reshape(-1, 3)
        self._history.append((now, counts))
        while len(self._history) > 2 and now - self._history[0][0] > RATE_WINDOW:
            self._history.popleft()
        before, old = self._history[0]
        seconds = max(now - before, 1e-9)
        return [Rates(received / seconds, answered / seconds, lost / max(received + lost, 1))
                for received, answered, lost in (counts - old).tolist()]

    def _model_status(self, node: str, model: ModelHealth, now: float) -> DiagnosticStatus:
        values = [('state', model.state), *model.details]
        for name, seconds in (('latency', self._latency), ('inference', self._inference)):
            if seconds:
                p50, p99 = np.percentile(seconds, (50, 99)) * 1e3
                values += [(f'{name} p50 (ms)', f'{p50:.2f}'), (f'{name} p99 (ms)', f'{p99:.2f}')]
        if model.error:
            level, message = DiagnosticStatus.ERROR, model.error
        elif now - self._fault[1] < RATE_WINDOW:
            level, message = DiagnosticStatus.ERROR, self._fault[0]
        elif model.fallback:
            level, message = DiagnosticStatus.WARN, model.fallback
        elif model.state != 'active':
            level, message = DiagnosticStatus.WARN, f'not active: {model.state}'
        else:
            level, message = DiagnosticStatus.OK, 'running'
        return diagnostic_status(f'{node}: model', level, message, values)


def source_status(node: str, source: SourceHealth, rates: Rates, now: float,
                  image_timeout: float) -> DiagnosticStatus:
    """
    Sum up one camera.

    :param node: name that the status begins with.
    :param source: its counts.
    :param rates: of the last seconds.
    :param now: time.monotonic().
    :param image_timeout: seconds without an image that are worth a warning.
    """
    silent = now - source.last_received
    if source.qos_problem:
        level, message = DiagnosticStatus.ERROR, source.qos_problem
    elif not source.publishers and silent > image_timeout:
        level, message = DiagnosticStatus.WARN, 'nobody publishes this topic'
    # Before the silence that it may be the cause of.
    elif rates.lost > LOST_SHARE:
        remedy = ('set qos_reliability to auto or reliable, and let the publisher offer reliable'
                  if source.reliability == 'best_effort' else
                  'machine or network is too busy; lower the rate or the size of the images')
        level, message = DiagnosticStatus.WARN, (
            f'{rates.lost:.0%} of the images are lost on their way; {remedy}')
    elif silent > image_timeout:
        level, message = DiagnosticStatus.WARN, f'no image for {silent:.1f} s'
    elif now - source.last_bad < RATE_WINDOW:
        level, message = DiagnosticStatus.WARN, f'bad image: {source.last_error}'
    else:
        level, message = DiagnosticStatus.OK, f'{rates.answered:.1f} answers/s'
    return diagnostic_status(f'{node}: {source.topic}', level, message, [
        ('rate in (Hz)', f'{rates.received:.2f}'), ('rate out (Hz)', f'{rates.answered:.2f}'),
        ('received', str(source.received)), ('answered', str(source.answered)),
        ('dropped', str(source.dropped)), ('lost by DDS', str(source.lost)),
        ('bad', str(source.bad)), ('time jumps', str(source.time_jumps)),
        ('publishers', str(source.publishers)), ('last error', source.last_error),
        ('QoS', source.qos_problem or 'compatible'), ('reliability', source.reliability),
    ])


def diagnostic_status(name: str, level: bytes, message: str,
                      values: list[tuple[str, str]]) -> DiagnosticStatus:
    """
    Build a status message.

    :param name: of what it is about.
    :param level: DiagnosticStatus.OK, WARN or ERROR.
    :param message: summary in a few words.
    :param values: further facts, in order.
    """
    return DiagnosticStatus(name=name, level=level, message=message,
                            values=[KeyValue(key=key, value=value) for key, value in values])
