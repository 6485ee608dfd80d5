"""Configuration: presets build, mistakes are named, files come back as they were."""
from pathlib import Path

import pytest
import torch

from imn_world_model.base.config import (
    Config,
    from_dict,
    load_config,
    override,
    save_config,
    to_dict,
)
from imn_world_model.base.errors import UserError
from imn_world_model.learning.presets import PRESETS, preset
from imn_world_model.model.imn import IndependentModularNetwork


@pytest.mark.parametrize('name', PRESETS)
def test_preset_builds_a_network_that_runs(name: str) -> None:
    config = preset(name)
    network = IndependentModularNetwork(config.model, config.loss).eval()
    size = config.model.image_size
    with torch.no_grad():
        encoding = network.encode(torch.rand(1, 3, size, size))
        assert network.decoder(encoding.comp_T[:, 0]).shape == (1, 3, size, size)


@pytest.mark.parametrize('name', PRESETS)
def test_config_survives_yaml(name: str, tmp_path: Path) -> None:
    save_config(preset(name), tmp_path / 'config.yaml')
    assert load_config(tmp_path / 'config.yaml') == preset(name)


def test_override_changes_one_value() -> None:
    config = override(Config(), ['train.steps=7', 'train.learning_rate=1e-4',
                                 'loss.independence=hessian', 'train.recolor=true',
                                 'model.encoder_channels=[8, 8, 8]'])
    assert config.train.steps == 7 and config.train.learning_rate == 1e-4
    assert config.loss.independence == 'hessian' and config.train.recolor is True
    assert config.model.encoder_channels == (8, 8, 8)
    assert to_dict(config)['loss'] | {'independence': 'algebraic'} == to_dict(Config())['loss']


@pytest.mark.parametrize(('settings', 'message'), [
    (['steps=7'], 'section.key=value'),
    (['train.stepz=7'], "unknown configuration key 'train.stepz'"),
    (['train.steps=many'], "'train.steps' is 'many'"),
    (['train.steps=1.5'], "'train.steps' is 1.5"),
    (['train.steps=true'], "'train.steps' is True"),
    (['train.seed=7.0'], "'train.seed' is 7.0"),
    (['loss.independence=none'], "must be 'algebraic' or 'hessian'"),
    (['train.views=3'], 'not a multiple'),
    (['train.recolor=1'], "'train.recolor' is 1"),
    (['model.coarse_size=5'], 'does not divide'),
    (['model.image_size=50'], 'fit images of 64x64 pixels, not of 50'),
    (['train.steps=0'], 'greater than or equal to 1'),
    (['train.clip_batch=1'], 'greater than or equal to 2'),
    (['train.workers=-1'], "'train.workers' is -1; it must be greater than or equal to 0"),
    (['train.seed=-1'], "'train.seed' is -1"),
    (['train.learning_rate=true'], "'train.learning_rate' is True"),
    (['train.precision=16'], "'train.precision' is 16"),
    (['model.encoder_channels=[8, 0, 8]'], "'model.encoder_channels.1' is 0"),
    (['train.learning_rate=0'], "'train.learning_rate' is 0; it must be greater than 0"),
])
def test_override_names_the_mistake(settings: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        override(preset('clips'), settings)


def test_unknown_keys_and_presets_are_errors(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown preset 'big'"):
        preset('big')
    with pytest.raises(UserError, match="unknown configuration key 'model.depth'"):
        from_dict({'model': {'depth': 3}})
    with pytest.raises(UserError, match='does not exist'):
        load_config(tmp_path / 'none.yaml')
    with pytest.raises(UserError, match='must be a mapping, got 3'):
        from_dict(3)
    (tmp_path / 'hand.yaml').write_text('train: {learning_rate: 1e-4}')
    assert load_config(tmp_path / 'hand.yaml').train.learning_rate == 1e-4
    (tmp_path / 'bad.yaml').write_text('model: [1, 2')
    with pytest.raises(UserError, match='not valid YAML'):
        load_config(tmp_path / 'bad.yaml')
