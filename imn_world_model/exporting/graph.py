"""A network with its search as an ONNX file, checked against torch."""
import copy
import json
import logging
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch

from imn_world_model.base.cli import atomic_path
from imn_world_model.base.config import to_dict
from imn_world_model.base.errors import UserError
from imn_world_model.exporting.calibration import Calibration
from imn_world_model.exporting.compact_onnx import settle, store_half
from imn_world_model.exporting.deployed import DeployedNetwork
from imn_world_model.exporting.restore import FOLDED, folded_weights
from imn_world_model.learning.run import Run, weights_hash
from imn_world_model.model.familiarity import Familiarity
from imn_world_model.model.imn import IndependentModularNetwork
from imn_world_model.model.winner import Strategy, coarse_to_fine
from imn_world_model.robot.inference import FORMAT_VERSION, OUTPUTS, STRANGENESS

OPSET = 18


@dataclass(frozen=True)
class Tolerance:
    """
    How far the file's answers may lie from torch's in float32.

    :param matrix: of matrices, coordinates and scores, relative to the largest of each.
    :param tie: two candidates whose scores differ by less, relatively, are a tie: either may win.
    """

    matrix: float
    tie: float


# Share of the losers' scores that may differ, since candidates of theirs tie.
TIED = 0.01
# Ten bits of mantissa, through a dozen layers.
TOLERANCE = {'float32': Tolerance(1e-4, 1e-5), 'float16': Tolerance(2e-2, 1e-2)}



def export_onnx(network: IndependentModularNetwork, path: Path, metadata: dict[str, str],
                examples: np.ndarray, strategy: Strategy = coarse_to_fine,
                precision: str = 'float32', familiarity: Familiarity | None = None) -> None:
    """
    Write an ONNX file that gives the network's answers, or leave no file at all.

    :param network: trained.
    :param path: the ``.onnx`` file.
    :param metadata: further ``metadata_props``.
    :param examples: (K, S, S, 3) uint8 real images, checked beside random ones; may be empty.
    :param strategy: how the winner is found.
    :param precision: key of :data:`TOLERANCE`; in ``float16`` the wide layers compute in half
        precision, matrices and scores in single. Inputs and outputs are the same in both.
    :param familiarity: see :class:`DeployedNetwork`.
    :raises UserError: when ONNX Runtime's answers differ from torch's.
    """
    reference = DeployedNetwork(network.eval(), strategy, familiarity).eval()
    deployed = reference if precision == 'float32' else halved(reference)
    size = network.config.side
    rng = np.random.default_rng(0)
    with atomic_path(path) as scratch:
        with warnings.catch_warnings():
            # The exporter's own deprecations and its remarks on operators left untranslated.
            warnings.simplefilter('ignore')
            logging.getLogger('torch.onnx').setLevel(logging.ERROR)
            torch.onnx.export(
                deployed, (torch.from_numpy(_noise(rng, 3, size)),), str(scratch),
                input_names=['image'], output_names=list(reference.outputs), opset_version=OPSET,
                dynamic_shapes={'image': {0: torch.export.Dim('batch', min=1)}},
                dynamo=True, external_data=False, verbose=False)
        model = settle(onnx.load(scratch))
        metadata = metadata | {FOLDED: folded_weights(model, deployed)}
        store_half(model)
        for key, value in metadata.items():
            entry = model.metadata_props.add()
            entry.key, entry.value = key, value
        onnx.checker.check_model(model)
        onnx.save(model, scratch)
        session = onnxruntime.InferenceSession(str(scratch), providers=['CPUExecutionProvider'])
        for batch in (_noise(rng, 1, size), _noise(rng, 3, size), _noise(rng, 16, size),
                      examples[:16]):
            if len(batch):
                _compare(reference, session, batch, path.name, TOLERANCE[precision])


def halved(deployed: DeployedNetwork) -> DeployedNetwork:
    """
    A copy whose wide layers are in float16.

    The layers on matrices stay: sixty-fourfold squaring inside exp, and the differences between
    candidates' scores, need single precision.

    :param deployed: in float32, left as it is.
    """
    deployed = copy.deepcopy(deployed)
    modules, decoder = deployed.network.compositional, deployed.network.decoder
    for layer in (modules.embed, *modules.merges, modules.features, decoder.expand,
                  *decoder.splits, decoder.pixels):
        layer.half()
    return deployed


def _noise(rng: np.random.Generator, count: int, size: int) -> np.ndarray:
    return rng.integers(1, 256, (count, size, size, 3), dtype=np.uint8)


@torch.no_grad()
def _compare(deployed: DeployedNetwork, session: onnxruntime.InferenceSession,
             images: np.ndarray, name: str, tolerance: Tolerance) -> None:
    """Raise when the file's answers to a batch are not torch's."""
    images = np.ascontiguousarray(images)
    names = deployed.outputs
    theirs = dict(zip(names, session.run(list(names), {'image': images}), strict=True))
    ours = dict(zip(names, (value.numpy() for value in deployed(torch.from_numpy(images))),
                    strict=True))
    same = (ours['identity'] == theirs['identity']) & (ours['active'] == theirs['active']).all(1)
    # A tie may fall either way; its two winners must then score alike.
    gap = np.abs(ours['score'] - theirs['score']) / np.abs(ours['score']).clip(1e-6)
    if not (same | (gap < tolerance.tie)).all():
        raise UserError(f'export of {name} failed its check: {int((~same).sum())} of '
                        f'{len(images)} winners differ between torch and ONNX Runtime')
    for output in ('score', 'transform', 'module_transforms', 'latent_mean', 'latent_variance',
                   'identity_scores', *names[len(OUTPUTS):]):
        errors = np.sort(np.abs(ours[output] - theirs[output])[same], axis=None)
        if output == 'identity_scores':
            # Candidates of a loser may tie in the search; either may be decoded.
            errors = errors[:len(errors) - int(TIED * len(errors))]
        error = errors.max(initial=0.0)
        scale = np.abs(ours[output]).max()
        if output == STRANGENESS and deployed.familiarity is not None:
            # The one view that an identity was learnt from is not strange at all.
            scale = max(scale, deployed.familiarity.reach)
        if not error <= tolerance.matrix * scale:
            raise UserError(f'export of {name} failed its check: {output} differs by '
                            f'{error / scale:.1e} (relative) between torch and ONNX Runtime')


def run_metadata(run: Run, name: str, labels: list[str], calibration: Calibration,
                 search: dict[str, Any] | None = None, precision: str = 'float32'
                 ) -> dict[str, str]:
    """
    The ``metadata_props`` of the contract.

    :param search: how the winner is found, and how often that is the exhaustive search's.
    """
    config = {**to_dict(run.config), 'crop': asdict(run.data_options.crop),
              'regions': asdict(run.data_options.regions)}
    return {'imn_format_version': FORMAT_VERSION, 'name': name, 'labels': json.dumps(labels),
            'config': json.dumps(config), 'training_data_hash': run.data_hash,
            'weights_hash': weights_hash(run.network),
            'novelty_threshold': repr(calibration.novelty_threshold),
            'strangeness_threshold': repr(calibration.strangeness_threshold),
            'usual_strangeness': repr(calibration.usual_strangeness),
            'temperature': repr(calibration.temperature), 'precision': precision,
            'search': json.dumps(search or {})}
