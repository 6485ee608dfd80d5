"""The constant-velocity filter of Lie-algebra coordinates, alone and as a node on real DDS."""
from array import array

import numpy as np
import pytest
from images import header
from imn_msgs.msg import Identity, Object, ObjectArray, State, Transform
from ros_graph import ROOT, NodeProcess, ask, wait_until

from imn_world_model import track
from imn_world_model.base.errors import UserError
from imn_world_model.nodes.messages import TransformArrays, arrays_to_transform
from imn_world_model.nodes.object_states import ObjectStates
from imn_world_model.robot import replay
from imn_world_model.robot.tracking import Track, TrackingOptions

DIMENSIONS = 6
LOG = ROOT / 'demo' / 'log'


def ramp(seed, count=60, period=0.1, deviation=0.2):
    """Coordinates that grow steadily, and noisy measurements of them."""
    random = np.random.default_rng(seed)
    times = np.arange(count) * period
    truth = random.normal(size=DIMENSIONS) + times[:, None] * random.normal(size=DIMENSIONS)
    return times, truth, truth + random.normal(scale=deviation, size=truth.shape)


def test_track_matches_a_reference_with_loops():
    times, _, measured = ramp(0, count=12)
    variance = np.linspace(0.02, 0.2, DIMENSIONS)
    options = TrackingOptions(gate=1 - 1e-12, acceleration=1.5, initial_rate=0.7,
                              variance_scale=2.0)
    follower = Track(options)
    for row in range(len(times)):
        estimate = follower.update(times[row], 0, measured[row], variance)
    for d in range(DIMENSIONS):
        noise = 2.0 * variance[d]
        x = np.array([measured[0, d], 0.0])
        P = np.diag([noise, 0.7 ** 2])
        for row in range(1, len(times)):
            dt = times[row] - times[row - 1]
            F = np.array([[1, dt], [0, 1]])
            push = np.array([dt ** 2 / 2, dt])
            x, P = F @ x, F @ P @ F.T + 1.5 ** 2 * np.outer(push, push)
            gain = P[:, 0] / (P[0, 0] + noise)
            x, P = x + gain * (measured[row, d] - x[0]), P - np.outer(gain, P[0])
        np.testing.assert_allclose([estimate.mean[d], estimate.rate[d]], x, rtol=1e-6)
        np.testing.assert_allclose(estimate.covariance[d], [P[0, 0], P[0, 1], P[1, 1]], rtol=1e-6)
    assert estimate.updates == len(times)


def test_filtered_coordinates_are_closer_to_the_truth_than_measured_ones():
    options = TrackingOptions(acceleration=0.2)
    for seed in range(5):
        times, truth, measured = ramp(seed)
        follower = Track(options)
        means = np.array([follower.update(t, 0, z, np.full(DIMENSIONS, 0.04)).mean
                          for t, z in zip(times, measured, strict=True)])
        settled = slice(20, None)
        raw_error = np.sqrt(((measured - truth)[settled] ** 2).mean())
        error = np.sqrt(((means - truth)[settled] ** 2).mean())
        assert error < 0.6 * raw_error


def test_outlier_is_refused_until_it_persists():
    follower = Track(TrackingOptions(patience=3))
    variance = np.full(2, 0.01)
    for step in range(10):
        follower.update(step * 0.1, 0, np.zeros(2), variance)
    far = np.full(2, 50.0)
    for step in (10, 11):
        estimate = follower.update(step * 0.1, 0, far, variance)
        assert not estimate.accepted
        assert np.abs(estimate.mean).max() < 1.0
    estimate = follower.update(1.2, 0, far, variance)
    assert estimate.accepted and estimate.updates == 1
    np.testing.assert_array_equal(estimate.mean, far)


def test_other_identity_takes_over_only_when_it_persists():
    follower = Track(TrackingOptions(patience=2))
    variance = np.full(2, 0.01)
    follower.update(0.0, 3, np.zeros(2), variance)
    assert follower.update(0.1, 4, np.zeros(2), variance).identity == 3
    # A wrong winner's coordinates count all the same.
    assert follower.update(0.2, 3, np.zeros(2), variance).updates == 3
    assert follower.update(0.3, 4, np.zeros(2), variance).identity == 3
    estimate = follower.update(0.4, 4, np.ones(2), variance)
    assert estimate.identity == 4 and estimate.updates == 1


@pytest.mark.parametrize('later', [-5.0, 0.05, 30.0])
def test_time_jump_starts_anew(later):
    follower = Track(TrackingOptions())
    follower.update(10.0, 0, np.zeros(2), np.full(2, 0.1))
    follower.update(10.0, 0, np.zeros(2), np.full(2, 0.1))
    estimate = follower.update(10.0 + later, 0, np.zeros(2), np.full(2, 0.1))
    assert estimate.updates == (3 if later == 0.05 else 1)


@pytest.mark.parametrize('mean, variance', [([np.nan, 0], [1, 1]), ([0, 0], [1, np.inf]),
                                            ([0, 0], [1, -1])])
