"""What a real rclpy publisher sends, recorded over DDS, becomes the frames that it showed."""
from dataclasses import replace
from pathlib import Path

import numpy as np
from images import jpeg, picture, raw
from ros_graph import RELIABLE, ROOT, wait_until
from sensor_msgs.msg import CompressedImage, Image

from imn_world_model.data.frames import DataOptions, load_frames
from imn_world_model.nodes.recorder import Recorder
from imn_world_model.vision.preprocess import Crop

FRAMES = 12
TOPICS = {'/live/image_raw': 'sensor_msgs/msg/Image',
          '/live/image_raw/compressed': 'sensor_msgs/msg/CompressedImage'}


def test_recorded_rclpy_images_are_read_back(graph, tmp_path: Path) -> None:
    plain = graph.node.create_publisher(Image, '/live/image_raw', RELIABLE)
    packed = graph.node.create_publisher(CompressedImage, '/live/image_raw/compressed', RELIABLE)
    definitions = ROOT / 'ros2_ws' / 'src' / 'imn_msgs' / 'msg'
    with Recorder(graph.node, tmp_path / 'bag', TOPICS, definitions, RELIABLE) as recorder:
        wait_until(lambda: plain.get_subscription_count() and packed.get_subscription_count(),
                   'the recorder to subscribe')
        for k in range(FRAMES):
            plain.publish(raw('camera', picture(k), padding=5, seconds=1.0 + k / 10))
            packed.publish(jpeg('camera', picture(k), seconds=1.0 + k / 10))
        wait_until(lambda: list(recorder.counts.values()) == [FRAMES, FRAMES], 'all images')

    options = DataOptions(size=32, crop=Crop('none'), still=0.0, scene_change=1e9,
                          cache_dir=tmp_path / 'cache')
    for topic in TOPICS:
        frames = load_frames([tmp_path / 'bag'], replace(options, topics=(topic,)), progress=False)
        assert frames.topics == (topic,)
        assert (frames.stamp == 10 ** 9 + np.arange(FRAMES) * 10 ** 8).all()
        for k in (0, FRAMES - 1):
            seen = frames.images[k].astype(int)
            small = picture(k)[::48 // 6, ::64 // 8][:, :].astype(int)
            centers = seen[2::32 // 6, 2::4][:6, :8]
            assert np.abs(centers - small).mean() < 12
    twins = load_frames([tmp_path / 'bag'], options, progress=False)   # read once
    assert twins.topics == ('/live/image_raw',) and len(twins.images) == FRAMES
    assert len(twins.notes) == 1 and 'the same pictures as /live/image_raw' in twins.notes[0]
