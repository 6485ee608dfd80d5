"""How strange an image looks: frozen features, colours, distances relative to all images."""
from pathlib import Path

import numpy as np
import pytest
import torch
from images import views

from imn_world_model.base.config import override
from imn_world_model.data.frames import DataOptions
from imn_world_model.enroll import main
from imn_world_model.enrolment.enrol import enrol
from imn_world_model.enrolment.pool import Pool, kept, learnt, merged
from imn_world_model.exporting.calibration import Calibration, calibrate, familiarity_for
from imn_world_model.exporting.deployed import DeployedNetwork
from imn_world_model.exporting.graph import export_onnx, run_metadata
from imn_world_model.exporting.restore import restore
from imn_world_model.learning.presets import preset
from imn_world_model.learning.run import Run
from imn_world_model.model.imn import IndependentModularNetwork
from imn_world_model.model.looks import SHRINKAGE, STEPS, Looks, colours, kept_back
from imn_world_model.model.winner import exhaustive
from imn_world_model.robot.inference import ImnModel
from imn_world_model.vision.preprocess import Crop, prepare

THINGS = {1: 'cup', 2: 'box', 3: 'ball'}
NEW = 7


def clouds(count: int, seed: int = 0, apart: float = 3.0) -> tuple[torch.Tensor, torch.Tensor]:
    """:return: looks (4 * count, 6) of four identities, which differ in two directions only."""
    generator = torch.Generator().manual_seed(seed)
    identity = torch.arange(4).repeat_interleave(count)
    middle = apart * torch.tensor([[1., 1], [1, -1], [-1, 1], [-1, -1]])[identity]
    spread = torch.tensor([.3, .3, 1., 1., 2., .5])
    look = torch.cat((middle, torch.zeros(len(identity), 4)), 1)
    return look + spread * torch.randn(len(identity), 6, generator=generator), identity


def reference(look: np.ndarray, identity: np.ndarray, one: np.ndarray) -> float:
    """:return: strangeness of one look, written out in float64."""
    def inverse(rows: np.ndarray) -> np.ndarray:
        covariance = rows.T @ rows / len(rows)
        covariance += SHRINKAGE * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
        return np.linalg.inv(covariance)

    def square(away: np.ndarray, by: np.ndarray) -> float:
        return float(away @ by @ away)

    names = np.unique(identity)
    mean = {k: look[identity == k].mean(0) for k in names}
    within = inverse(np.stack([row - mean[k] for row, k in zip(look, identity, strict=True)]))
    whole = inverse(look - look.mean(0))
    nearest = min(square(one - mean[k], within) for k in names)
    return (nearest / square(one - look.mean(0), whole)) ** 0.5


def test_strangeness_matches_reference() -> None:
    look, identity = clouds(40)
    found = Looks.fit(look, identity)
    for one in torch.cat((look[::37], 4 * torch.randn(5, 6))):
        expected = reference(look.double().numpy(), identity.numpy(), one.double().numpy())
        assert float(found(one[None])) == pytest.approx(expected, rel=1e-4)


def test_what_differs_where_all_images_differ_is_not_strange() -> None:
    look, identity = clouds(200)
    found, own = Looks.fit(look, identity), clouds(200, 1)[0]
    usual = float(found(own).quantile(0.95))
    between = torch.zeros(1, 6)                       # no identity has such looks
    between[0, 0] = 3.0
    assert found(between) > 2 * usual
    far = own.clone()
    far[:, 4] *= 3.0                                  # all images differ in this direction
    assert found(far).median() < usual


def test_colours_are_shares_of_the_middle() -> None:
    image = torch.zeros(1, 3, 64, 64)
    image[:, 0, 16:48, 16:48] = 1.0                   # a red square on black
    share = colours(image)[0].reshape(STEPS, STEPS, STEPS)
    assert share.sum() == pytest.approx(1.0, abs=1e-5)
    assert share[5, 0, 0] + share[0, 0, 0] == pytest.approx(1.0, abs=1e-5)
    assert 0.4 < share[5, 0, 0] < 0.9                 # a quarter of the area, but in the middle
    image[:] = 0.5                                    # between two steps of each channel
    share = colours(image)[0].reshape(STEPS, STEPS, STEPS)
    assert torch.allclose(share[2:4, 2:4, 2:4], torch.full((2, 2, 2), 0.125), atol=1e-5)


