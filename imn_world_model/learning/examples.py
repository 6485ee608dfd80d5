"""Frames of a log as examples of poses: what the model and the camera say of each."""
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from imn_world_model.base.errors import UserError
from imn_world_model.data.poses import Recorded, camera_for, read_camera, read_recorded
from imn_world_model.data.raw import Source, SourceReport
from imn_world_model.data.regions import Regions, finder
from imn_world_model.data.sources import find_sources, read_frames
from imn_world_model.learning.poses import Example
from imn_world_model.robot.inference import ImnModel
from imn_world_model.vision.pinhole import Pinhole
from imn_world_model.vision.regions import cut
from imn_world_model.vision.sight import Look, look

BATCH = 16
# A passage ends where no frame comes for so many seconds, and so many periods.
GAP, PERIODS = 1.0, 3.0
# Two frames of one passage tell for how long errors last: they are so far apart, in seconds.
APART = 2.0


def read_examples(model: ImnModel, paths: list[Path], pose_topic: str, object_frame: str,
                  camera_info: Path | None, topics: tuple[str, ...]) -> list[Example]:
    """
    Read logs.

    :param model: answers the frames.
    :param paths: recordings.
    :param pose_topic: of the object's poses.
    :param object_frame: its frame, where the topic is one of tf.
    :param camera_info: calibration file, where the log holds none.
    :param topics: globs of the image topics.
    :raises UserError: when a log has no poses, no calibration, or images of several cameras.
    """
    notes: list[str] = []
    examples: list[Example] = []
    for source in find_sources(paths, notes):
        if source.kind != 'bag':
            raise UserError(f'{source.path} is no ROS recording; poses are read from rosbag2 '
                            'folders, .mcap and .db3')
        recorded = read_recorded(source.path, pose_topic, object_frame)
        camera = read_camera(camera_info) if camera_info else None
        first = examples[-1].group + 1 if examples else 0
        examples += _of_source(model, source, recorded, camera, topics, first, notes)
    for note in notes:
        print(note, file=sys.stderr)
    return examples


def _of_source(model: ImnModel, source: Source, recorded: Recorded, camera: Pinhole | None,
               topics: tuple[str, ...], group: int, notes: list[str]) -> list[Example]:
    report = SourceReport()
    find = finder(source, topics, Regions(**model.regions))
    looks: list[Look] = []
    pixels: list[np.ndarray] = []
    stamps: list[int] = []
    blind = 0
    topic, frame_id = '', ''
    for frame in tqdm(read_frames(source, topics, None, report), source.path.name, unit=' frames'):
        if topic not in ('', frame.topic):
            raise UserError(f'{source.path} has images on {topic} and {frame.topic}; choose one '
                            'camera with --topics')
        if not topic:
            topic = frame.topic
            if camera is None:
                message = camera_for(recorded.cameras, topic)
                camera, frame_id = Pinhole.of(message), message.header.frame_id.lstrip('/')
        assert camera is not None
        try:
            rgb = frame.load(None)
        except UserError as error:
            notes.append(f'{source.path}: {error}')
            continue
        region = find(frame, rgb) if find else None
        if find and region is None:
            blind += 1
            continue
        seen = look(rgb, region.box if region else None, model.crop, camera)
        if seen is None:
            blind += 1
            continue
        looks.append(seen)
        pixels.append(cut(rgb, region, model.image_size, model.crop) if region
                      else model.prepare(rgb))
        stamps.append(frame.stamp)
    if blind:
        notes.append(f'{source.path}: no outline in {blind} frames; they are left out')
    group_of = group + passages(np.array(stamps))
    examples = []
    for start in range(0, len(looks), BATCH):
        winner = model.predict(np.stack(pixels[start:start + BATCH]))
        for row, seen in enumerate(looks[start:start + BATCH]):
            k = start + row
            pose = recorded.at(stamps[k], frame_id)
            examples.append(Example(
                seen, winner.label[row], winner.latent_mean[row].ravel().astype(float),
                int(group_of[k]), stamps[k] / 1e9, None if pose is None else pose[:3, 3],
                None if pose is None else pose[:3, :3]))
    return examples


def passages(stamps: np.ndarray) -> np.ndarray:
    """:return: (K,) number of each frame's passage, by gaps between their stamps (ns)."""
    if len(stamps) < 2:
        return np.zeros(len(stamps), int)
    step = np.diff(stamps) / 1e9
    limit = max(GAP, PERIODS * float(np.median(step)))
    return np.concatenate(([0], np.cumsum((step > limit) | (step < 0))))


def keep_poses(examples: list[Example], count: int) -> list[Example]:
    """
    Forget poses but for some, in pairs that are spread over the log.

    :param examples: in order of time within each passage.
    :param count: poses to keep.
    :return: all examples; those of them that lost their pose still show what an identity looks
        like.
    """
    posed = [k for k, each in enumerate(examples) if each.position is not None]
    if len(posed) <= count:
        return examples
    kept: set[int] = set()
    for place in np.linspace(0, len(posed), count // 2, endpoint=False).astype(int):
        one = examples[posed[place]]
        near = [k for k in posed[place:] if examples[k].group == one.group
                and examples[k].seconds - one.seconds <= APART]
        kept |= {posed[place], near[-1]}
    rest = [k for k in posed if k not in kept]
    for place in np.linspace(0, len(rest), count - len(kept), endpoint=False).astype(int):
        kept.add(rest[place])
    return [each if k in kept else replace(each, position=None, axes=None)
            for k, each in enumerate(examples)]
