"""Where the object is: boxes of a topic, or what differs from a standing camera's background."""
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from recordings import COMPRESSED, STORE, STRING, compressed, header, write_bag
from rosbags.rosbag2 import StoragePlugin, Writer

from imn_world_model.base.errors import UserError
from imn_world_model.data.bags import TYPESTORE
from imn_world_model.data.detections import DETECTIONS, ROI
from imn_world_model.data.frames import DataOptions, load_frames
from imn_world_model.data.raw import SourceReport
from imn_world_model.data.regions import Regions, finder
from imn_world_model.data.sources import find_sources, read_frames
from imn_world_model.exporting.calibration import Calibration
from imn_world_model.exporting.graph import export_onnx, run_metadata
from imn_world_model.learning.photographs import texture
from imn_world_model.learning.presets import preset
from imn_world_model.learning.run import Run
from imn_world_model.model.imn import IndependentModularNetwork
from imn_world_model.robot.answers import answers
from imn_world_model.robot.inference import ImnModel
from imn_world_model.vision.background import Background
from imn_world_model.vision.preprocess import Crop
from imn_world_model.vision.regions import Region, cut

SECOND = 10 ** 9


def pictures(count: int = 40) -> tuple[list[np.ndarray], list[tuple[int, int, int, int]]]:
    """:return: a table with a red thing on it, somewhere else in each; the light flickers."""
    rng = np.random.default_rng(0)
    table = cv2.resize(texture(80, rng), (160, 120), interpolation=cv2.INTER_CUBIC)
    table[..., 0] = table[..., 1]                     # nothing red
    shown, boxes = [], []
    for _ in range(count):
        width, height = rng.integers(14, 40, 2)
        x, y = rng.integers(3, 157 - width), rng.integers(3, 117 - height)
        shake = np.roll(table, rng.integers(-1, 2, 2), (0, 1)).astype(float)
        shake[y:y + height, x:x + width] = (200, 40, 30)
        light = shake * rng.uniform(0.85, 1.1) + rng.normal(0, 2, shake.shape)
        shown.append(np.clip(light, 0, 255).astype(np.uint8))
        boxes.append((int(x), int(y), int(width), int(height)))
    return shown, boxes