def test_identities_come_and_go() -> None:
    look, identity = clouds(100)
    found = Looks.fit(look, identity)
    mine = [look[identity == k] for k in range(4)]
    usual = float(found(look).quantile(0.95))
    less = found.kept(torch.tensor([3, 1]))
    assert less.owner.tolist() == [0, 1]
    assert less(mine[0]).median() > 2 * usual and less(mine[3]).median() < usual
    both = found.merged(1, 3)
    assert both.owner.tolist() == [0, 1, 2, 1]
    assert torch.equal(both(look), found(look))       # neither of the two is strange now
    one = both.kept(torch.tensor([1]))
    assert one(mine[1]).median() < usual and one(mine[3]).median() < usual
    assert one(mine[0]).median() > 2 * usual
    new = clouds(30, 5)[0][:30] * torch.tensor([0.0, 0, 1, 1, 1, 1])
    assert found(new).median() > 2 * usual
    more = found.joined(new, 4, usual, 3.0)
    assert more.owner.tolist() == [0, 1, 2, 3, 4]
    assert (more(new) > usual).float().mean() < 0.05
    assert torch.allclose(more(mine[0]), found(mine[0]), rtol=0.2)
    single = found.joined(new[:1], 4, usual, 3.0)     # one view only
    assert single.scale[4] == 1 and single(new[:1]) < 1e-2


def test_images_kept_back_are_judged_by_other_clips_of_the_same() -> None:
    look, identity = clouds(40)
    clip = np.arange(len(look)) // 20                 # two of each identity
    found = kept_back(look, identity, clip)
    assert len(found) >= 100
    inside = Looks.fit(look, identity)(look)
    assert 0.8 * inside.median() < found.median() < 1.5 * inside.median()
    # A clip of something else passes for an identity of its own: nothing tells of it.
    alone = torch.where(torch.arange(len(look)) < 20, 9, identity)
    assert len(kept_back(look, alone, clip)) <= len(look) - 40
    assert len(kept_back(look, torch.arange(8)[clip], clip)) == 0
    # Clips that differ are stranger to each other than images of one clip.
    moved = look + 2.0 * torch.randn(8, 6, generator=torch.Generator().manual_seed(3))[clip]
    assert kept_back(moved, identity, clip).median() > 1.2 * Looks.fit(moved, identity)(
        moved).median()


