"""An exported model learns one more object, forgets one, makes one of two."""
import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch
from images import views

from imn_world_model.base.errors import UserError
from imn_world_model.enroll import main
from imn_world_model.enrolment import pool
from imn_world_model.enrolment.enrol import enrol, spread
from imn_world_model.enrolment.pool import Pool
from imn_world_model.exporting.deployed import DeployedNetwork
from imn_world_model.exporting.graph import export_onnx
from imn_world_model.exporting.restore import FOLDED, restore
from imn_world_model.exporting.search_fit import fit_shortlist
from imn_world_model.model.combine import active_product
from imn_world_model.model.compact import round_weights
from imn_world_model.model.familiarity import Familiarity
from imn_world_model.model.observe import observe
from imn_world_model.robot.inference import ImnModel, Winner

NEW = 7


def prepared(model: ImnModel, thing: int, count: int, first: int = 0) -> np.ndarray:
    return np.stack([model.prepare(view) for view in views(thing, count, first)])


def answer(path: Path, thing: int, first: int = 100) -> Winner:
    """:return: to 20 views that nothing has learnt from."""
    model = ImnModel(path, ['cpu'])
    return model.predict(prepared(model, thing, 20, first))


@pytest.fixture(scope='module')
def enrolled(knowing_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp('enrolled') / 'new.onnx'
    model = ImnModel(knowing_model, ['cpu'])
    report = enrol(knowing_model, prepared(model, NEW, 13), 'mug', out, progress=False)
    assert (report.views, report.kept_back) == (13, 3) and report.right == 3
    assert report.confidence > 0.5
    return out


def before(path: Path) -> Pool:
    model, source = ImnModel(path, ['cpu']), restore(path)
    return Pool(source.network, source.familiarity, source.config, model.labels,
                tuple(model.novelty_thresholds), model.strangeness_threshold)


def test_a_network_comes_back_from_its_file(knowing_model: Path, tmp_path: Path) -> None:
    images = prepared(ImnModel(knowing_model, ['cpu']), 2, 8)
    source = restore(knowing_model)
    # Once more with a fast search, whose sketches must come back, too.
    strategy = fit_shortlist(source.network, images, progress=False)
    metadata = source.metadata | {'search': json.dumps(strategy.facts())}
    export_onnx(source.network, tmp_path / 'fast.onnx', metadata, images, strategy,
                familiarity=source.familiarity)
    again = restore(tmp_path / 'fast.onnx')
    for name, value in source.network.state_dict().items():
        assert torch.equal(value, again.network.state_dict()[name]), name
    for name, value in strategy.state_dict().items():
        assert torch.equal(value, again.strategy.state_dict()[name]), name
    deployed = DeployedNetwork(again.network, again.strategy, again.familiarity).eval()
    with torch.no_grad():
        ours = deployed(torch.from_numpy(images))
    theirs = ImnModel(tmp_path / 'fast.onnx', ['cpu']).predict(images)
    assert np.array_equal(ours[0].numpy(), theirs.identity)
    assert np.allclose(ours[-1].numpy(), theirs.strangeness, rtol=1e-3)


def test_weights_stored_in_half_come_back_too(knowing_model: Path, tmp_path: Path) -> None:
    source = restore(knowing_model)
    round_weights(source.network)
    export_onnx(source.network, tmp_path / 'half.onnx', source.metadata, np.zeros((0,)),
                source.strategy, familiarity=source.familiarity)
    assert (tmp_path / 'half.onnx').stat().st_size < 0.8 * knowing_model.stat().st_size
    again = restore(tmp_path / 'half.onnx').network.state_dict()
    for name, value in source.network.state_dict().items():
        assert value.dtype == again[name].dtype and torch.equal(value, again[name]), name


def test_a_file_of_before_is_refused(knowing_model: Path, tmp_path: Path) -> None:
    model = onnx.load(knowing_model)
    kept = [entry for entry in model.metadata_props if entry.key != FOLDED]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    onnx.save(model, tmp_path / 'old.onnx')
    with pytest.raises(UserError, match='old.onnx was exported by a version that kept no'):
        restore(tmp_path / 'old.onnx')


def test_what_is_known_is_named_and_what_is_not_is_novel(knowing_model: Path) -> None:
    for thing, label in ((1, 'cup'), (2, 'box'), (3, 'ball')):
        winner = answer(knowing_model, thing)
        assert winner.label == [label] * 20 and winner.novel.mean() < 0.2
    assert answer(knowing_model, NEW).novel.mean() > 0.8


def test_a_new_object_is_named_on_views_not_learnt_from(knowing_model: Path, enrolled: Path
                                                        ) -> None:
    winner = answer(enrolled, NEW)
    assert winner.label == ['mug'] * 20 and winner.novel.mean() < 0.2
    assert ImnModel(enrolled).labels == ('cup', 'box', 'ball', 'mug')
    for thing in (1, 2, 3):
        old, now = answer(knowing_model, thing), answer(enrolled, thing)
        assert old.label == now.label
        # Nothing but the pool has changed: how the others compare is the same.
        leads = [each.identity_scores[:, 1:3] - each.identity_scores[:, :1] for each in (old, now)]
        assert np.allclose(*leads, rtol=1e-3, atol=1.0)
    assert answer(enrolled, 9).novel.mean() > 0.8     # what was never shown is novel still


def test_one_view_is_enough_for_a_file(knowing_model: Path, tmp_path: Path) -> None:
    model, out = ImnModel(knowing_model, ['cpu']), tmp_path / 'one.onnx'
    view = prepared(model, NEW, 1)
    report = enrol(knowing_model, view, 'mug', out, progress=False)
    assert (report.views, report.kept_back) == (1, 0)
    winner = ImnModel(out, ['cpu']).predict(view)
    # The view is all that its identity looks like.
    assert winner.label == ['mug'] and winner.strangeness[0] < 1e-2


def test_all_else_stays_as_it_was(knowing_model: Path, enrolled: Path) -> None:
    old, now = restore(knowing_model).network, restore(enrolled).network
    weights = now.state_dict()
    for name, value in old.state_dict().items():
        if name == 'identities.matrices':
            assert torch.equal(value, weights[name][:3]) and len(weights[name]) == 4
        else:
            assert torch.equal(value, weights[name]), name
    assert old.recognizer is not None and now.recognizer is not None
    assert torch.allclose(old.recognizer.signatures(old.identities()),
                          now.recognizer.signatures(now.identities())[:3], atol=1e-5)


def test_signatures_stay_where_they_are_read_off_the_difference_to_the_mean(
        knowing_model: Path) -> None:
    start = before(knowing_model)
    recognizer = start.network.recognizer
    assert recognizer is not None
    recognizer.centre = None                          # as the objects presets leave it
    old = recognizer.signatures(start.network.identities()).detach()
    images = prepared(ImnModel(knowing_model, ['cpu']), NEW, 4)
    for after, numbers in ((pool.learnt(start, images, 'mug'), [0, 1, 2]),
                           (pool.kept(start, [2, 0]), [2, 0])):
        read = after.network.recognizer
        assert read is not None
        now = read.signatures(after.network.identities()).detach()
        assert torch.allclose(now[:len(numbers)], old[numbers], atol=1e-4)


def test_a_matrix_learns_to_draw_and_keeps_what_is_read_off_it(knowing_model: Path) -> None:
    start = before(knowing_model)
    images = prepared(ImnModel(knowing_model, ['cpu']), NEW, 8)
    after = pool.learnt(start, images, 'mug')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, 'STEPS', 0)
        at_first = pool.learnt(start, images, 'mug')
    errors, read = [], []
    for each in (at_first, after):
        network = each.network
        assert network.recognizer is not None
        image = torch.from_numpy(images).movedim(-1, 1).float() / 255.0
        with torch.no_grad():
            comp_T = network.encode(image).comp_T
            whole = active_product(comp_T, torch.ones(comp_T.shape[:2], dtype=torch.bool))
            drawn = network.decoder(whole @ network.identities()[3])
            errors.append(float((drawn - image).square().mean()))
            read.append(network.recognizer.signatures(network.identities())[3])
    assert torch.allclose(*read, atol=1e-3)
    assert errors[1] < 0.7 * errors[0], errors


