"""Parts of the perception node that need no running graph."""
import threading
import time

import numpy as np
from images import picture
from ros_graph import wait_until
from sensor_msgs.msg import Image

from imn_world_model.base.errors import UserError
from imn_world_model.nodes import health
from imn_world_model.nodes.intake import Arrival, Intake
from imn_world_model.nodes.worker import InferenceWorker
from imn_world_model.robot.inference import ImnModel


def arrival(source, payload=b''):
    return Arrival(source, payload, time.monotonic(), Image)


def test_intake_newest_image_wins_and_replacement_is_told():
    intake = Intake(2)
    assert not intake.put(arrival(0, b'old'))
    assert intake.put(arrival(0, b'new'))
    assert not intake.put(arrival(1, b'other'))
    assert [item.payload for item in intake.take(0.0)] == [b'new', b'other']


def test_intake_gathers_cameras_that_come_a_little_later():
    intake = Intake(2)
    intake.put(arrival(0))
    threading.Timer(0.05, intake.put, [arrival(1)]).start()
    assert len(list(intake.take(5.0))) == 2


def test_intake_hands_an_image_on_before_the_other_cameras_came():
    intake = Intake(2)
    intake.put(arrival(1, b'first'))
    taken = intake.take(60.0)
    assert next(taken).payload == b'first'
    intake.put(arrival(1, b'for the next round'))
    intake.put(arrival(0, b'second'))
    assert [item.payload for item in taken] == [b'second']
    assert [item.payload for item in intake.take(0.0)] == [b'for the next round']


def test_intake_does_not_wait_for_a_silent_camera_for_longer_than_asked():
    intake = Intake(2)
    intake.put(arrival(0))
    started = time.monotonic()
    assert len(list(intake.take(0.05))) == 1
    assert 0.05 <= time.monotonic() - started < 1.0


def test_intake_close_ends_a_waiting_taker():
    intake = Intake(1)
    taken = []
    thread = threading.Thread(target=lambda: taken.append(list(intake.take(0.0))))
    thread.start()
    intake.close()
    thread.join(5)
    assert taken == [[]]
    intake.put(arrival(0))
    assert list(intake.take(0.0)) == []


