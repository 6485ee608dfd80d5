"""What finding the winner costs, against one autoencoder pass and the paper's loop."""
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from imn_world_model.base.config import Config, LossConfig, ModelConfig
from imn_world_model.bench.timing import compare
from imn_world_model.data.frames import DataOptions, Frames, load_frames
from imn_world_model.exporting.agreement import search_agreement
from imn_world_model.exporting.calibration import Calibration
from imn_world_model.exporting.deployed import DeployedNetwork
from imn_world_model.exporting.graph import export_onnx, run_metadata
from imn_world_model.exporting.search_fit import COMPONENTS, EFFORTS, shortlist_for
from imn_world_model.exporting.shortlist import MAX_SUBSETS, Shortlist, Sketch
from imn_world_model.learning.run import Run, load_run
from imn_world_model.model.combine import candidate_transforms, subset_transforms
from imn_world_model.model.imn import IndependentModularNetwork
from imn_world_model.model.score import image_loss
from imn_world_model.model.winner import Strategy, exhaustive
from imn_world_model.robot.inference import ImnModel
from imn_world_model.robot.session import CPU, PROVIDERS, Session

BATCHES = (1, 4, 16)
# Of an untrained network, whose agreement says nothing: what export/shapes3d.onnx needed.
EFFORT = EFFORTS[2]


class OnePass(nn.Module):
    """The floor: every module's encoding, their product, one decode; no search."""

    def __init__(self, network: IndependentModularNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        """:return: (B, 3, H, W) of (B, H, W, 3) uint8."""
        pixels = image.permute(0, 3, 1, 2).float() / 255.0
        encoding = self.network.encode(pixels)
        subset_T = subset_transforms(encoding.comp_T)[:, -1]
        return self.network.decoder(subset_T @ self.network.identities()[0])


@torch.no_grad()
def loop_over_combinations(network: IndependentModularNetwork, image: Tensor) -> Tensor:
    """
    The search as the paper describes it: decode the combinations one after another.

    :param image: (B, H, W, 3) uint8.
    :return: (B,) number of the winner.
    """
    pixels = image.permute(0, 3, 1, 2).float() / 255.0
    encoding = network.encode(pixels)
    cand_T = candidate_transforms(subset_transforms(encoding.comp_T), network.identities())
    scores = [-image_loss(network.decoder(cand_T[:, i]), pixels) for i in range(cand_T.shape[1])]
    return torch.stack(scores, 1).argmax(1)


def untrained(config: ModelConfig) -> Run:
    """:return: a network of these sizes, for its cost alone."""
    torch.manual_seed(0)
    whole = Config(model=config, loss=LossConfig())
    network = IndependentModularNetwork(config, whole.loss).eval()
    return Run(Path('untrained'), whole, network, DataOptions(), (), 'none', 0)


def untrained_shortlist(config: ModelConfig, network: IndependentModularNetwork) -> Shortlist:
    """:return: the fast search with :data:`EFFORT`, and as many subsets as it ever looks at."""
    pixels = 3 * config.image_size ** 2
    expand = network.decoder.expand

    def sketch(features: int) -> Sketch:
        return Sketch(torch.randn(features + 1, COMPONENTS))

    subsets = torch.arange(len(network.masks))[-MAX_SUBSETS:]
    return Shortlist(subsets, torch.randn(pixels, COMPONENTS), torch.zeros(pixels),
                     sketch(expand.in_features), sketch(expand.out_features), *EFFORT)


def run(path: Path | None = None, images: int = 0, device: str = 'cuda') -> dict[str, float]:
    """
    Time per frame of each way, ratios, memory, agreement.

    :param path: a run folder; without it an untrained network of the base sizes.
    :param images: of the run's test split, on which the searches are compared; 0 for all.
    :param device: of torch; ``cpu`` leaves GPUs alone.
    :return: figures by name; ``ms`` per frame, ``x`` ratios.
    """
    figures: dict[str, float] = {}
    if path is None:
        config = ModelConfig(basis_std=0.1, identity_std=0.3)
        example = untrained(config)
        fast = untrained_shortlist(config, example.network)
    else:
        example = load_run(path)
        frames = load_frames([Path(name) for name in example.data_paths], example.data_options)
        fast = shortlist_for(example.network, frames)
        figures |= agreement(example, frames, fast, images)
    network, size = example.network, example.config.model.image_size
    metadata = run_metadata(example, 'bench', ['x'] * example.config.model.num_identities,
                            Calibration(float('-inf'), 1.0))
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder) / f'{name}.onnx' for name in ('floor', 'fast', 'exhaustive')}
        export_onnx(network, files['fast'], metadata, np.zeros((0,)), fast)
        export_onnx(network, files['exhaustive'], metadata, np.zeros((0,)), exhaustive)
        _export_one_pass(network, files['floor'], size)
        # Not all of them: ONNX Runtime also lists providers that only send images elsewhere.
        available = onnxruntime.get_available_providers()
        wanted = [CPU] if device == 'cpu' else PROVIDERS.values()
        for provider in [name for name in wanted if name in available]:
            figures |= _timed(provider, files, network, size)
        for name, file in files.items():
            figures[f'memory of a process, {name}, batch 16, MiB'] = peak_memory(file, size)
    if device == 'cuda' and torch.cuda.is_available():
        figures |= on_device('cuda', network, fast, size)
    return figures