def test_a_model_without_recognizer_learns_by_the_picture_alone(tiny_model: Path,
                                                               tmp_path: Path) -> None:
    model = ImnModel(tiny_model, ['cpu'])
    views_ = prepared(model, NEW, 6)
    report = enrol(tiny_model, views_, 'mug', tmp_path / 'out.onnx', anyway=True, progress=False)
    assert report.views == 6
    after = ImnModel(tmp_path / 'out.onnx', ['cpu'])
    winner = after.predict(views_)
    assert winner.label == ['mug'] * 6 and (winner.strangeness == 0).all()


def test_forgetting_and_merging(enrolled: Path, tmp_path: Path) -> None:
    out = tmp_path / 'less.onnx'
    main(['--model', str(enrolled), '--out', str(out), '--forget', 'box'])
    assert ImnModel(out).labels == ('cup', 'ball', 'mug')
    for thing, label in ((1, 'cup'), (3, 'ball'), (NEW, 'mug')):
        assert answer(out, thing).label == [label] * 20
    assert answer(out, 2).novel.mean() > 0.8
    main(['--model', str(enrolled), '--out', str(out), '--merge', 'cup', 'mug'])
    assert ImnModel(out).labels == ('cup', 'box', 'ball')
    for thing, label in ((1, 'cup'), (2, 'box'), (NEW, 'cup')):
        assert answer(out, thing).label == [label] * 20


