"""Images of Foxglove's own types, written by its SDK as protobuf and JSON."""
import base64
import json
from pathlib import Path

import cv2
import foxglove
import numpy as np
import pytest
from foxglove.channels import CompressedImageChannel, RawImageChannel
from foxglove.messages import CompressedImage, RawImage, Timestamp
from recordings import scene

from imn_world_model.base.errors import UserError
from imn_world_model.data.frames import DataOptions, load_frames

FRAMES = 4


@pytest.fixture
def options(tmp_path: Path) -> DataOptions:
    return DataOptions(size=16, cache_dir=tmp_path / 'cache', still=0.0, scene_change=1e9)


def png(number: int) -> bytes:
    return cv2.imencode('.png', scene(number)[..., ::-1])[1].tobytes()


def test_protobuf_images_are_read(tmp_path: Path, options: DataOptions) -> None:
    context = foxglove.Context()
    with foxglove.open_mcap(tmp_path / 'log.mcap', context=context):
        packed = CompressedImageChannel('/packed', context=context)
        plain = RawImageChannel('/plain', context=context)
        for k in range(FRAMES):
            stamp = Timestamp(sec=100 + k, nsec=5)
            packed.log(CompressedImage(timestamp=stamp, frame_id='camera', data=png(k),
                                       format='png'))
            plain.log(RawImage(timestamp=stamp, frame_id='camera', width=64, height=48, step=192,
                               encoding='rgb8', data=scene(k).tobytes()))
    frames = load_frames([tmp_path], options, progress=False)
    assert frames.topics == ('/packed', '/plain') and not frames.notes
    for topic in range(2):
        own = np.flatnonzero(frames.topic == topic)
        assert frames.stamp[own].tolist() == [(100 + k) * 10 ** 9 + 5 for k in range(FRAMES)]
        for k in range(FRAMES):
            expected = cv2.resize(scene(k)[:, 8:56], (16, 16), interpolation=cv2.INTER_AREA)
            assert np.array_equal(frames.images[int(own[k])], expected)


def test_json_images_are_read_and_broken_ones_counted(tmp_path: Path, options: DataOptions
                                                      ) -> None:
    context = foxglove.Context()
    with foxglove.open_mcap(tmp_path / 'log.mcap', context=context):
        schema = foxglove.Schema(name='foxglove.CompressedImage', encoding='jsonschema',
                                 data=b'{"type": "object"}')
        channel = foxglove.Channel('/packed', schema=schema, message_encoding='json',
                                   context=context)
        for k in range(FRAMES):
            channel.log(json.dumps({
                'timestamp': {'sec': 100 + k, 'nsec': 5}, 'frame_id': 'camera', 'format': 'png',
                'data': base64.b64encode(png(k)).decode()}).encode())
        channel.log(b'{"timestamp": 1}')
    frames = load_frames([tmp_path], options, progress=False)
    assert frames.stamp.tolist() == [(100 + k) * 10 ** 9 + 5 for k in range(FRAMES)]
    assert len(frames.notes) == 1 and '1 broken frame left out' in frames.notes[0]


def test_another_encoding_is_named(tmp_path: Path, options: DataOptions) -> None:
    context = foxglove.Context()
    with foxglove.open_mcap(tmp_path / 'log.mcap', context=context):
        schema = foxglove.Schema(name='foxglove.CompressedImage', encoding='flatbuffer', data=b'')
        channel = foxglove.Channel('/packed', schema=schema, message_encoding='flatbuffer',
                                   context=context)
        channel.log(b'what')
    with pytest.raises(UserError, match="1 message of /packed left out, type 'foxglove.Compr.*' "
                                        "in encoding 'flatbuffer' is unknown"):
        load_frames([tmp_path], options, progress=False)