def agreement(example: Run, frames: Frames, fast: Strategy, images: int) -> dict[str, float]:
    """:return: how often the fast search gives the exhaustive one's answer, on the test split."""
    rows = np.flatnonzero(frames.split == 2)
    if images:
        rows = np.sort(np.random.default_rng(0).permutation(rows)[:images])
    found = search_agreement(example.network, frames.images[rows], fast)
    return {f'agreement with exhaustive: {name}': value for name, value in found.items()}


def _timed(provider: str, files: dict[str, Path], network: IndependentModularNetwork,
           size: int) -> dict[str, float]:
    """:return: figures of one ONNX Runtime provider; nothing when it does not start."""
    floor = Session(files['floor'], [provider], 0)
    models = {name: ImnModel(files[name], [provider]) for name in ('fast', 'exhaustive')}
    if models['fast'].provider != provider:
        return {}
    prefix = '' if provider == CPU else f'{provider} '
    figures: dict[str, float] = {}
    for batch in BATCHES:
        images = np.random.default_rng(0).integers(0, 256, (batch, size, size, 3), dtype=np.uint8)
        contestants: dict[str, Callable[[], object]] = {
            'floor': partial(floor.run, images),
            'fast': partial(models['fast'].predict, images),
            'exhaustive': partial(models['exhaustive'].predict, images)}
        if provider == CPU:
            tensor = torch.from_numpy(images)
            contestants['exhaustive_torch'] = partial(
                _without_grad, DeployedNetwork(network, exhaustive), tensor)
            contestants['loop_torch'] = partial(loop_over_combinations, network, tensor)
        seconds = compare(contestants)
        for name, value in seconds.items():
            figures[f'{prefix}batch {batch} {name} ms'] = 1000 * value / batch
        figures[f'{prefix}batch {batch} fast frames/s'] = batch / seconds['fast']
        pairs = [('fast', 'floor')]
        if provider == CPU:
            pairs += [('loop_torch', 'fast'), ('loop_torch', 'exhaustive')]
        for slow, quick in pairs:
            figures[f'{prefix}batch {batch} {slow} / {quick} x'] = seconds[slow] / seconds[quick]
    return figures


def on_device(device: str, network: IndependentModularNetwork, fast: Shortlist,
              size: int) -> dict[str, float]:
    """
    The searches in torch on a device, where ONNX Runtime has no provider for it.

    :param device: of torch.
    :return: ms per frame and frames/s.
    """
    figures: dict[str, float] = {}
    deployed = DeployedNetwork(network, fast).to(device)
    ways = {'floor': OnePass(network), 'fast': deployed,
            'exhaustive': DeployedNetwork(network, exhaustive)}
    for batch in BATCHES:
        image = torch.randint(0, 256, (batch, size, size, 3), dtype=torch.uint8, device=device)
        seconds = compare({name: partial(finished, way, image) for name, way in ways.items()})
        for name, value in seconds.items():
            figures[f'torch {device} batch {batch} {name} ms'] = 1000 * value / batch
        figures[f'torch {device} batch {batch} fast frames/s'] = batch / seconds['fast']
    deployed.cpu()
    return figures


@torch.no_grad()
def _without_grad(network: nn.Module, image: Tensor) -> object:
    return network(image)


def finished(network: nn.Module, image: Tensor) -> object:
    """:return: a network's answer, without gradients, when it is there."""
    answer = _without_grad(network, image)
    wait_for(image.device)
    return answer


def wait_for(device: torch.device) -> None:
    """Wait for what a card was given to do."""
    if device.type == 'cuda':
        torch.cuda.synchronize()


def _export_one_pass(network: IndependentModularNetwork, path: Path, size: int) -> None:
    image = torch.zeros(2, size, size, 3, dtype=torch.uint8)
    torch.onnx.export(OnePass(network).eval(), (image,), str(path), input_names=['image'],
                      dynamic_shapes={'image': {0: torch.export.Dim('batch', min=1)}},
                      dynamo=True, external_data=False, verbose=False)


def peak_memory(file: Path, size: int, batch: int = 16) -> float:
    """
    Memory of a process that runs nothing but a file.

    :return: the highest resident size in MiB by the kernel's account of that program alone; the
        ``maxrss`` of getrusage begins at the size of the process that started it.
    """
    program = f"""
import numpy, onnxruntime, re
session = onnxruntime.InferenceSession({str(file)!r}, providers=['CPUExecutionProvider'])
for _ in range(3):
    session.run(None, {{'image': numpy.zeros(({batch}, {size}, {size}, 3), numpy.uint8)}})
print(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])
"""
    done = subprocess.run([sys.executable, '-c', program], check=True, capture_output=True,
                          text=True)
    return int(done.stdout) / 1024
