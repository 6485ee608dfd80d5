"""Clips that are confused become one identity; how many there are is found."""
import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score

from imn_world_model.base.config import AUTO, override
from imn_world_model.base.errors import UserError
from imn_world_model.learning.discovery import Discoverer, Discovery, clearly_best
from imn_world_model.learning.grouping import confusion_distance, group
from imn_world_model.learning.presets import preset
from imn_world_model.model.recognition import Recognizer


def world(objects: int, clips_each: int, frames: int = 6, spread: float = 0.25
          ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """:return: features, clip, signatures of clips, true object of each clip."""
    rng = np.random.default_rng(0)
    centre = rng.normal(size=(objects, 32))
    truth = np.repeat(np.arange(objects), clips_each)
    rng.shuffle(truth)
    signature = centre[truth] + spread * rng.normal(size=(len(truth), 32))
    clip = np.repeat(np.arange(len(truth)), frames)
    features = signature[clip] + 2 * spread * rng.normal(size=(len(clip), 32))

    def unit(value: np.ndarray) -> np.ndarray:
        return value / np.linalg.norm(value, axis=1, keepdims=True)
    return unit(features), clip, unit(signature), truth


def same_groups(one: np.ndarray, other: np.ndarray) -> bool:
    return bool(((one[:, None] == one) == (other[:, None] == other)).all())


@pytest.mark.parametrize(('objects', 'clips_each'), [(5, 8), (30, 2)])
def test_group_joins_clips_of_one_object(objects: int, clips_each: int) -> None:
    features, clip, signature, truth = world(objects, clips_each)
    assert same_groups(group(features, clip, signature, objects), truth)


@pytest.mark.parametrize(('objects', 'clips_each'), [(5, 8), (30, 2)])
def test_group_finds_how_many_objects_there_are(objects: int, clips_each: int) -> None:
    features, clip, signature, truth = world(objects, clips_each)
    assert same_groups(group(features, clip, signature, AUTO), truth)


def test_group_of_very_many_clips_gives_the_rest_to_the_nearest(
        monkeypatch: pytest.MonkeyPatch) -> None:
    features, clip, signature, truth = world(4, 20)
    monkeypatch.setattr('imn_world_model.learning.grouping.MAX_GROUPED', 30)
    assert same_groups(group(features, clip, signature, 4), truth)


def test_confusion_distance_matches_nested_loops() -> None:
    features, clip, signature, _ = world(3, 2)
    distance = confusion_distance(features, clip, signature)
    count = len(signature)
    chance = np.zeros((count, count))
    for i in range(count):
        for frame in features[clip == i]:
            odds = np.exp(signature @ frame / 0.1)
            odds[i] = 0.0
            chance[i] += odds / odds.sum() / (clip == i).sum()
    expected = -np.log(chance + 1e-4) - np.log(chance.T + 1e-4)
    expected -= expected[~np.eye(count, dtype=bool)].min()
    np.fill_diagonal(expected, 0.0)
    np.testing.assert_allclose(distance, expected, atol=1e-6)


def test_discovery_is_read_as_it_was_written_and_a_broken_file_is_named(tmp_path) -> None:
    found = Discovery({'head.weight': torch.ones(2)}, torch.ones(3, 2), torch.arange(4), 0.5)
    assert Discovery.load(tmp_path) is None
    found.save(tmp_path)
    again = Discovery.load(tmp_path)
    assert again is not None and again.anyhow == 0.5
    assert torch.equal(again.identity, found.identity)
    (tmp_path / 'recognition.pt').write_bytes(b'torn')
    with pytest.raises(UserError, match='recognition.pt cannot be read'):
        Discovery.load(tmp_path)


def test_group_listens_to_features_that_were_given() -> None:
    features, clip, signature, truth = world(5, 8)
    nothing = np.random.default_rng(1).normal(size=signature.shape)
    nothing /= np.linalg.norm(nothing, axis=1, keepdims=True)
    alone, told, twice = (adjusted_rand_score(truth, group(nothing[clip], clip, nothing, 5, given))
                          for given in ([], [features], [nothing[clip], features]))
    assert alone < 0.2 and told > 0.6 and 0.2 < twice < told


@pytest.mark.parametrize(('name', 'settings', 'widths'), [
    ('objects32', [], [100]),
    ('objects32', ['model.background=keep', 'model.turn=keep'], []),
    ('objects_pretrained32', ['model.input_size=32'], [1280, 100])])
def test_grouping_hears_outlines_of_objects_alone_and_frozen_features(
        monkeypatch: pytest.MonkeyPatch, name: str, settings: list[str],
        widths: list[int]) -> None:
    config = override(preset(name), ['model.num_identities=2', *settings])
    images = np.random.default_rng(0).integers(0, 255, (8, 32, 32, 3)).astype(np.uint8)
    names = np.array([7, 3, 7, 3, 5, 5, 7, 3])
    monkeypatch.setattr('imn_world_model.learning.discovery.FRAMES_LOOKED_AT', 2)
    discoverer = Discoverer(config, images, names, None, {}, False)
    heard: list[np.ndarray] = []

    def listen(features: np.ndarray, clip: np.ndarray, signature: np.ndarray, count: int,
               given: list[np.ndarray]) -> np.ndarray:
        assert (np.array([3, 5, 7])[clip] == [7, 3, 5, 5, 7, 3]).all()  # two frames of each
        shapes = config.model.signature_size - config.model.recognizer_colours
        for each in (features, signature):            # colours tell objects, not kinds
            assert each.shape[1] == shapes
            np.testing.assert_allclose(np.linalg.norm(each, axis=1), 1.0, atol=1e-5)
        heard.extend(given)
        return np.arange(3) % 2

    def learnt(*_: object) -> tuple[Recognizer, torch.Tensor]:
        return (Recognizer(config.model).eval(),
                torch.nn.functional.normalize(torch.randn(3, config.model.signature_size), dim=1))
    monkeypatch.setattr('imn_world_model.learning.discovery.group', listen)
    monkeypatch.setattr(discoverer, '_learn', learnt)
    monkeypatch.setattr(discoverer, '_trial', lambda: (False, 0.0))
    discoverer.run()
    assert [each.shape for each in heard] == [(6, width) for width in widths]


def test_things_stand_unless_another_way_is_better_than_chance() -> None:
    right = np.arange(100) < 30
    a_little = np.arange(100) < 33
    clearly = np.arange(100) < 45
    assert clearly_best([right, a_little]) == 0
    assert clearly_best([right, a_little, clearly]) == 2
    mixed = np.roll(right, 27)                        # 27 frames won, 27 lost, and 3 more won
    mixed[60:63] = True
    assert clearly_best([right, mixed]) == 0


def test_the_trial_of_how_things_lie_does_not_look_at_colours(
        monkeypatch: pytest.MonkeyPatch) -> None:
    config = preset('objects32')
    images = np.zeros((80, 32, 32, 3), np.uint8)
    discoverer = Discoverer(config, images, np.repeat(np.arange(10), 8), None, {}, False)
    shapes = config.model.signature_size - config.model.recognizer_colours
    asked: list[int] = []

    def told(shape: np.ndarray, colour: np.ndarray) -> np.ndarray:
        found = np.zeros((len(shape), config.model.signature_size), np.float32)
        found[np.arange(len(shape)), shape] = 1.0
        found[np.arange(len(shape)), shapes + colour] = 2.0
        return found

    def features(_: object, seen: object, rows: np.ndarray) -> np.ndarray:
        clip, other = discoverer.clip[rows], (discoverer.clip[rows] + 1) % 10
        asked.append(len(asked))
        level = asked[-1] == 2                        # shapes are right then, else colours
        return told(clip, other) if level else told(other, clip)
    each = np.arange(10)
    monkeypatch.setattr('imn_world_model.learning.discovery._features', features)
    monkeypatch.setattr(discoverer, '_learn',
                        lambda *_: (None, torch.from_numpy(told(each, each))))
    assert discoverer._trial() == (True, 0.0) and asked == [0, 1, 2]


def test_small_groups_are_of_one_object_and_large_ones_of_one_kind() -> None:
    """Confusion tells objects, and of which kind they are wrongly; what was given tells kinds."""
    rng = np.random.default_rng(0)
    thing = np.repeat(np.arange(24), 2)                                  # two clips each
    kind, other = thing % 3, thing // 8
    clip = np.repeat(np.arange(48), 3)

    def unit(value: np.ndarray) -> np.ndarray:
        return value / np.linalg.norm(value, axis=-1, keepdims=True)
    objects = rng.normal(size=(24, 32)) + 1.5 * rng.normal(size=(3, 32))[np.arange(24) // 8]
    signature = unit(objects[thing] + 0.1 * rng.normal(size=(48, 32)))
    features = unit(signature[clip] + 0.1 * rng.normal(size=(144, 32)))
    given = unit(rng.normal(size=(3, 32))[kind] + 1.2 * rng.normal(size=(48, 32)))[clip]
    assert adjusted_rand_score(thing, group(features, clip, signature, 24, [given])) > 0.95
    assert adjusted_rand_score(kind, group(features, clip, signature, 3, [given])) > 0.8
    assert same_groups(group(features, clip, signature, 3), other)
