"""Single images take the names of their clips."""
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from imn_world_model.base.config import Config, override
from imn_world_model.base.errors import UserError
from imn_world_model.data.frames import DataOptions, Frames
from imn_world_model.learning import votes
from imn_world_model.learning.fit import train
from imn_world_model.learning.presets import preset
from imn_world_model.learning.run import kept_options, load_run
from imn_world_model.learning.trainer import lightning_options
from imn_world_model.model.imn import IndependentModularNetwork
from imn_world_model.model.observe import observe
from imn_world_model.model.recognition import Recognizer

# Of torch's own, while Lightning looks at a batch; Lightning's on short trainings.
pytestmark = [pytest.mark.filterwarnings('ignore:.isinstance.treespec:FutureWarning'),
              pytest.mark.filterwarnings('ignore::UserWarning:lightning')]

SIDE, CLIPS, LENGTH = 32, 12, 10
ON_CPU = lightning_options('cpu', 1, 1, '32-true')


def config(*settings: str) -> Config:
    return override(preset('debug'), [
        'model.recognizer=conv', 'model.recognizer_features=8',
        'model.recognizer_channels=[8, 16]',
        # High, since the picture of a network that was not trained says nothing.
        'train.naming_steps=60', 'loss.recognition_weight=10000.0', *settings])


def frames() -> Frames:
    """:return: clips of one bar each, upright or lying, of any colour; the last two are kept."""
    rng = np.random.default_rng(0)
    images = np.zeros((CLIPS * LENGTH, SIDE, SIDE, 3), np.uint8)
    clip = np.repeat(np.arange(CLIPS), LENGTH)
    for image, number in zip(images, clip, strict=True):
        image[:] = rng.integers(0, 60, 3)
        at, colour = rng.integers(8, 20), rng.integers(120, 255, 3)
        across = slice(at, at + 5)
        if number % 2:
            image[across, 4:28] = colour
        else:
            image[4:28, across] = colour
    count = len(images)
    nothing = np.zeros(count, np.int64)
    return Frames(
        images=images, clip=clip, split=(clip >= CLIPS - 2).astype(np.uint8), source=nothing,
        topic=nothing, stamp=nothing, index=np.arange(count), sources=('made-up',),
        topics=('/camera',), labels={}, label_names={}, content_hash='made-up', notes=(),
        reports=())


def network() -> IndependentModularNetwork:
    """:return: not trained, with identities that look apart."""
    torch.manual_seed(0)
    wanted = config()
    found = IndependentModularNetwork(replace(wanted.model, recognizer='none'), wanted.loss)
    with torch.no_grad():
        for value in found.parameters():
            value.add_(torch.randn_like(value) * 0.1)
    return found.eval()


def test_a_clip_is_named_by_the_majority_of_its_frames() -> None:
    data, some = frames(), network()
    rows, identity, name = votes.vote(some, data, 0)
    assert np.array_equal(np.sort(rows), np.flatnonzero(data.split == 0))
    assert np.array_equal(identity, observe(some, data.images[rows]).identity)
    for clip in np.unique(data.clip[rows]):
        here = data.clip[rows] == clip
        count = np.bincount(identity[here], minlength=3)
        assert len(set(name[here])) == 1 and count[name[here][0]] == count.max()


def test_long_clips_vote_with_frames_spread_over_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(votes, 'VOTES', 4)
    rows, _, _ = votes.vote(network(), frames(), 0)
    assert np.array_equal(rows[:4], [0, 3, 6, 9])


def test_what_a_matrix_looks_like_is_read_off_it_unchanged() -> None:
    recognizer = Recognizer(config().model)
    identity_T = torch.eye(6) + 0.1 * torch.randn(3, 6, 6)
    before = identity_T.clone()
    signature = torch.nn.functional.normalize(torch.randn(3, 8), dim=1)
    recognizer.read(identity_T, signature)
    assert torch.equal(identity_T, before)
    assert torch.allclose(recognizer.signatures(identity_T), signature, atol=1e-5)
    # Others may come, and look like anything.
    assert torch.linalg.matrix_rank(recognizer.readout) == 8