def test_health_throttles_each_cause_by_itself_and_counts_the_silent(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(health.time, 'monotonic', lambda: now[0])
    state = health.Health(['/a'])
    assert state.may_log('/a', 'bad') == ''
    assert state.may_log('/a', 'bad') is None
    assert state.may_log('/a', 'bad') is None
    assert state.may_log('/a', 'jump') == ''
    assert state.may_log('/b', 'bad') == ''
    now[0] += health.LOG_PERIOD
    assert state.may_log('/a', 'bad') == ' (2 more like this)'


def test_health_rates_are_those_of_the_last_seconds(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(health.time, 'monotonic', lambda: now[0])
    state = health.Health(['/a'])
    running = health.ModelHealth('active')
    for _ in range(20):
        state.statuses('node', '', running, 2.0)
        now[0] += 1.0
        state.sources[0].received += 10
        state.sources[0].last_received = now[0]
        state.add_batch([0] * 4, [0.01] * 4, 0.005)
    model, camera = state.statuses('node', 'cpu', running, 2.0)
    values = {pair.key: pair.value for pair in camera.values}
    assert (values['rate in (Hz)'], values['rate out (Hz)']) == ('10.00', '4.00')
    assert {pair.key: pair.value for pair in model.values}['latency p99 (ms)'] == '10.00'
    assert model.level == camera.level == b'\x00'
    now[0] += 3.0
    assert state.statuses('node', 'cpu', running, 2.0)[1].message == 'nobody publishes this topic'
    state.sources[0].publishers = 1
    assert state.statuses('node', 'cpu', running, 2.0)[1].message == 'no image for 3.0 s'


def test_health_warns_of_images_lost_in_the_last_seconds(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(health.time, 'monotonic', lambda: now[0])
    state = health.Health(['/a'])
    camera = state.sources[0]
    camera.reliability, camera.publishers = 'best_effort', 1

    def after_a_second(received, lost):
        now[0] += 1.0
        camera.received += received
        camera.lost += lost
        camera.last_received = now[0]
        return state.statuses('node', 'cpu', health.ModelHealth('active'), 2.0)[1]

    assert after_a_second(0, 0).level == b'\x00'
    assert after_a_second(100, 2).level == b'\x00'
    status = after_a_second(30, 10)
    assert status.level == b'\x01'
    assert status.message.startswith('8% of the images are lost') and 'reliable' in status.message
    camera.reliability = 'reliable'
    assert 'too busy' in after_a_second(30, 10).message
    # Nothing comes because all is lost.
    camera.lost += 30
    now[0] += 3.0
    silent = state.statuses('node', 'cpu', health.ModelHealth('active'), 2.0)[1]
    assert 'are lost' in silent.message
    for _ in range(7):
        status = after_a_second(30, 0)
    assert status.level == b'\x00'


def test_worker_answers_cameras_that_fired_together_in_one_inference_and_outlives_bad_ones(
        tiny_model):
    model = ImnModel(tiny_model)
    intake = Intake(4)
    answers, rejected = [], []

    def decode(item, halvings):
        if item.source == 1:
            raise UserError('a bad image')
        if item.source == 3:
            raise MemoryError('8 TB')
        return f'header {item.source}', picture(item.source)

    worker = InferenceWorker(model, intake, 60.0, decode, lambda *words: answers.append(words),
                             lambda item, cause, _: rejected.append((item.source, cause)))
    worker.start()
    for _ in range(2):
        for source in range(4):
            intake.put(arrival(source))
        wait_until(lambda: answers, 'an answer')
        (_, frames, winner, _), = answers
        assert [frame.header for frame in frames] == ['header 0', 'header 2']
        assert sorted(rejected) == [(1, 'a bad image'), (3, 'cannot be read: 8 TB')]
        for row, source in enumerate((0, 2)):
            alone = model.predict(model.prepare(picture(source))[None])
            np.testing.assert_allclose(winner.identity_scores[row], alone.identity_scores[0],
                                       rtol=1e-4)
        answers.clear()
        rejected.clear()
    worker.stop()
    assert not worker.is_alive()


def test_worker_rejects_answers_that_are_not_finite_and_gives_the_others(tiny_model):
    model = ImnModel(tiny_model)
    answers, rejected = [], []

    class Overflowing(ImnModel):
        """The real model, but for the second row's score."""

        def predict(self, images):
            winner = super().predict(images)
            winner.transform[1, 0, 0] = np.nan
            return winner

    intake = Intake(3)
    worker = InferenceWorker(Overflowing(tiny_model), intake, 60.0,
                             lambda item, _: (item.source, picture(item.source)),
                             lambda *words: answers.append(words),
                             lambda item, *words: rejected.append((item.source, *words)))
    worker.start()
    for source in range(3):
        intake.put(arrival(source))
    wait_until(lambda: answers, 'an answer')
    worker.stop()
    (_, frames, winner, _), = answers
    assert [frame.header for frame in frames] == [0, 2]
    assert [(source, fault) for source, cause, fault in rejected] == [(1, True)]
    alone = model.predict(model.prepare(picture(2))[None])
    assert winner.label[1] == alone.label[0]
    np.testing.assert_allclose(winner.identity_scores[1], alone.identity_scores[0], rtol=1e-4)


def test_worker_lets_the_finder_learn_once_answers_are_out_and_outlives_what_it_cannot_learn(
        tiny_model):
    events, rejected = [], []

    def learn(source, hurry):
        events.append(f'learnt {source}{" in a hurry" * hurry}')
        if source == 1:
            raise MemoryError('8 TB')

    intake = Intake(2)
    worker = InferenceWorker(ImnModel(tiny_model), intake, 60.0,
                             lambda item, _: (item.source, picture(item.source)),
                             lambda *words: events.append('answered'),
                             lambda item, *words: rejected.append(words), answered=learn)
    worker.start()
    for _ in range(2):
        for source in range(2):
            intake.put(arrival(source))
        wait_until(lambda: rejected, 'what could not be learnt')
        assert events[0] == 'answered' and sorted(events[1:]) == ['learnt 0', 'learnt 1']
        assert rejected == [('cannot be learnt from: 8 TB', False)]
        events.clear()
        rejected.clear()
    worker.stop()


def test_worker_tells_the_finder_to_hurry_when_another_image_waits(tiny_model):
    hurried, intake = [], Intake(1)

    def answer(*_):
        if not hurried:
            intake.put(arrival(0))

    worker = InferenceWorker(ImnModel(tiny_model), intake, 0.0,
                             lambda item, _: (item.source, picture(item.source)), answer,
                             lambda *words: None, answered=lambda _, hurry: hurried.append(hurry))
    worker.start()
    intake.put(arrival(0))
    wait_until(lambda: len(hurried) == 2, 'both answers')
    worker.stop()
    assert hurried == [True, False]