def test_broken_measurement_is_an_error_and_changes_nothing(mean, variance):
    follower, other = Track(TrackingOptions()), Track(TrackingOptions())
    for one in (follower, other):
        one.update(0.0, 0, np.zeros(2), np.ones(2))
    with pytest.raises(UserError, match='left out'):
        follower.update(0.1, 0, np.array(mean), np.array(variance))
    np.testing.assert_array_equal(follower.update(0.2, 0, np.ones(2), np.ones(2)).mean,
                                  other.update(0.2, 0, np.ones(2), np.ones(2)).mean)


def test_options_out_of_range_are_errors():
    for wrong in ({'gate': 1.0}, {'acceleration': 0.0}, {'patience': 0}):
        with pytest.raises(UserError, match=next(iter(wrong))):
            TrackingOptions(**wrong)


def test_filter_bridges_occluded_frames():
    times, truth, _ = ramp(3)
    measured = truth + np.random.default_rng(4).normal(scale=0.05, size=truth.shape)
    hidden = np.arange(len(times)) % 9 == 5
    measured[hidden] += 1.5
    follower = Track(TrackingOptions())
    means = np.array([follower.update(t, 0, z, np.full(DIMENSIONS, 0.0025)).mean
                      for t, z in zip(times, measured, strict=True)])
    raw_error, error = (np.sqrt(((values - truth) ** 2).mean()) for values in (measured, means))
    assert error < 0.3 * raw_error


def test_occlude_covers_the_share_of_images_that_it_is_asked_for():
    images = np.full((400, 32, 32, 3), 200, np.uint8)
    hidden = replay.occlude(images, 0.25)
    covered = (hidden != images).any((1, 2, 3))
    assert 60 < covered.sum() < 140
    share = (hidden != images).any(3).mean((1, 2))[covered]
    assert share.min() > 0.08 and share.max() < 0.3
    assert (images == 200).all()


def test_linear_fit_recovers_a_linear_map():
    random = np.random.default_rng(0)
    coordinates, weights = random.normal(size=(200, 4)), random.normal(size=5)
    values = coordinates @ weights[:4] + weights[4]
    np.testing.assert_allclose(replay.linear_fit(coordinates, values), weights, atol=1e-3)
    np.testing.assert_allclose(replay.apply(weights, coordinates), values)


def test_track_command_measures_on_the_demo_log_and_plots(tiny_model, tmp_path, capsys):
    plot = tmp_path / 'plot'                        # a PNG whatever its name
    track.main(['--model', str(tiny_model), '--out', str(plot)])
    assert capsys.readouterr().out.count('ratio') == 2
    assert plot.stat().st_size > 10_000
    track.main(['--model', str(tiny_model), '--out', str(plot), '--fit-log', str(LOG)])
    assert capsys.readouterr().out.count('ratio') == 2
    with pytest.raises(UserError, match='no images'):
        track.main(['--model', str(tiny_model), '--quantities', 'weight', '--out', str(plot)])