def learnt(monkeypatch: pytest.MonkeyPatch, wrong: float,
           carried_over: bool = True) -> tuple[Recognizer | None, IndependentModularNetwork]:
    """:return: learnt where the picture alone names a share of the frames wrongly."""
    data, some = frames(), network()
    rng = np.random.default_rng(1)

    def noisy(net: IndependentModularNetwork, images: np.ndarray, **options: Any) -> Any:
        seen = observe(net, images, **options)
        if net.recognizer is not None:
            return seen if carried_over else SimpleNamespace(identity=np.full(len(images), 2))
        upright = images.mean((1, 3)).max(1) > images.mean((2, 3)).max(1)
        spoilt = rng.random(len(images)) < wrong
        return SimpleNamespace(identity=np.where(spoilt, 2, np.where(upright, 0, 1)))

    monkeypatch.setattr(votes, 'observe', noisy)
    return votes.learn(some, data, config(), ON_CPU, progress=False), some


def test_frames_learn_what_their_clip_said(monkeypatch: pytest.MonkeyPatch) -> None:
    recognizer, some = learnt(monkeypatch, wrong=0.3)
    assert recognizer is not None
    data = frames()
    image = torch.from_numpy(np.asarray(data.images)).movedim(-1, 1).float() / 255.0
    with torch.no_grad():
        evidence = recognizer.evidence(recognizer.features(image), some.identities())
    said = evidence.argmax(1).numpy()
    first, second = said[data.clip % 2 == 0], said[data.clip % 2 == 1]
    # A third of what it learnt from was named wrongly, one frame by one.
    assert (first == np.bincount(first).argmax()).mean() > 0.95
    assert (second == np.bincount(second).argmax()).mean() > 0.95
    assert np.bincount(first).argmax() != np.bincount(second).argmax()


def test_a_recognizer_that_does_not_carry_over_is_left_out(
        monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    recognizer, _ = learnt(monkeypatch, wrong=0.0, carried_over=False)
    assert recognizer is None and 'left out' in capsys.readouterr().out


def trained(folder: Path, wanted: Config, resume: bool = False) -> None:
    data = frames()
    options = DataOptions(size=SIDE)
    train(wanted, replace(data, split=np.zeros_like(data.split)), folder,
          {'paths': ['made-up'], 'options': kept_options(options), 'content_hash': 'made-up',
           'num_frames': len(data.images), 'num_labels': 0},
          resume=resume, accelerator='cpu', progress=False, over=not resume)


def test_a_run_ends_with_names_and_goes_on_from_before_them(tmp_path: Path) -> None:
    wanted = config('train.steps=20', 'train.naming_steps=4')
    trained(tmp_path, wanted)
    whole = load_run(tmp_path)
    assert whole.network.recognizer is not None and whole.config == wanted
    image = torch.rand(2, 3, SIDE, SIDE)
    with torch.no_grad():
        assert whole.network.encode(image).evidence is not None
    # Interrupted before the names came.
    checkpoint = tmp_path / 'checkpoints' / 'last.ckpt'
    state = torch.load(checkpoint, weights_only=True)
    kept = {name: value for name, value in state['state_dict'].items()
            if 'recognizer' not in name}
    assert len(kept) < len(state['state_dict'])
    torch.save(state | {'state_dict': kept}, checkpoint)
    half = load_run(tmp_path)
    assert half.network.recognizer is None and half.config.model.recognizer == 'none'
    trained(tmp_path, wanted, resume=True)
    again = load_run(tmp_path).network.state_dict()
    assert all(torch.equal(value, again[name])
               for name, value in whole.network.state_dict().items())
    # Ended, and gone on with for longer.
    trained(tmp_path, config('train.steps=24', 'train.naming_steps=4'), resume=True)
    assert load_run(tmp_path).step == 24 and load_run(tmp_path).network.recognizer is not None


@pytest.mark.parametrize(('settings', 'message'), [
    (['model.recognizer=none'], 'train.naming_steps is above 0 but model.recognizer is none'),
    (['train.share=augment'], "train.share is 'augment'"),
    (['model.num_identities=30'], 'are 38 together, more than the 36 entries'),
    (['model.num_identities=auto'], 'takes clips that are grouped first')])
def test_settings_that_contradict_each_other(settings: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        config(*settings)
