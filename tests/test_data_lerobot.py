"""LeRobot data sets: an episode is a clip, with its stamps and actions."""
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lerobot_sets import (
    CAMERAS,
    FPS,
    JOINTS,
    LENGTHS,
    action,
    info,
    picture,
    table,
    write_parquet,
    write_v21,
    write_v30,
)
from recordings import drive, write_bag

from imn_world_model.base.errors import UserError
from imn_world_model.data.frames import DataOptions, Frames, load_frames
from imn_world_model.data.inspect import describe
from imn_world_model.data.raw import Source, SourceReport
from imn_world_model.robot.answers import answers
from imn_world_model.robot.inference import ImnModel

TOP, WRIST = CAMERAS
WRITERS = {'v2.1': write_v21, 'v3.0': write_v30}


@pytest.fixture
def options(tmp_path: Path) -> DataOptions:
    return DataOptions(size=16, cache_dir=tmp_path / 'cache', still=0.0)


def load(path: Path, options: DataOptions) -> Frames:
    return load_frames([path], options, progress=False)


@pytest.mark.parametrize('version', WRITERS)
def test_an_episode_is_a_clip(tmp_path: Path, options: DataOptions, version: str) -> None:
    root = WRITERS[version](tmp_path / 'pick')
    # Neither changes of scene nor gaps nor the length cut it further.
    frames = load(tmp_path, replace(options, scene_change=0.1, gap=0.05, max_clip=2))
    assert not frames.notes and frames.topics == CAMERAS and frames.sources == (str(root),)
    assert len(frames.images) == 2 * sum(LENGTHS)
    for camera in range(2):
        own = np.flatnonzero(frames.topic == camera)
        clip = frames.clip[own]
        assert np.bincount(clip - clip[0]).tolist() == list(LENGTHS)
        for row, (episode, step) in zip(own, ((e, k) for e, length in enumerate(LENGTHS)
                                              for k in range(length)), strict=True):
            expected = cv2.resize(picture(camera, episode, step)[:, 8:56], (16, 16),
                                  interpolation=cv2.INTER_AREA).astype(int)
            assert np.abs(frames.images[int(row)] - expected).mean() < 12
            # Stamps begin anew with each episode; 0 stands for an unknown time.
            assert abs(int(frames.stamp[row]) - 1 - step * 10 ** 9 // FPS) < 100


@pytest.mark.parametrize('version', WRITERS)
def test_actions_are_kept_with_the_frames(tmp_path: Path, options: DataOptions,
                                          version: str) -> None:
    WRITERS[version](tmp_path / 'pick')
    frames = load(tmp_path, options)
    assert set(frames.values) == {f'action.{joint}' for joint in JOINTS}
    told = [action(e, k) for e, length in enumerate(LENGTHS) for k in range(length)]
    for k, joint in enumerate(JOINTS):
        assert np.allclose(frames.values[f'action.{joint}'], [row[k] for row in told] * 2)


def test_cameras_of_an_episode_are_in_the_same_split(tmp_path: Path, options: DataOptions) -> None:
    write_v21(tmp_path / 'pick', (3,) * 12)
    frames = load(tmp_path, options)
    assert set(frames.split) == {0, 1, 2}
    top, wrist = (frames.split[frames.topic == k] for k in range(2))
    assert np.array_equal(top, wrist)


def test_cameras_are_chosen_as_topics_are(tmp_path: Path, options: DataOptions) -> None:
    write_v30(tmp_path / 'pick')
    frames = load(tmp_path, replace(options, topics=('*.wrist',)))
    assert frames.topics == (WRIST,) and len(frames.images) == sum(LENGTHS)
    assert any(f'{TOP} left out, 16 frames (not among --topics)' in note
               for note in frames.notes)


def test_depth_videos_are_left_out(tmp_path: Path, options: DataOptions) -> None:
    root = write_v21(tmp_path / 'pick')
    told = info('v2.1', LENGTHS)
    told['features'][TOP] = {**told['features'][TOP], 'info': {'video.is_depth_map': True}}
    (root / 'meta' / 'info.json').write_text(json.dumps(told))
    frames = load(tmp_path, options)
    assert frames.topics == (WRIST,)
    assert any(f'{TOP} left out' in note and 'depth' in note for note in frames.notes)


def test_a_missing_video_and_a_short_one_are_counted(tmp_path: Path, options: DataOptions
                                                     ) -> None:
    root = write_v21(tmp_path / 'pick')
    videos = root / 'videos' / 'chunk-000' / TOP
    (videos / 'episode_000000.mp4').unlink()
    shutil.copy(videos / 'episode_000002.mp4', videos / 'episode_000001.mp4')   # 4 frames, not 7
    frames = load(tmp_path, options)
    report = frames.reports[0]
    assert report['lost'] == 5 + 3 and report['recorded'] == 2 * sum(LENGTHS)
    assert np.bincount(frames.topic).tolist() == [8, 16]
    assert any('episode_000000.mp4' in note and 'not there' in note for note in frames.notes)
    assert any('episode 1' in note and '7 frames' in note and '4 could be read' in note
               for note in frames.notes)


def test_git_lfs_pointers_are_named_once(tmp_path: Path, options: DataOptions) -> None:
    root = write_v21(tmp_path / 'pick')
    for file in root.glob('videos/**/*.mp4'):
        file.write_text('version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n')
    with pytest.raises(UserError, match='6 files, .*Git LFS pointer.*git lfs pull') as caught:
        load(tmp_path, options)
    assert '\n' not in str(caught.value)


def test_frames_without_their_parquet_file_are_used_without_actions(tmp_path: Path,
                                                                    options: DataOptions) -> None:
    root = write_v21(tmp_path / 'pick')
    (root / 'data' / 'chunk-000' / 'episode_000001.parquet').write_bytes(b'PAR1 what')
    frames = load(tmp_path, options)
    assert len(frames.images) == 2 * sum(LENGTHS)
    known = ~np.isnan(frames.values['action.elbow'])
    assert known.sum() == 2 * (5 + 4)
    assert any('episode_000001.parquet' in note and 'cannot be read' in note
               for note in frames.notes)


def test_pictures_inside_the_parquet_files_are_read(tmp_path: Path, options: DataOptions) -> None:
    root = tmp_path / 'pick'
    (root / 'meta').mkdir(parents=True)
    told = info('v2.1', (4,))
    told['features'] = {TOP: {'dtype': 'image', 'shape': [48, 64, 3], 'names': None},
                        'action': told['features']['action']}
    told['video_path'] = None
    (root / 'meta' / 'info.json').write_text(json.dumps(told))
    (root / 'meta' / 'episodes.jsonl').write_text('{"episode_index": 0, "length": 4}\n')
    pngs = [{'bytes': cv2.imencode('.png', picture(0, 0, k)[..., ::-1])[1].tobytes(),
             'path': f'frame-{k:06d}.png'} for k in range(4)]
    rows = table([0], (4,)).append_column(TOP, pa.array(pngs))
    write_parquet(root / 'data' / 'chunk-000' / 'episode_000000.parquet', rows)
    frames = load(tmp_path, options)
    assert frames.topics == (TOP,) and len(frames.images) == 4 and not frames.notes
    assert frames.values['action.elbow'].tolist() == [0.0, 0.25, 0.5, 0.75]
    assert len(np.unique(frames.clip)) == 1 and frames.stamp[3] > frames.stamp[2] > 0


def test_without_pyarrow_one_line_says_what_to_install(tmp_path: Path, options: DataOptions,
                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    write_v30(tmp_path / 'logs' / 'pick')
    for name in [name for name in sys.modules if name.split('.')[0] == 'pyarrow']:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=r"pip install '.*\[lerobot\]'") as caught:
        load(tmp_path / 'logs', options)
    assert '\n' not in str(caught.value)
    write_bag(tmp_path / 'logs' / 'bag', drive(1, 3))
    frames = load(tmp_path / 'logs', options)
    assert len(frames.images) == 3 and any('[lerobot]' in note for note in frames.notes)


@pytest.mark.parametrize(('file', 'text'), [
    ('meta/info.json', '{"codebase_version": "v9.0", "features": {}}'),
    ('meta/info.json', '{"codebase_version": "v2.1", "features": []}'),
    ('meta/info.json', '{"codebase_version": "v2.1"'),
    ('meta/episodes.jsonl', '{"episode_index": 0}\nwhat'), ('meta/episodes.jsonl', None)])
def test_broken_descriptions_are_one_line(tmp_path: Path, options: DataOptions, file: str,
                                          text: str | None) -> None:
    root = write_v21(tmp_path / 'pick')
    if text is None:
        (root / file).unlink()
    else:
        (root / file).write_text(text)
    with pytest.raises(UserError, match='nothing usable.*(info.json|episodes)') as caught:
        load(root, options)
    assert '\n' not in str(caught.value)


def test_inspect_tells_of_episodes(tmp_path: Path, options: DataOptions) -> None:
    write_v30(tmp_path / 'pick')
    told = describe(load(tmp_path, options))
    assert '(lerobot)' in told and 'episode 2' in told and '10.0' in told and TOP in told


def test_changed_actions_are_seen_by_the_cache(tmp_path: Path, options: DataOptions) -> None:
    root = write_v30(tmp_path / 'pick')
    load(tmp_path, options)
    file = root / 'data' / 'chunk-000' / 'file-001.parquet'
    rows = pq.read_table(file)
    column = pa.array([[9.0, 9.0, 9.0]] * len(rows), pa.list_(pa.float32(), 3))
    pq.write_table(rows.set_column(rows.column_names.index('action'), 'action', column), file)
    assert load(tmp_path, options).values['action.gripper'].max() == 9.0


def test_folder_of_another_tool_is_searched_as_before(tmp_path: Path, options: DataOptions
                                                      ) -> None:
    root = write_v21(tmp_path / 'pick')
    (root / 'meta' / 'info.json').write_text('{"author": "me"}')
    assert len(load(root, options).sources) == 6     # videos


@pytest.mark.parametrize('version', WRITERS)
def test_damaged_files_never_escape_the_error(tmp_path: Path, options: DataOptions, version: str
                                              ) -> None:
    root = WRITERS[version](tmp_path / 'pick', (3, 4))
    files = sorted(file for file in root.rglob('*') if file.is_file())
    rng = np.random.default_rng(0)
    for _ in range(40):
        file = files[int(rng.integers(len(files)))]
        good = file.read_bytes()
        data = bytearray(good)
        for place in rng.integers(0, len(data), int(rng.integers(1, 9))):
            data[place] = rng.integers(256)
        file.write_bytes(data[:int(rng.integers(len(data)))] if rng.random() < 0.3 else data)
        try:
            frames = load(tmp_path, replace(options, size=8))
            report = frames.reports[0]
            assert report['recorded'] == sum(report[key] for key in (
                'used', 'still', 'broken', 'left', 'lost'))
        except UserError as error:
            assert '\n' not in str(error)
        file.write_bytes(good)


def test_answers_tell_the_episode_since_stamps_begin_anew(tmp_path: Path, tiny_model: Path
                                                          ) -> None:
    root = write_v30(tmp_path / 'pick')
    found = list(answers(ImnModel(tiny_model), Source('lerobot', root), (TOP,), 4,
                         SourceReport()))
    told = [answer['episode'] for answer in found]
    assert np.bincount(told).tolist() == list(LENGTHS) and found[0]['topic'] == TOP