def test_clips_of_all_kinds_are_read(knowing_model: Path, tmp_path: Path,
                                     capsys: pytest.CaptureFixture) -> None:
    folder = tmp_path / 'clip'
    folder.mkdir()
    for number, view in enumerate(views(NEW, 9)):
        cv2.imwrite(str(folder / f'frame_{number:03}.png'), view[..., ::-1])
    out = tmp_path / 'out.onnx'
    main(['--model', str(knowing_model), '--data', str(folder), '--label', 'mug', '--out',
          str(out)])
    assert "'mug' learnt from 9 views; of 2 that were kept back" in capsys.readouterr().out
    assert answer(out, NEW).label == ['mug'] * 20


def command(*arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, '-m', 'imn_world_model.enroll', *map(str, arguments)],
                          capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize(('arguments', 'message'), [
    (['--data', 'CLIP', '--label', 'box'], "knows a 'box' already; --forget it first"),
    (['--data', 'CLIP', '--label', 'mug'], "takes most of these 13 views for 'box'"),
    (['--forget', 'hat'], "no identity is labelled 'hat'; there are cup, box, ball"),
    (['--merge', 'cup', 'cup'], "--merge was given 'cup' twice"),
    (['--data', 'CLIP'], 'give --data and --label, or --forget, or --merge'),
    (['--forget', 'cup', '--merge', 'cup', 'box'], 'give --data and --label, or'),
    (['--data', 'broken.npz', '--label', 'mug'], 'broken.npz cannot be read as .npz'),
    (['--data', 'nowhere', '--label', 'mug'], 'nowhere does not exist')])
def test_mistakes_are_one_line(knowing_model: Path, tmp_path: Path, arguments: list[str],
                               message: str) -> None:
    model = ImnModel(knowing_model, ['cpu'])
    clip, out = tmp_path / 'clip.npz', tmp_path / 'out.onnx'
    np.savez(clip, images=prepared(model, 2, 13, 50))
    done = command('--model', knowing_model, '--out', out,
                   *(clip if word == 'CLIP' else word for word in arguments))
    assert done.returncode == 2 and message in done.stderr and 'Traceback' not in done.stderr
    assert not out.exists()