def test_estimator_node_publishes_what_the_filter_says(graph, tmp_path):
    node = NodeProcess('imn_world_model.nodes.estimator', tmp_path / 'log', {'acceleration': 1.0})
    states = graph.collect(State, '/imn/state')
    identities = graph.publisher(Identity, '/imn/identity')
    transforms = graph.publisher(Transform, '/imn/transform')
    times, _, measured = ramp(1, count=15)
    variance = np.full(DIMENSIONS, 0.04, np.float32)

    def transform(row, stamp):
        return arrays_to_transform(stamp, '', TransformArrays(
            2, np.ones(3, bool), np.eye(4), np.zeros((3, 4, 4)), measured[row].reshape(3, 2),
            variance.reshape(3, 2)))

    # Another camera, which has a filter of its own, shows when the nodes have found each other.
    ask(transforms, [states], lambda frame: transform(0, header(frame)), 'heard')
    states.clear()
    follower = Track(TrackingOptions(acceleration=1.0))
    for row in range(len(times)):
        stamp = header('camera', 1.0 + times[row])
        identities.publish(Identity(header=stamp, identity=2, label='cube'))
        message = transform(row, stamp)
        if row == 7:
            message.latent_mean = message.latent_mean[:-1]
        transforms.publish(message)
        expected_states = row + (row < 7)
        wait_until(lambda count=expected_states: len(states) >= count, f'{expected_states} states')
    assert len(states) == len(times) - 1
    for row in range(len(times)):
        if row != 7:
            expected = follower.update(1.0 + times[row], 2, np.float32(measured[row]), variance)
    last = states[-1]
    assert (last.identity, last.label, last.updates) == (2, 'cube', len(times) - 1)
    assert last.header.frame_id == 'camera'
    np.testing.assert_allclose(last.mean, expected.mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(last.rate, expected.rate, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(np.reshape(last.covariance, (-1, 3)), expected.covariance, 1e-5)
    node.wait_for_output('Transform.latent_mean holds 5 numbers')
    assert node.stop()[0] == 0


def test_estimator_node_keeps_cameras_of_one_frame_apart_by_their_topics(graph, tmp_path):
    node = NodeProcess('imn_world_model.nodes.estimator', tmp_path / 'log')
    states = graph.collect(State, '/imn/state')
    transforms = graph.publisher(Transform, '/imn/transform')

    def transform(topic, stamp, identity=0):
        return arrays_to_transform(stamp, topic, TransformArrays(
            identity, np.ones(1, bool), np.eye(2), np.zeros((1, 2, 2)),
            np.full((1, 2), identity), np.ones((1, 2))))

    ask(transforms, [states], lambda frame: transform('/else', header(frame)), 'heard')
    states.clear()
    for step in range(4):
        # Both have the frame of the base, as some drivers leave it; their clocks differ.
        for identity, topic in enumerate(('/front', '/left')):
            stamp = header('base', 1.0 + step * 0.1 + identity * 5.0)
            transforms.publish(transform(topic, stamp, identity))
    wait_until(lambda: len(states) >= 8, '8 states')
    for identity, topic in enumerate(('/front', '/left')):
        own = [state for state in states if state.source_topic == topic]
        assert [state.updates for state in own] == [1, 2, 3, 4]
        assert {state.identity for state in own} == {identity}
    assert node.stop()[0] == 0


def seen(step, tracks, topic='/front', frame='camera'):
    """:return: an ObjectArray of objects whose coordinates are their track's number."""
    return ObjectArray(header=header(frame, 1.0 + 0.1 * step), source_topic=topic, objects=[
        Object(track=track, identity=track % 3, label=f'thing {track}', latent_dim=2, dim=2,
               latent_mean=array('f', [track, track + 0.1 * step]),
               latent_variance=array('f', [0.01, 0.01]), active=[True]) for track in tracks])


def test_estimator_node_follows_each_track_of_each_camera(graph, tmp_path):
    node = NodeProcess('imn_world_model.nodes.estimator', tmp_path / 'log')
    states = graph.collect(State, '/imn/object_states')
    largest = graph.collect(State, '/imn/state')
    objects = graph.publisher(ObjectArray, '/imn/objects')
    ask(objects, [states], lambda frame: seen(0, [9], '/else', frame), 'heard')
    states.clear()
    followers = {key: Track(TrackingOptions()) for key in ((1, '/front'), (2, '/front'),
                                                           (1, '/left'))}
    told = 0
    for step in range(5):
        for topic, tracks in (('/front', [1, 2]), ('/left', [1])):
            message = seen(step, tracks, topic)
            if step == 2 and topic == '/left':
                message.objects[0].latent_mean[0] = float('nan')
            objects.publish(message)
            told += len(tracks) - ((step, topic) == (2, '/left'))
            wait_until(lambda count=told: len(states) >= count, f'{told} states')
    for (number, topic), follower in followers.items():
        own = [state for state in states if (state.track, state.source_topic) == (number, topic)]
        steps = [step for step in range(5) if (step, topic) != (2, '/left')]
        assert [state.updates for state in own] == list(range(1, len(steps) + 1))
        for step in steps:
            expected = follower.update(1.0 + 0.1 * step, number % 3, np.float32(
                [number, number + 0.1 * step]), np.float32([0.01, 0.01]))
        np.testing.assert_allclose(own[-1].mean, expected.mean, rtol=1e-5)
        np.testing.assert_allclose(np.reshape(own[-1].covariance, (-1, 3)), expected.covariance,
                                   1e-5)
        assert (own[-1].identity, own[-1].label) == (number % 3, f'thing {number}')
    node.wait_for_output('/left, track 1: a measurement holds numbers that are not finite')
    assert not largest
    assert node.stop()[0] == 0


def test_tracks_that_have_ended_are_forgotten_and_a_clock_may_go_back():
    told, options = [], TrackingOptions(max_gap=1.0)
    states = ObjectStates(options, told.append, pytest.fail)
    for step in (0, 1, 2):
        states.see(seen(step, [1, 2]))
    for step in range(3, 20):
        states.see(seen(step, [2]))
    assert set(states._tracks['/front']) == {2}
    states.see(seen(20, [1, 2]))               # cannot be: the number stands for a new object
    assert [state.updates for state in told[-2:]] == [1, 21]
    states.see(seen(0, [1, 2]))
    assert [state.updates for state in told[-2:]] == [1, 1]
    assert {state.track for state in told} == {1, 2}


def test_the_label_is_that_of_the_identity_that_is_followed():
    told = []
    states = ObjectStates(TrackingOptions(patience=3), told.append, pytest.fail)
    for step, identity in enumerate((1, 1, 5, 5, 5)):
        message = seen(step, [1])
        message.objects[0].identity, message.objects[0].label = identity, f'name {identity}'
        states.see(message)
    assert [(state.identity, state.label) for state in told] == [
        (1, 'name 1'), (1, 'name 1'), (1, ''), (1, ''), (5, 'name 5')]
