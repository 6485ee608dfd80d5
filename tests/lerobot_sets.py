"""LeRobot data sets for tests, laid out as the versions 2.1 and 3.0 of the format prescribe."""
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from recordings import scene

FPS = 10
CAMERAS = ('observation.images.top', 'observation.images.wrist')
JOINTS = ['shoulder', 'elbow', 'gripper']
LENGTHS = (5, 7, 4)


def picture(camera: int, episode: int, step: int) -> np.ndarray:
    """:return: (48, 64, 3) uint8 RGB of one moment."""
    return scene(10 * camera + episode, step)


def action(episode: int, step: int) -> list[float]:
    """:return: what the robot was told at one moment."""
    return [episode + 0.5, step / 4, -1.0]


def write_mp4(path: Path, pictures: list[np.ndarray]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'mp4v'), FPS, (64, 48))
    assert writer.isOpened()
    for rgb in pictures:
        writer.write(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    writer.release()


def info(version: str, lengths: tuple[int, ...], **more: Any) -> dict[str, Any]:
    """:return: ``meta/info.json``."""
    one = {'dtype': 'int64', 'shape': [1], 'names': None}
    vector = {'dtype': 'float32', 'shape': [3], 'names': {'motors': JOINTS}}
    video = {'dtype': 'video', 'shape': [48, 64, 3], 'names': ['height', 'width', 'channels'],
             'info': {'video.fps': float(FPS), 'video.codec': 'mpeg4',
                      'video.is_depth_map': False, 'has_audio': False}}
    packed = version == 'v3.0'
    return {
        'codebase_version': version, 'robot_type': 'so101', 'fps': FPS, 'chunks_size': 1000,
        'total_episodes': len(lengths), 'total_frames': sum(lengths), 'total_tasks': 1,
        'splits': {'train': f'0:{len(lengths)}'},
        'data_path': 'data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet' if packed else
                     'data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet',
        'video_path': 'videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4'
                      if packed else 'videos/chunk-{episode_chunk:03d}/{video_key}/'
                                     'episode_{episode_index:06d}.mp4',
        'features': {**dict.fromkeys(CAMERAS, video), 'action': vector,
                     'observation.state': vector,
                     'timestamp': {'dtype': 'float32', 'shape': [1], 'names': None},
                     'frame_index': one, 'episode_index': one, 'index': one, 'task_index': one},
        **more}


def table(episodes: list[int], lengths: tuple[int, ...]) -> pa.Table:
    """:return: the rows of some episodes, with the column types of the format."""
    rows = [(episode, step) for episode in episodes for step in range(lengths[episode])]
    vector = pa.list_(pa.float32(), 3)
    actions = [action(*row) for row in rows]
    return pa.table({
        'action': pa.array(actions, vector), 'observation.state': pa.array(actions, vector),
        'timestamp': pa.array([step / FPS for _, step in rows], pa.float32()),
        'frame_index': pa.array([step for _, step in rows], pa.int64()),
        'episode_index': pa.array([episode for episode, _ in rows], pa.int64()),
        'index': pa.array([sum(lengths[:episode]) + step for episode, step in rows], pa.int64()),
        'task_index': pa.array([0] * len(rows), pa.int64())})


def write_parquet(path: Path, rows: pa.Table) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(rows, path)


def write_v21(root: Path, lengths: tuple[int, ...] = LENGTHS) -> Path:
    """Write a data set with a file per episode."""
    (root / 'meta').mkdir(parents=True)
    (root / 'meta' / 'info.json').write_text(json.dumps(info('v2.1', lengths)))
    (root / 'meta' / 'tasks.jsonl').write_text('{"task_index": 0, "task": "pick"}\n')
    (root / 'meta' / 'episodes.jsonl').write_text(''.join(
        json.dumps({'episode_index': k, 'tasks': ['pick'], 'length': length}) + '\n'
        for k, length in enumerate(lengths)))
    for episode, length in enumerate(lengths):
        write_parquet(root / 'data' / 'chunk-000' / f'episode_{episode:06d}.parquet',
                      table([episode], lengths))
        for camera, key in enumerate(CAMERAS):
            write_mp4(root / 'videos' / 'chunk-000' / key / f'episode_{episode:06d}.mp4',
                      [picture(camera, episode, step) for step in range(length)])
    return root


def write_v30(root: Path, lengths: tuple[int, ...] = LENGTHS) -> Path:
    """Write a data set with many episodes in a file; the last has files of its own."""
    (root / 'meta').mkdir(parents=True)
    (root / 'meta' / 'info.json').write_text(json.dumps(info('v3.0', lengths)))
    last = len(lengths) - 1
    files = [list(range(last)), [last]]
    rows = []
    for number, episodes in enumerate(files):
        name = f'file-{number:03d}'
        write_parquet(root / 'data' / 'chunk-000' / f'{name}.parquet', table(episodes, lengths))
        for camera, key in enumerate(CAMERAS):
            write_mp4(root / 'videos' / key / 'chunk-000' / f'{name}.mp4',
                      [picture(camera, episode, step) for episode in episodes
                       for step in range(lengths[episode])])
        start = 0
        for episode in episodes:
            end = start + lengths[episode]
            first = sum(lengths[:episode])
            row = {'episode_index': episode, 'tasks': ['pick'], 'length': lengths[episode],
                   'data/chunk_index': 0, 'data/file_index': number,
                   'dataset_from_index': first, 'dataset_to_index': first + lengths[episode]}
            for key in CAMERAS:
                row |= {f'videos/{key}/chunk_index': 0, f'videos/{key}/file_index': number,
                        f'videos/{key}/from_timestamp': start / FPS,
                        f'videos/{key}/to_timestamp': end / FPS}
            rows.append(row)
            start = end
    write_parquet(root / 'meta' / 'episodes' / 'chunk-000' / 'file-000.parquet',
                  pa.Table.from_pylist(rows))
    write_parquet(root / 'meta' / 'tasks.parquet', pa.table({'task_index': [0]}))
    return root
