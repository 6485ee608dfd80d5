"""What finding the winner costs, against one autoencoder pass and the paper's loop."""
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from imn_world_model.bench.timing import compare
from imn_world_model.combine import candidate_transforms, subset_transforms
from imn_world_model.config import Config, LossConfig, ModelConfig
from imn_world_model.data.frames import DataOptions
from imn_world_model.export import Calibration, DeployedNetwork, export_onnx, run_metadata
from imn_world_model.inference import ImnModel
from imn_world_model.model import IndependentModularNetwork
from imn_world_model.run import Run, load_run
from imn_world_model.score import image_loss
from imn_world_model.winner import exhaustive

BATCHES = (1, 4, 16)


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


def example_run(path: Path | None) -> Run:
    """:return: a given run, or an untrained network of the base sizes."""
    if path is not None:
        return load_run(path)
    torch.manual_seed(0)

    config = Config(model=ModelConfig(basis_std=0.1, identity_std=0.3), loss=LossConfig())
    network = IndependentModularNetwork(config.model, config.loss).eval()
    return Run(Path('untrained'), config, network, DataOptions(), (), 'none', 0)


def run(path: Path | None = None) -> dict[str, float]:
    """
    Time per frame of each way, and ratios.

    :param path: a run folder; without it an untrained network of the base sizes.
    :return: figures by name; ``ms`` per frame, ``x`` ratios.
    """
    example = example_run(path)
    network, size = example.network, example.config.model.image_size
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        models = {}
        metadata = run_metadata(example, 'bench', ['x'] * example.config.model.num_identities,
                                Calibration(float('-inf'), 1.0))
        for strategy in ('fast', 'exhaustive'):
            target = Path(folder) / f'{strategy}.onnx'
            export_onnx(network, target, metadata, np.zeros((0,)), strategy)
            models[strategy] = ImnModel(target, ['cpu'])
        floor = _one_pass_session(network, Path(folder) / 'floor.onnx', size)
        deployed = DeployedNetwork(network, exhaustive)
        for batch in BATCHES:
            images = np.random.default_rng(0).integers(0, 256, (batch, size, size, 3),
                                                       dtype=np.uint8)
            tensor = torch.from_numpy(images)
            seconds = compare({
                'floor': partial(floor.run, None, {'image': images}),
                'fast': partial(models['fast'].predict, images),
                'exhaustive': partial(models['exhaustive'].predict, images),
                'exhaustive_torch': partial(_without_grad, deployed, tensor),
                'loop_torch': partial(loop_over_combinations, network, tensor)})
            for name, value in seconds.items():
                figures[f'batch {batch} {name} ms'] = 1000 * value / batch
            figures[f'batch {batch} fast / floor x'] = seconds['fast'] / seconds['floor']
            figures[f'batch {batch} loop / fast x'] = seconds['loop_torch'] / seconds['fast']
            figures[f'batch {batch} loop / exhaustive x'] = (seconds['loop_torch']
                                                             / seconds['exhaustive'])
    return figures


@torch.no_grad()
def _without_grad(network: nn.Module, image: Tensor) -> object:
    return network(image)


def _one_pass_session(network: IndependentModularNetwork, path: Path,
                      size: int) -> onnxruntime.InferenceSession:
    image = torch.zeros(2, size, size, 3, dtype=torch.uint8)
    torch.onnx.export(OnePass(network).eval(), (image,), str(path), input_names=['image'],
                      dynamic_shapes={'image': {0: torch.export.Dim('batch', min=1)}},
                      dynamo=True, external_data=False, verbose=False)
    return onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