def test_the_only_identity_is_not_forgotten(enrolled: Path, tmp_path: Path) -> None:
    source, out = enrolled, tmp_path / 'out.onnx'
    for label in ('cup', 'box', 'ball'):
        main(['--model', str(source), '--out', str(out), '--forget', label])
        source = out
    kept = out.read_bytes()
    with pytest.raises(UserError, match="'mug' is the only identity"):
        main(['--model', str(out), '--out', str(out), '--forget', 'mug'])
    assert out.read_bytes() == kept


def test_a_kill_in_the_middle_leaves_the_old_file_whole(knowing_model: Path, tmp_path: Path
                                                        ) -> None:
    path, clip = tmp_path / 'model.onnx', tmp_path / 'clip.npz'
    shutil.copy(knowing_model, path)
    np.savez(clip, images=prepared(ImnModel(path, ['cpu']), NEW, 13))
    process = subprocess.Popen(
        [sys.executable, '-m', 'imn_world_model.enroll', '--model', path, '--data', clip,
         '--label', 'mug', '--out', path], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    while 'learning mug' not in process.stderr.readline():
        assert process.poll() is None
    process.kill()
    process.communicate()
    assert path.read_bytes() == knowing_model.read_bytes()


def test_of_very_many_views_some_are_taken() -> None:
    many = np.arange(1000)[:, None, None, None].astype(np.uint16)
    assert len(spread(many)) == 64 and spread(many)[-1] == 999 and len(spread(many[:5])) == 5


def test_strangeness_is_a_distance_in_units_of_the_spread() -> None:
    generator = torch.Generator().manual_seed(0)
    mean = torch.nn.functional.normalize(torch.randn(3, 6, generator=generator), dim=1)
    identity = torch.arange(3).repeat(3000)
    spread_ = torch.tensor([0.2, 0.1, 0.05, 0.05, 0.02, 0.02])
    features = mean[identity] + spread_ * torch.randn(len(identity), 6, generator=generator)
    found = Familiarity.fit(features, identity, mean)
    assert torch.allclose(found.mean, mean, atol=0.02)
    far, near = mean[:1] + 5 * spread_ * torch.eye(6)[5], mean[:1] + 0.05 * spread_
    assert found(near) < 0.2 and found(far) > 10 * found(near)
    # A step of one length is stranger where views of a thing spread less.
    steps = torch.stack([found(mean[:1] + 0.1 * torch.eye(6)[k])[0] for k in range(6)])
    assert (steps.diff() > -1e-3).all() and steps[5] > 1.2 * steps[0]
    none = Familiarity.fit(features[identity < 2], identity[identity < 2], mean)
    assert torch.equal(none.mean[2], mean[2])         # without images, what it should look like


def test_drawn_features_spread_as_those_they_were_learnt_from() -> None:
    mean, count = torch.eye(4)[:2] * 100.0, 20_000
    apart = torch.tensor([3.0, 1.0, 1.0, 1.0]) * torch.randn(
        count, 4, generator=torch.Generator().manual_seed(0))
    identity = torch.arange(2).repeat(count // 2)
    known = Familiarity.fit(mean[identity] + apart, identity, mean)
    drawn, name = known.draw(count, torch.Generator().manual_seed(1))
    assert drawn.shape == (2 * count, 4) and torch.allclose(drawn.norm(dim=1), torch.ones(1))
    second = 100 * drawn[name == 1]                   # about (0, 100, 0, 0)
    shrunk = (apart.var(0) + 0.3 * apart.var(0).mean()).sqrt()
    assert torch.allclose(second[:, [0, 2]].std(0), shrunk[[0, 2]], rtol=0.1)


def test_order_of_a_pool_may_change(knowing_model: Path) -> None:
    turned = pool.kept(before(knowing_model), [2, 0])
    assert turned.labels == ('ball', 'cup') and turned.config.model.num_identities == 2
    images = prepared(ImnModel(knowing_model, ['cpu']), 3, 4, 60)
    assert (observe(turned.network, images).identity == 0).all()