@pytest.fixture(scope='module')
def looking_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """:return: a model with pretrained features that knows three things, of two clips each."""
    torch.manual_seed(0)
    config = override(preset('debug'), [
        'model.recognizer=efficientnet_lite0', 'model.recognizer_features=16',
        'train.naming_steps=1', 'loss.recognition_weight=2000.0'])
    network = IndependentModularNetwork(config.model, config.loss).eval()
    recognizer, crop = network.recognizer, Crop('none')
    assert recognizer is not None
    shown = np.stack([prepare(view, 32, crop) for thing in THINGS for view in views(thing, 20)])
    image = torch.from_numpy(shown).movedim(-1, 1).float() / 255.0
    with torch.no_grad():
        pooled = recognizer.pooled(image)
        recognizer.head[0].train()(pooled)            # its running mean and variance
        for _ in range(100):
            recognizer.head[0](pooled)
        recognizer.eval()
        mean = recognizer.features(pooled).reshape(3, 20, -1).mean(1)
        recognizer.read(network.identities(), torch.nn.functional.normalize(mean, dim=1))
    familiarity, kept = familiarity_for(network, shown, np.arange(60) // 10)
    assert familiarity is not None and familiarity.looks is not None and len(kept) >= 40
    deployed = DeployedNetwork(network, exhaustive, familiarity).eval()
    calibration = calibrate(deployed, shown, False, 0.05, kept)
    assert calibration.strangeness_threshold == pytest.approx(np.quantile(kept, 0.955))
    run = Run(tmp_path_factory.mktemp('looking'), config, network,
              DataOptions(size=32, crop=crop), (), 'none', 0)
    path = run.path / 'looking.onnx'
    export_onnx(network, path, run_metadata(run, 'looking', list(THINGS.values()), calibration),
                shown[:4], exhaustive, familiarity=familiarity)
    return path


def seen(model: ImnModel, thing: int, count: int, first: int = 0) -> np.ndarray:
    return np.stack([model.prepare(view) for view in views(thing, count, first)])


def test_looks_come_back_from_the_file(looking_model: Path) -> None:
    model, source = ImnModel(looking_model, ['cpu']), restore(looking_model)
    images = np.concatenate([seen(model, thing, 4, 50) for thing in (1, 2, 3, NEW)])
    deployed = DeployedNetwork(source.network, source.strategy, source.familiarity).eval()
    with torch.no_grad():
        ours = deployed(torch.from_numpy(images))[-1].numpy()
    theirs = model.predict(images).strangeness
    assert np.allclose(ours, theirs, rtol=1e-3)
    assert theirs[-4:].min() > model.strangeness_threshold > np.median(theirs[:12])


def test_an_object_is_enrolled_by_its_looks(looking_model: Path) -> None:
    model, source = ImnModel(looking_model, ['cpu']), restore(looking_model)
    start = Pool(source.network, source.familiarity, source.config, model.labels,
                 tuple(model.novelty_thresholds), model.strangeness_threshold)
    test = torch.from_numpy(seen(model, NEW, 10, 100)).movedim(-1, 1).float() / 255.0

    def novel(pool: Pool) -> float:
        """:return: share of views of the new object that look strange."""
        recognizer, familiarity = pool.network.recognizer, pool.familiarity
        assert recognizer is not None and familiarity is not None
        with torch.no_grad():
            pooled = recognizer.pooled(test)
            strange = familiarity(recognizer.features(pooled), recognizer.look(pooled, test))
        return float((strange > pool.strange).float().mean())

    assert novel(start) > 0.8
    more = learnt(start, seen(model, NEW, 13), 'mug')
    assert novel(more) < 0.3
    assert novel(merged(more, 0, 3)) < 0.3
    assert novel(kept(more, [0, 1, 2])) > 0.8


def test_without_other_clips_validation_images_tell_what_is_strange(looking_model: Path) -> None:
    source, model = restore(looking_model), ImnModel(looking_model, ['cpu'])
    deployed = DeployedNetwork(source.network, source.strategy, source.familiarity).eval()
    images = seen(model, 1, 20, 300)
    found: Calibration = calibrate(deployed, images, False, 0.1, np.zeros(0))
    strange = model.predict(images).strangeness
    assert found.strangeness_threshold == pytest.approx(np.quantile(strange, 0.95), rel=1e-3)


def test_an_object_comes_into_the_file_and_leaves_it(looking_model: Path, tmp_path: Path) -> None:
    before = ImnModel(looking_model, ['cpu'])
    enrol(looking_model, seen(before, NEW, 13), 'mug', tmp_path / 'more.onnx', progress=False)
    more = ImnModel(tmp_path / 'more.onnx', ['cpu'])
    assert more.labels == (*before.labels, 'mug')
    images = seen(more, NEW, 10, 100)
    assert before.predict(images).novel.mean() > 0.8 and more.predict(images).novel.mean() < 0.3
    main(['--model', str(tmp_path / 'more.onnx'), '--out', str(tmp_path / 'less.onnx'),
          '--forget', 'mug'])
    less = ImnModel(tmp_path / 'less.onnx', ['cpu'])
    assert less.labels == before.labels and less.predict(images).novel.mean() > 0.8
