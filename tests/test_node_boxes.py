"""Boxes of a detector: read from its messages, paired with images, cut and answered together."""
import math
import time
from types import SimpleNamespace

import numpy as np
import pytest
from images import picture
from rclpy.serialization import serialize_message
from ros_graph import wait_until
from sensor_msgs.msg import Image, RegionOfInterest

from imn_world_model.base.errors import UserError
from imn_world_model.data.detections import boxes_of
from imn_world_model.nodes.boxes import Pairing, message_class, stamp_of
from imn_world_model.nodes.intake import Arrival, Intake
from imn_world_model.nodes.objects import MOST, by_detector, largest_first
from imn_world_model.nodes.parameters import Settings
from imn_world_model.nodes.worker import InferenceWorker
from imn_world_model.robot.inference import ImnModel
from imn_world_model.vision.regions import Region, cut

BOX = (8.0, 4.0, 20.0, 30.0)


def image(seconds, nanoseconds=0):
    message = Image()
    message.header.stamp.sec, message.header.stamp.nanosec = seconds, nanoseconds
    return Arrival(0, serialize_message(message), time.monotonic(), Image)


def stamp(milliseconds):
    return milliseconds * 10 ** 6


def at(milliseconds):
    return image(milliseconds // 1000, stamp(milliseconds % 1000))


def taken(intake):
    """:return: the stamp in milliseconds and the boxes of what waits, if anything does."""
    intake.put(Arrival(1, b'', 0.0, Image))           # lest it waits
    return [(stamp_of(arrival.payload) // 10 ** 6, arrival.boxes)
            for arrival in intake.take(0.0) if arrival.source == 0]


def detections(*boxes, seconds=3, nested=True):
    """:return: the fields of vision_msgs/Detection2DArray that are read."""
    def bounds(x, y, width, height, theta=0.0):
        point = SimpleNamespace(x=x + width / 2, y=y + height / 2)
        centre = (SimpleNamespace(position=point, theta=theta) if nested
                  else SimpleNamespace(x=point.x, y=point.y, theta=theta))
        return SimpleNamespace(center=centre, size_x=width, size_y=height)

    return SimpleNamespace(
        header=SimpleNamespace(stamp=SimpleNamespace(sec=seconds, nanosec=7)),
        detections=[SimpleNamespace(bbox=bounds(*box)) for box in boxes])


def test_stamp_is_read_from_serialized_messages_of_either_byte_order():
    assert stamp_of(image(1_700_000_000, 123_456_789).payload) == 1_700_000_000_123_456_789
    assert stamp_of(image(-1).payload) == -10 ** 9
    assert stamp_of(b'\0\0\0\0' + (5).to_bytes(4, 'big') + (6).to_bytes(4, 'big')) == 5_000_000_006
    assert stamp_of(b'') == 0


@pytest.mark.parametrize('nested', [True, False])
def test_detections_become_boxes(nested):
    message = detections(BOX, (10.0, 20.0, 30.0, 8.0, math.pi / 2), (1.0, 1.0, 0.0, 5.0),
                         (math.nan, 1.0, 4.0, 5.0), nested=nested)
    when, boxes = boxes_of(message)
    assert when == 3 * 10 ** 9 + 7
    np.testing.assert_allclose(boxes, [BOX, (21, 9, 8, 30)], atol=1e-9)


def test_region_of_interest_is_a_box_without_stamp_and_an_empty_one_is_none():
    assert boxes_of(RegionOfInterest(x_offset=8, y_offset=4, width=20, height=30)) == (None, [BOX])
    assert boxes_of(RegionOfInterest(width=20)) == (None, [])


def test_message_classes_are_found_by_name():
    assert message_class('sensor_msgs/msg/RegionOfInterest') is RegionOfInterest
    assert message_class('std_msgs/msg/String') is None


@pytest.mark.parametrize('boxes_first', [True, False])
def test_pairing_brings_boxes_and_image_of_one_stamp_together(boxes_first):
    intake = Intake(2)
    pairing = Pairing(intake, 0.1, lambda source: None)
    for milliseconds in (1000, 1050, 1100):
        if boxes_first and milliseconds == 1100:
            pairing.add(0, stamp(1100), [BOX])
        pairing.put(at(milliseconds))
    if not boxes_first:
        assert taken(intake) == []
        pairing.add(0, stamp(1050), [BOX])
    assert taken(intake) == [(1100 if boxes_first else 1050, (BOX,))]


def test_pairing_takes_the_nearest_image_within_the_tolerance_and_none_beyond():
    intake = Intake(2)
    pairing = Pairing(intake, 0.02, lambda source: None)
    for milliseconds in (1000, 1050, 1100):
        pairing.put(at(milliseconds))
    pairing.add(0, stamp(1025), [BOX])
    assert taken(intake) == []
    pairing.add(0, stamp(1060), [BOX])
    assert taken(intake) == [(1050, (BOX,))]
    # The boxes' own image may still come; once a later one has, the nearest is taken.
    pairing.add(0, stamp(1190), [BOX])
    assert taken(intake) == []
    pairing.put(at(1200))
    assert taken(intake) == [(1200, (BOX,))]


def test_pairing_answers_no_image_twice_and_counts_replaced_ones():
    intake, replaced = Intake(2), []
    pairing = Pairing(intake, 0.1, replaced.append)
    for milliseconds in (1000, 1050):
        pairing.put(at(milliseconds))
    pairing.add(0, stamp(1000), [BOX])
    pairing.add(0, stamp(1050), [])
    assert replaced == [0]
    assert taken(intake) == [(1050, ())]
    pairing.add(0, stamp(1050), [BOX])
    assert taken(intake) == []


def test_box_without_stamp_holds_for_all_images_until_the_next():
    intake = Intake(2)
    pairing = Pairing(intake, 0.1, lambda source: None)
    pairing.put(at(900))
    assert taken(intake) == []
    pairing.add(0, None, [BOX])
    for milliseconds in (1000, 1050):
        pairing.put(at(milliseconds))
        assert taken(intake) == [(milliseconds, (BOX,))]
    pairing.add(0, None, [])
    pairing.put(at(1100))
    assert taken(intake) == [(1100, ())]


def test_boxes_outside_the_image_and_too_many_are_told_and_left_out():
    said = []
    find = by_detector(lambda source, kind, text: said.append(text))
    rgb = np.zeros((48, 64, 3), np.uint8)
    arrival = Arrival(0, b'', 0.0, Image, ((70.0, 0, 5, 5), BOX, (-4.0, -4, 8, 8)))
    assert [region.box for region in find(arrival, rgb)] == [BOX, (-4.0, -4, 8, 8)]
    assert said == ['1 of 3 boxes lie outside the image of 64x48 pixels; they get no answer']
    many = tuple((1.0, 1.0, 2.0 + k, 2.0) for k in range(MOST + 5))
    regions = find(Arrival(0, b'', 0.0, Image, many), rgb)
    assert [region.box for region in regions] == list(many[:4:-1])
    assert f'the {MOST} largest' in said[1]


def test_worker_answers_all_boxes_of_all_cameras_in_one_inference_with_trainings_margin(
        tiny_model):
    asked = []

    class Counting(ImnModel):
        """The real model, which remembers how much it was asked."""

        def predict(self, images):
            asked.append(len(images))
            return super().predict(images)

    intake, answers, empty = Intake(3), [], []
    boxes = {0: [BOX, (30.0, 10.0, 12.0, 12.0)], 1: [], 2: [(20.0, 2.0, 40.0, 40.0)]}
    worker = InferenceWorker(
        Counting(tiny_model), intake, 60.0, lambda item, _: (item.source, picture(item.source)),
        lambda *words: answers.append(words), lambda *words: pytest.fail(str(words)),
        lambda arrival, rgb: [Region(box) for box in boxes[arrival.source]],
        lambda model, image: empty.append(image.header))
    asked.clear()
    worker.start()
    for source in range(3):
        intake.put(Arrival(source, b'', 0.0, Image))
    wait_until(lambda: answers, 'an answer')
    worker.stop()
    (model, frames, winner, _), = answers
    assert asked == [3] and empty == [1]
    assert [(frame.header, frame.box) for frame in frames] == [
        (source, box) for source in (0, 2) for box in boxes[source]]
    assert largest_first(frames) == [[0, 1], [2]]
    for row, frame in enumerate(frames):
        part = cut(picture(frame.header), Region(frame.box), model.image_size, model.crop)
        alone = model.predict(part[None])
        np.testing.assert_allclose(winner.identity_scores[row], alone.identity_scores[0],
                                   rtol=1e-4)


def test_regions_parameter_is_checked():
    with pytest.raises(UserError, match="parameter regions is 'magic'; use one of: none, auto"):
        Settings(regions='magic')
