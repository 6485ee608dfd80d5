"""The run folder: what is broken in it is named."""
import shutil
from pathlib import Path

import pytest
import torch

from imn_world_model.base.errors import UserError
from imn_world_model.data.frames import DataOptions
from imn_world_model.learning.presets import preset
from imn_world_model.learning.run import (
    CHECKPOINT,
    CONFIG,
    DATA,
    FORMAT,
    can_resume,
    keep_for_evaluation,
    kept_options,
    load_run,
    write_run,
)
from imn_world_model.model.imn import IndependentModularNetwork


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    config = preset('debug')
    write_run(tmp_path, config, {'paths': ['x'], 'options': kept_options(DataOptions(size=32)),
                                 'content_hash': 'h', 'num_labels': 0})
    network = IndependentModularNetwork(config.model, config.loss)
    (tmp_path / CHECKPOINT).parent.mkdir()
    torch.save({'state_dict': {f'network.{name}': value for name, value
                               in network.state_dict().items()},
                'global_step': 7, 'optimizer_states': [1]}, tmp_path / CHECKPOINT)
    return tmp_path


@pytest.mark.parametrize('damage', [
    lambda data: b'', lambda data: b'not an archive', lambda data: data[:len(data) // 2],
    lambda data: data[:200] + bytes(2000) + data[2200:]])
def test_broken_checkpoint_is_one_error(folder: Path, damage) -> None:
    file = folder / CHECKPOINT
    file.write_bytes(damage(file.read_bytes()))
    for read in (load_run, can_resume):
        with pytest.raises(UserError, match='last.ckpt cannot be read'):
            read(folder)


def test_checkpoint_of_other_sizes_is_one_error(folder: Path) -> None:
    config = (folder / CONFIG).read_text()
    (folder / CONFIG).write_text(config.replace('matrix_size: 6', 'matrix_size: 7'))
    with pytest.raises(UserError, match='does not fit config.yaml'):
        load_run(folder)


def test_run_of_another_network_is_refused_though_its_weights_fit(folder: Path) -> None:
    kept = (folder / DATA).read_text()
    (folder / DATA).write_text(kept.replace(f'"format": {FORMAT}', '"format": 1'))
    with pytest.raises(UserError, match='another network .format 1.*train again'):
        load_run(folder)


def test_kept_run_has_the_weights_and_no_more(folder: Path) -> None:
    assert can_resume(folder)
    keep_for_evaluation(load_run(folder), folder / 'kept')
    keep_for_evaluation(load_run(folder), folder / 'kept')           # replaced
    kept, whole = load_run(folder / 'kept'), load_run(folder)
    assert kept.step == 7 and not can_resume(folder / 'kept')
    for name, value in whole.network.state_dict().items():
        assert torch.equal(kept.network.state_dict()[name], value)


def test_a_folder_with_one_run_stands_for_it(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / 'out'
    shutil.copytree(folder, out / 'debug-seed0', ignore=lambda *_: ['out'])
    (out / 'notes').mkdir()
    assert load_run(out).path == out / 'debug-seed0' == load_run(out / 'debug-seed0').path


def test_a_folder_with_several_runs_names_them(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / 'out'
    for name in ('b', 'a'):
        shutil.copytree(folder, out / name, ignore=lambda *_: ['out'])
    with pytest.raises(UserError, match=f'holds 2 runs; give one of {out}/a, {out}/b'):
        load_run(out)
