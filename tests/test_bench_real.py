"""The whole way of `bench --real` on a small made-up data set: objects found, named, judged."""
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from recordings import COMPRESSED, STORE, STRING, compressed, write_bag

from imn_world_model.base.errors import UserError
from imn_world_model.bench import enroll, real, row
from imn_world_model.learning.presets import preset
from imn_world_model.robot.inference import ImnModel

SECOND = 10 ** 9
COLOURS = ((220, 60, 50), (60, 200, 70), (240, 220, 60), (235, 235, 235))
SETTINGS = ['train.steps=40', 'train.all_modules_steps=20', 'train.clip_steps=120',
            'train.trial_steps=10', 'train.clip_batch=24', 'train.batch_size=16',
            'model.recognizer_channels=[16,32,64]',
            'loss.recognition_weight=2000']               # the decoder has no time to learn


def picture(thing: int, angle: float, rng: np.random.Generator) -> np.ndarray:
    """:return: (96, 96, 3) uint8: a bar or a disc of its own colour, seen from some angle."""
    image = np.full((96, 96, 3), (40, 50, 150), np.float64) + rng.normal(0, 4, (96, 96, 3))
    colour = COLOURS[thing]
    x, y = 48 + rng.integers(-4, 5, 2)
    if thing % 2:
        cv2.circle(image, (int(x), int(y)), 30, colour, -1)
        mark = int(x + 20 * np.cos(angle)), int(y + 20 * np.sin(angle))
        cv2.circle(image, mark, 6, (30, 30, 30), -1)
    else:
        wide = int(14 + 20 * abs(np.cos(angle)))
        cv2.rectangle(image, (int(x) - wide, int(y) - 34), (int(x) + wide, int(y) + 34), colour,
                      -1)
    return np.clip(image, 0, 255).astype(np.uint8)


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return recordings of three days; each shows four things once, in another order."""
    base = tmp_path_factory.mktemp('real')
    for day in range(3):
        rng = np.random.default_rng(day)
        messages, stamp = [], SECOND
        for thing in rng.permutation(len(COLOURS)):
            for view in range(8):
                azimuth = 45.0 * view + 15.0 * day
                image = picture(int(thing), np.radians(azimuth), rng)
                truth = {'stamp': stamp, 'object': f'thing{thing}', 'polar': 90,
                         'category': ('car', 'cup')[thing % 2], 'azimuth': azimuth,
                         'box': [0, 0, 96, 96]}
                messages += [('/camera', COMPRESSED, stamp, compressed(image, stamp)),
                             ('/ground_truth', STRING, stamp,
                              STORE.types[STRING](data=json.dumps(truth)))]
                stamp += SECOND // 2
            stamp += 5 * SECOND
        write_bag(base / 'plain' / f'session_{"abc"[day]}', messages)
    return base


def test_run_finds_names_and_judges_the_objects(folder: Path, tmp_path: Path,
                                                monkeypatch: pytest.MonkeyPatch,
                                                capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv('IMN_CACHE_DIR', str(tmp_path / 'cache'))
    figures = real.run(folder, ['plain-I'], [0], 'objects32', SETTINGS, tmp_path / 'runs')
    assert figures['plain-I objects32 seed 0 identities'] == 4
    assert figures['plain-I objects32 seed 0 training accuracy'] >= 0.9
    assert figures['plain-I objects32 seed 0 accuracy'] >= 0.9
    assert 0 <= figures['plain-I objects32 seed 0 azimuth'] <= 180
    assert figures['plain-I pixels, 1-NN with all labels'] >= 0.9
    out = capsys.readouterr().out
    assert '| plain-I | `objects32` seed 0' in out
    run = tmp_path / 'runs' / 'plain-I-objects32-seed0'
    assert (run / 'pictures' / 'confusion.png').stat().st_size > 1000
    assert (run / 'recognition.pt').exists()


def test_rehearsal_leaves_the_last_day_alone(folder: Path, tmp_path: Path,
                                             monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('IMN_CACHE_DIR', str(tmp_path / 'cache'))
    for rehearse, days in ((False, ('a', 'b', 'c')), (True, ('a', 'b'))):
        learn, judge = real.read(folder / 'plain', real.PROTOCOLS[0], preset('objects32').model,
                                 rehearse)
        read = [*learn.sources, *judge.sources]
        assert [Path(path).name for path in read] == [f'session_{day}' for day in days]
        assert len(judge.sources) == 1 and not learn.split.any()


def test_one_to_one_names_no_class_twice() -> None:
    classes = np.array([0, 0, 0, 1, 1, 2])
    identity = np.array([5, 5, 4, 5, 5, 5])           # 5 wins most of classes 0 and 1
    names = real.one_to_one(classes, identity)
    assert sorted(names[j] for j in (4, 5)) == [0, 1]
    assert len(set(names.values())) == len(names)


def looks_of(angle: np.ndarray, side: float) -> np.ndarray:
    """:return: (K, 3) coordinates of things whose two ends look alike but for a little."""
    return np.stack((np.cos(2 * angle), np.sin(2 * angle), side * np.cos(angle - 0.2)), 1)


def test_angles_are_read_of_things_whose_two_ends_look_nearly_alike() -> None:
    known = np.radians(np.arange(0.0, 360.0, 22.5))
    asked = known + np.radians(11.0)
    found = real.read_angle(looks_of(known, 0.3), known, looks_of(asked, 0.3))
    apart = np.degrees(np.abs(np.angle(np.exp(1j * (found - asked)))))
    assert apart.max() < 4                            # one map for all of them is off by 88
    one = real.read_angle(looks_of(known, 0.3)[:3], np.full(3, 6.2), looks_of(asked, 0.3)[:1])
    np.testing.assert_allclose(one, 6.2)


def test_unknown_protocols_and_empty_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match='unknown protocol plain-X'):
        real.run(tmp_path, ['plain-X'], [0], 'objects32', [], tmp_path)
    with pytest.raises(UserError, match='none of plain, scene and tools'):
        real.run(tmp_path, [], [0], 'objects32', [], tmp_path)


def test_the_last_object_of_each_kind_is_left_out_of_training(
        folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('IMN_CACHE_DIR', str(tmp_path / 'cache'))
    monkeypatch.setattr(enroll, 'HELD_OUT', 4)
    learn, judge = real.read(folder / 'plain', enroll.PROTOCOL, preset('objects32').model)
    new = enroll.left_out(learn)
    names = np.array(learn.label_names['object'])
    assert list(names[new]) == ['thing2', 'thing3'] and len(judge.images) == 32
    old = enroll.old_ones(learn, new)
    assert set(names[old.labels['object']]) == {'thing0', 'thing1'}
    assert len(old.images) == 32 and len(np.unique(old.clip)) == 4
    assert len(np.unique(old.clip[old.split == 1])) == 1
    first = np.flatnonzero(np.isin(learn.labels['object'], [0, 1]))[0]
    assert np.array_equal(old.images[np.array([0])][0], learn.images[first])


def test_objects_are_painted_before_their_backdrop() -> None:
    image = np.full((1, 32, 32, 3), 128, np.uint8)
    image[0, 8:24, 8:24] = 220
    red = row.painted(image, 0)[0]
    assert (red[:8] == 128).all() and np.allclose(red[16, 16], [220, 88, 88], atol=1)
    assert np.allclose(row.painted(image, 240)[0, 16, 16], [88, 88, 220], atol=1)
    assert row.painted(image, None) is image


def test_objects_in_a_row_are_enrolled_and_judged(
        folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_model: Path) -> None:
    monkeypatch.setenv('IMN_CACHE_DIR', str(tmp_path / 'cache'))
    learn, judge = real.read(folder / 'plain', enroll.PROTOCOL,
                             preset('debug').model)
    new = enroll.left_out(learn)
    figures = row.run(tiny_model, tmp_path / 'row.onnx', learn, judge, new, 3)
    labels = ImnModel(tmp_path / 'row.onnx', ['cpu']).labels
    assert labels[-3:] == ('thing2', 'thing3', 'thing2 0')
    assert set(figures) == {'old after 0', 'old after 3', 'new after 3'}


def test_training_runs_on_what_is_asked_for(folder: Path, tmp_path: Path,
                                            monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('IMN_CACHE_DIR', str(tmp_path / 'cache'))
    with pytest.raises(UserError, match='--accelerator tpu does not work'):
        real.run(folder, ['plain-I'], [0], 'objects32', SETTINGS, tmp_path / 'runs',
                 accelerator='tpu')
