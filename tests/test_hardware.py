"""What commands compute on."""
from pathlib import Path

import pytest
import torch

from imn_world_model.base import cores
from imn_world_model.base.errors import UserError
from imn_world_model.learning import hardware
from imn_world_model.robot.session import Session


def test_cores_are_those_of_the_control_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch
                                              ) -> None:
    monkeypatch.setattr(cores, 'CPU_MAX', tmp_path / 'cpu.max')
    monkeypatch.setattr('os.sched_getaffinity', lambda _: set(range(64)))
    assert cores.usable_cores() == 64                 # no such file
    for text, count in (('max 100000', 64), ('150000 100000', 2), ('1000 100000', 1),
                        ('9900000 100000', 64), ('', 64)):
        (tmp_path / 'cpu.max').write_text(text)
        assert cores.usable_cores() == count, text


def test_torch_and_onnxruntime_start_no_more_threads_than_cores(
        monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    monkeypatch.setattr(hardware, 'usable_cores', lambda: 3)
    try:
        assert hardware.device_for('cpu') == torch.device('cpu')
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    asked: list[int] = []
    monkeypatch.setattr('imn_world_model.robot.session.usable_cores', lambda: asked.append(1) or 1)
    Session(Path(__file__).parents[1] / 'export' / 'demo.onnx', ['cpu'], 0)
    assert asked


def test_a_missing_gpu_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('torch.cuda.is_available', lambda: False)
    assert hardware.device_for('auto').type == 'cpu'
    with pytest.raises(UserError, match='--accelerator gpu: torch finds no GPU'):
        hardware.device_for('gpu')
    with pytest.raises(UserError, match="'tpus' is not known; choose from auto, cpu, gpu"):
        hardware.device_for('tpus')
