"""What keeps a GPU provider from starting is named, with the remedy."""
import subprocess
from pathlib import Path
from types import SimpleNamespace

import onnxruntime
import pytest

from imn_world_model.robot import gpu_libraries
from imn_world_model.robot.gpu_libraries import missing
from imn_world_model.robot.session import CPU, CUDA, TENSORRT


def needing(folder: Path, part: str, library: str) -> Path:
    """:return: a folder with a part of ONNX Runtime whose library is not there."""
    source, there = folder / 'empty.c', folder / library
    source.write_text('int nothing;')
    subprocess.run(['cc', '-shared', '-o', there, f'-Wl,-soname,{library}', source], check=True)
    subprocess.run(['cc', '-shared', '-o', folder / f'libonnxruntime_providers_{part}.so',
                    '-Wl,--no-as-needed', source, there], check=True)
    there.unlink()
    return folder


def test_a_missing_driver_is_named_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_libraries, 'DRIVER', 'libno_such_driver.so.1')
    assert missing(CUDA) == ("NVIDIA's driver is not installed (libno_such_driver.so.1); install "
                             'it for this card')
    assert missing(CPU) == ''


@pytest.mark.parametrize(('provider', 'part', 'library', 'remedy'), [
    (CUDA, 'cuda', 'libcublasLt.so.99', "pip install 'onnxruntime-gpu[cuda,cudnn]'"),
    (TENSORRT, 'tensorrt', 'libcudnn.so.99', "pip install 'onnxruntime-gpu[cuda,cudnn]'"),
    (TENSORRT, 'tensorrt', 'libnvinfer.so.99', 'pip install tensorrt')])
def test_a_missing_library_is_named_with_its_remedy(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, provider: str, part: str, library: str,
        remedy: str) -> None:
    monkeypatch.setattr(gpu_libraries, 'DRIVER', 'libc.so.6')     # stands for one that is there
    assert missing(provider, needing(tmp_path, part, library)) == f'{library} is missing; {remedy}'


def test_torch_of_another_cuda_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_libraries, 'DRIVER', 'libc.so.6')
    monkeypatch.setattr(onnxruntime, 'cuda_version', '13.0', raising=False)
    folder = needing(tmp_path, 'cuda', 'libcublasLt.so.99')
    for cuda, told in (('12.8', True), ('13.2', False), (None, False)):
        torch = SimpleNamespace(version=SimpleNamespace(cuda=cuda))
        monkeypatch.setitem(gpu_libraries.sys.modules, 'torch', torch)
        assert ('torch brings CUDA 12.8' in missing(CUDA, folder)) == told


def test_what_the_loader_finds_is_not_called_missing(tmp_path: Path,
                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_libraries, 'DRIVER', 'libc.so.6')
    folder = needing(tmp_path, 'cuda', 'libgone.so.1')
    source = folder / 'empty.c'
    subprocess.run(['cc', '-shared', '-o', folder / 'libonnxruntime_providers_cuda.so', source],
                   check=True)
    assert missing(CUDA, folder) == ''