def overlap(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    sides = [max(0.0, min(one[k] + one[k + 2], other[k] + other[k + 2]) - max(one[k], other[k]))
             for k in (0, 1)]
    both = sides[0] * sides[1]
    return both / (one[2] * one[3] + other[2] * other[3] - both)


def bag(folder: Path, with_boxes: bool = True) -> Path:
    messages = []
    for number, (image, box) in enumerate(zip(*pictures(), strict=True)):
        stamp = (number + 1) * SECOND // 5
        messages.append(('/camera', COMPRESSED, stamp, compressed(image, stamp)))
        told = {'stamp': stamp, 'object': 'thing'} | ({'box': box} if with_boxes else {})
        messages.append(('/truth', STRING, stamp, STORE.types[STRING](data=json.dumps(told))))
    return write_bag(folder / 'bag', messages)


def test_background_finds_what_is_on_the_table() -> None:
    shown, boxes = pictures()
    background = Background.of(np.stack(shown))
    found = [overlap((background.region(image) or Region((0, 0, 1, 1))).box, box)
             for image, box in zip(shown, boxes, strict=True)]
    assert np.mean(np.array(found) > 0.6) >= 0.9, np.sort(found)[:5]


def test_background_finds_nothing_on_the_empty_table() -> None:
    shown, _ = pictures()
    background = Background.of(np.stack(shown))
    assert background.region(background.level.astype(np.uint8)) is None


def test_cut_is_a_square_about_the_box_and_repeats_the_rim() -> None:
    image = np.zeros((60, 80, 3), np.uint8)
    image[20:40, 30:40] = (250, 10, 10)
    part = cut(image, Region((30, 20, 10, 20)), 24)           # 24 pixels a side
    assert part.shape == (24, 24, 3)
    rows, columns = np.where(part[..., 0] > 100)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (2, 21, 7, 16)
    image[:, 0] = 99
    assert (cut(image, Region((0, 20, 4, 20)), 24)[:, 0] == 99).all()


def test_cut_of_a_box_outside_names_it() -> None:
    with pytest.raises(UserError, match='lies outside an image of 80x60'):
        cut(np.zeros((60, 80, 3), np.uint8), Region((200, 20, 10, 20)), 24)


@pytest.mark.parametrize('regions', [Regions(boxes='/truth'), Regions(auto=True)])
def test_frames_show_the_object_large(tmp_path: Path, regions: Regions) -> None:
    path = bag(tmp_path)
    frames = load_frames([path], DataOptions(size=32, regions=regions,
                                             cache_dir=tmp_path / 'cache'), progress=False)
    whole = load_frames([path], DataOptions(size=32, cache_dir=tmp_path / 'cache'),
                        progress=False)

    def red(images: np.ndarray) -> np.ndarray:
        level = images.astype(int)
        return (level[..., 0] > level[..., 1:].max(-1) + 60).mean((1, 2))
    assert np.median(red(frames.images[:])) > 0.3 > 0.1 > np.median(red(whole.images[:]))


def test_a_topic_without_boxes_is_named(tmp_path: Path) -> None:
    path = bag(tmp_path, with_boxes=False)
    with pytest.raises(UserError, match='no boxes in /truth'):
        load_frames([path], DataOptions(size=32, regions=Regions(boxes='/truth'),
                                        cache_dir=tmp_path / 'cache'), progress=False)


def detections(stamp: int, boxes: list[tuple[float, float, float, float]]):
    """:return: a ``vision_msgs/Detection2DArray`` with the stamp of an image."""
    kinds = TYPESTORE.types
    none = STORE.types['geometry_msgs/msg/PoseWithCovariance'](
        pose=STORE.types['geometry_msgs/msg/Pose'](
            position=STORE.types['geometry_msgs/msg/Point'](x=0.0, y=0.0, z=0.0),
            orientation=STORE.types['geometry_msgs/msg/Quaternion'](x=0.0, y=0.0, z=0.0, w=1.0)),
        covariance=np.zeros(36))
    told = [kinds['vision_msgs/msg/Detection2D'](
        header=header(stamp), id='7',
        results=[kinds['vision_msgs/msg/ObjectHypothesisWithPose'](
            hypothesis=kinds['vision_msgs/msg/ObjectHypothesis'](class_id='mug', score=0.9),
            pose=none)],
        bbox=kinds['vision_msgs/msg/BoundingBox2D'](
            center=kinds['vision_msgs/msg/Pose2D'](
                position=kinds['vision_msgs/msg/Point2D'](x=x + width / 2, y=y + height / 2),
                theta=0.0), size_x=width, size_y=height)) for x, y, width, height in boxes]
    return kinds[DETECTIONS](header=header(stamp), detections=told)


def detector_bag(folder: Path, kind: str, late: int = 0) -> Path:
    """:return: a bag of images with boxes before each, whose stamps are so many ns off."""
    messages = []
    for number, (image, box) in enumerate(zip(*pictures(), strict=True)):
        stamp = (number + 1) * SECOND // 5
        x, y, width, height = map(float, box)
        told = detections(stamp + late, [(x, y, 3.0, 3.0), (x, y, width, height)])
        if kind == ROI:
            told = STORE.types[ROI](x_offset=box[0], y_offset=box[1], width=box[2],
                                    height=box[3], do_rectify=False)
        messages += [('/boxes', kind, stamp - 10 ** 6, told),
                     ('/camera', COMPRESSED, stamp, compressed(image, stamp))]
    with Writer(folder / 'bag', version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connections = {topic: writer.add_connection(topic, of, typestore=TYPESTORE)
                       for topic, of in (('/boxes', kind), ('/camera', COMPRESSED))}
        for topic, of, stamp, message in messages:
            writer.write(connections[topic], stamp, TYPESTORE.serialize_cdr(message, of))
    return folder / 'bag'


@pytest.mark.parametrize(('kind', 'late', 'found'), (
    (DETECTIONS, 0, True), (DETECTIONS, 90_000_000, True), (DETECTIONS, 20 * SECOND, False),
    (ROI, 0, True)))
def test_boxes_of_a_detector_in_a_log_are_cut_out(tmp_path: Path, kind, late, found) -> None:
    source, = find_sources([detector_bag(tmp_path, kind, late)])
    find = finder(source, ('/camera',), Regions(boxes='/boxes'))
    regions = [find(frame, frame.load(None))
               for frame in read_frames(source, ('/camera',), None, SourceReport())]
    boxes = pictures()[1]
    assert len(regions) == len(boxes)
    if found:
        np.testing.assert_allclose([region.box for region in regions], boxes)
    else:
        assert regions == [None] * len(boxes)


def test_boxes_and_auto_exclude_each_other() -> None:
    with pytest.raises(UserError, match='exclude each other'):
        Regions(boxes='/truth', auto=True)


def test_infer_cuts_as_training_did(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = preset('debug')
    network = IndependentModularNetwork(config.model, config.loss).eval()
    path = bag(tmp_path)
    seen = {}
    alone = Crop(background='remove', turn=True)
    for name, regions, crop in (('whole', Regions(), Crop()), ('cut', Regions(auto=True), Crop()),
                                ('alone', Regions(auto=True), alone), ('rim', Regions(), alone)):
        options = DataOptions(size=32, regions=regions, crop=crop, still=0.0,
                              cache_dir=tmp_path / 'cache')
        run = Run(tmp_path, config, network, options, (), 'abc', 1)
        metadata = run_metadata(run, name, ['a', 'b', 'c'], Calibration(-1e9, 20.0))
        export_onnx(network, tmp_path / f'{name}.onnx', metadata, np.zeros((0,)))
        model = ImnModel(tmp_path / f'{name}.onnx', ['cpu'])
        source = find_sources([path])[0]
        seen[name] = [answer['latent_mean'] for answer in
                      answers(model, source, (), 8, SourceReport())]
        frames = load_frames([path], options, progress=False)
        expected = model.predict(frames.images[:]).latent_mean
        np.testing.assert_allclose(seen[name], expected, atol=1e-5)
    for one, other in (('whole', 'cut'), ('cut', 'alone'), ('whole', 'rim')):
        assert np.abs(np.subtract(seen[one], seen[other])).max() > 1e-3


def test_cut_leaves_the_object_alone_before_grey() -> None:
    image = np.full((60, 80, 3), (30, 90, 40), np.uint8)
    image[20:40, 30:40] = (250, 10, 10)
    mask = np.zeros((30, 40), np.uint8)                # at half the scale
    mask[10:20, 15:20] = 1
    for region in (Region((30, 20, 10, 20), mask), Region((30, 20, 10, 20))):
        part = cut(image, region, 48, Crop(background='remove'))
        assert np.abs(part[20:28, 20:28].astype(int) - (250, 10, 10)).max() <= 2
        for rim in (part[0], part[-1], part[:, 0], part[:, -1]):
            assert np.abs(rim.astype(int) - 127).max() <= 2


def test_camera_that_moves_gives_regions_of_what_moves_before_it(tmp_path):
    rng = np.random.default_rng(0)
    table = cv2.resize(texture(120, rng), (960, 720), interpolation=cv2.INTER_CUBIC)
    table[..., 0] = table[..., 1] // 2
    messages, boxes = [], []
    for k in range(30):
        x, y = 20 * k, 12 * abs(k - 15)
        image = table[y:y + 240, x:x + 320].copy()
        box = (40 + 7 * k, 60 + 3 * abs(k - 12), 60, 50)
        image[box[1]:box[1] + box[3], box[0]:box[0] + box[2]] = (250, 30, 20)
        messages.append(('/camera', COMPRESSED, (k + 1) * SECOND, compressed(image, k + 1)))
        boxes.append(box)
    source, = find_sources([write_bag(tmp_path / 'bag', messages)])
    find = finder(source, (), Regions(auto=True))
    # Asked in whatever order, as the threads that decode do.
    frames = list(read_frames(source, (), None, SourceReport()))
    found = {k: find(frames[k], frames[k].load(None)) for k in rng.permutation(30)}
    right = [found[k] is not None and overlap(found[k].box, boxes[k]) >= 0.5 for k in range(30)]
    assert sum(right) >= 28
    assert found[20].mask.shape == (120, 160)
    inside = found[20].mask[boxes[20][1] // 2 + 3:, boxes[20][0] // 2 + 3:][:15, :20]
    assert inside.mean() > 0.95
