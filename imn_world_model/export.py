"""``python -m imn_world_model.export``: a trained run as one ONNX file, checked against torch."""
import argparse
import copy
import json
import logging
import sys
import warnings
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn
from tqdm import tqdm

from imn_world_model.agreement import (
    LEAST_IMAGES,
    MAX_IMAGES,
    rounding_agreement,
    search_agreement,
)
from imn_world_model.cli import atomic_path, run_cli
from imn_world_model.compact import round_weights
from imn_world_model.compact_onnx import store_half
from imn_world_model.config import to_dict
from imn_world_model.data.frames import load_frames
from imn_world_model.dynamics import load_flow
from imn_world_model.dynamics_export import export_dynamics
from imn_world_model.errors import UserError
from imn_world_model.familiarity import Familiarity
from imn_world_model.hardware import add_accelerator_option, device_for
from imn_world_model.inference import FORMAT_VERSION, OUTPUTS, STRANGENESS
from imn_world_model.metrics import name_identities
from imn_world_model.model import IndependentModularNetwork
from imn_world_model.observe import observe
from imn_world_model.restore import FOLDED, folded_weights
from imn_world_model.run import DYNAMICS, Run, keep_for_evaluation, load_run, weights_hash
from imn_world_model.shortlist import shortlist_for
from imn_world_model.winner import Strategy, coarse_to_fine, exhaustive

OPSET = 18
# Share of validation images that fall below the novelty threshold, by construction.
FALSE_ALARM_RATE = 0.01
MAX_CALIBRATION_IMAGES = 2000
# Share of validation images whose strangeness is usual.
USUAL_SHARE = 0.7


@dataclass(frozen=True)
class Tolerance:
    """
    How far the file's answers may lie from torch's in float32.

    :param matrix: of matrices, coordinates and scores, relative to the largest of each.
    :param tie: two candidates whose scores differ by less, relatively, are a tie: either may win.
    """

    matrix: float
    tie: float


# Ten bits of mantissa, through a dozen layers.
TOLERANCE = {'float32': Tolerance(1e-4, 1e-5), 'float16': Tolerance(2e-2, 1e-2)}


class DeployedNetwork(nn.Module):
    """
    What the ONNX file computes: the winner of an image, normalisation included.

    :param network: trained, in evaluation mode.
    :param strategy: how the winner is found.
    :param familiarity: of its identities; ``None`` without a recognizer.
    """

    def __init__(self, network: IndependentModularNetwork, strategy: Strategy,
                 familiarity: Familiarity | None = None) -> None:
        super().__init__()
        if network.loss_config.independence == 'hessian':
            # Its estimate is a random number; the robot's answer must not be.
            network.loss_config = replace(network.loss_config, independence_weight=0.0)
        self.network = network
        self.strategy = strategy
        self.familiarity = familiarity

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of what it gives."""
        return OUTPUTS if self.familiarity is None else (*OUTPUTS, STRANGENESS)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """
        Give what :attr:`outputs` names.

        :param image: (B, H, W, 3) uint8 RGB.
        """
        pixels = image.permute(0, 3, 1, 2).float() / 255.0
        output = self.network(pixels, self.strategy)
        recon = (output.recon.clamp(0.0, 1.0) * 255.0).round().to(torch.uint8)
        encoding = output.encoding
        answer = (output.identity, output.score, output.identity_scores, output.active,
                  output.transform, encoding.comp_T, encoding.mu, encoding.logvar.exp(),
                  recon.permute(0, 2, 3, 1))
        if self.familiarity is None:
            return answer
        assert encoding.features is not None
        return (*answer, self.familiarity(encoding.features))


@dataclass(frozen=True)
class Calibration:
    """
    What validation images tell about the scores.

    :param novelty_threshold: a score below it is novel.
    :param temperature: confidence is softmax(identity_scores / temperature) of the winner.
    :param strangeness_threshold: a strangeness above it is novel, too.
    :param usual_strangeness: that most images of known objects stay below.
    """

    novelty_threshold: float
    temperature: float
    strangeness_threshold: float = float('inf')
    usual_strangeness: float = float('inf')


@torch.no_grad()
def calibrate(network: DeployedNetwork, images: np.ndarray, progress: bool = False,
              false_alarms: float = FALSE_ALARM_RATE) -> Calibration:
    """
    Threshold and temperature from images that training did not see.

    The temperature is the median lead of the winner over the runner-up, divided by the log-odds
    of 0.99: a typical lead reads as a confidence of 0.99, a tie of two as 0.5.

    :param network: as exported.
    :param images: (K, S, S, 3) uint8.
    :param progress: whether to show a bar.
    :param false_alarms: share of these images that are novel by the thresholds; score and
        strangeness share it.
    """
    if len(images) == 0:
        return Calibration(float('-inf'), 1.0)
    scores, leads, strange = [], [], []
    share = false_alarms if network.familiarity is None else false_alarms / 2
    device = next(network.parameters()).device
    for part in tqdm(torch.from_numpy(np.ascontiguousarray(images)).split(64),
                     desc='novelty and confidence', unit=' batches', disable=not progress,
                     leave=False):
        _, score, identity_scores, *others = network(part.to(device))
        scores.append(score.cpu())
        strange.append(others[-1].cpu())
        best = identity_scores.topk(min(2, identity_scores.shape[1]), dim=1).values
        leads.append((best[:, 0] - best[:, -1]).cpu())
    threshold = float(np.quantile(torch.cat(scores).numpy(), share))
    lead = float(torch.cat(leads).median())
    farthest = usual = float('inf')
    if network.familiarity is not None:
        farthest, usual = (float(value) for value in np.quantile(
            torch.cat(strange).numpy(), (1 - share, USUAL_SHARE)))
    return Calibration(threshold, max(lead / float(np.log(0.99 / 0.01)), 1e-3), farthest, usual)


def familiarity_for(network: IndependentModularNetwork, images: np.ndarray,
                    progress: bool = False) -> Familiarity | None:
    """
    What the images of each identity look like, by the recognizer's own word: no search.

    :param network: trained, in evaluation mode.
    :param images: (K, S, S, 3) uint8 of the training split.
    :param progress: whether to show a bar.
    :return: ``None`` for a network without a recognizer.
    """
    recognizer = network.recognizer
    if recognizer is None or not len(images):
        return None
    device, found = network.masks.device, []
    with torch.no_grad():
        signature = recognizer.signatures(network.identities()).cpu()
        for part in tqdm(torch.from_numpy(np.ascontiguousarray(images)).split(64),
                         desc='what identities look like', unit=' batches', disable=not progress,
                         leave=False):
            pixels = part.to(device).movedim(-1, 1).float() / 255.0
            found.append(recognizer.features(pixels).cpu())
    features = torch.cat(found)
    return Familiarity.fit(features, (features @ signature.T).argmax(1), signature)


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
        model = onnx.load(scratch)
        metadata = metadata | {FOLDED: folded_weights(model, deployed)}
        store_half(model)
        for key, value in metadata.items():
            entry = model.metadata_props.add()
            entry.key, entry.value = key, value
        onnx.checker.check_model(model)
        onnx.save(model, scratch)
        for batch in (_noise(rng, 1, size), _noise(rng, 3, size), _noise(rng, 16, size),
                      examples[:16]):
            if len(batch):
                _compare(reference, scratch, batch, path.name, TOLERANCE[precision])


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
def _compare(deployed: DeployedNetwork, path: Path, images: np.ndarray, name: str,
             tolerance: Tolerance) -> None:
    """Raise when the file's answers to a batch are not torch's."""
    session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
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
    for output in ('transform', 'module_transforms', 'latent_mean', 'latent_variance',
                   'identity_scores', *names[len(OUTPUTS):]):
        error = np.abs(ours[output] - theirs[output])[same].max(initial=0.0)
        scale = np.abs(ours[output]).max()
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


def main(arguments: list[str] | None = None) -> None:
    """Command line of the export."""
    parser = argparse.ArgumentParser(prog='imn_world_model.export', description=__doc__)
    parser.add_argument('--run', type=Path, required=True, metavar='DIR',
                        help='run folder that train wrote, or a folder with one run in it')
    parser.add_argument('--out', type=Path, required=True, metavar='FILE.onnx')
    parser.add_argument('--data', nargs='+', type=Path, metavar='PATH',
                        help='data of the run (default: where training read it); its training '
                             'images fit the fast search, its validation images set the novelty '
                             'threshold and the confidence')
    parser.add_argument('--labels', nargs='+', metavar='NAME',
                        help='a name for each identity, in order')
    parser.add_argument('--label', metavar='FACTOR',
                        help='name identities after this label, such as shape, by the majority '
                             'of the images outside the test split')
    parser.add_argument('--ground-truth-topic', metavar='TOPIC',
                        help='topic of a log that carries the labels for --label')
    parser.add_argument('--strategy', choices=('fast', 'exhaustive'), default='fast',
                        help='how the winner is found')
    parser.add_argument('--float16', action='store_true',
                        help='wide layers in half precision: half the file, for GPUs')
    parser.add_argument('--false-alarms', type=float, default=FALSE_ALARM_RATE, metavar='SHARE',
                        help='share of the validation images that may pass for novel '
                             f'(default: {FALSE_ALARM_RATE})')
    parser.add_argument('--weights', choices=('float32', 'float16'), default='float32',
                        help='how weights are stored: float16 is half the file; they are rounded '
                             'once and computed with in single precision')
    parser.add_argument('--keep-run', type=Path, metavar='DIR',
                        help='also keep what evaluate needs of the run, a third of its size')
    add_accelerator_option(parser)
    options = parser.parse_args(arguments)

    if not 0 < options.false_alarms < 1:
        raise UserError(f'--false-alarms is {options.false_alarms}; it must lie between 0 and 1')
    device = device_for(options.accelerator)
    run = load_run(options.run)
    run.network.to(device)
    n = run.config.model.num_identities
    if options.labels and len(options.labels) != n:
        raise UserError(f'--labels has {len(options.labels)} names for {n} identities')
    paths = options.data or [Path(path) for path in run.data_paths]
    frames = load_frames(paths, replace(run.data_options,
                                        ground_truth_topic=options.ground_truth_topic))
    if options.label and options.label not in frames.labels:
        raise UserError(f"the data has no label '{options.label}'; it has "
                        f'{", ".join(frames.labels) or "none"}')
    chosen = np.flatnonzero(frames.split == 1)[:MAX_CALIBRATION_IMAGES]
    images = frames.images[chosen]
    if options.weights == 'float16' and len(images):
        same = rounding_agreement(run.network, images[:MAX_IMAGES])
        print(f'float16 weights: the identity is the same in {100 * same[0]:.2f} % of '
              f'{min(len(images), MAX_IMAGES)} validation images, its modules too in '
              f'{100 * same[1]:.2f} %')
    elif options.weights == 'float16':
        round_weights(run.network)
    search: dict[str, Any] = {'strategy': options.strategy}
    strategy: Strategy = exhaustive
    if options.strategy == 'fast':
        strategy = shortlist_for(run.network, frames)
        search |= strategy.facts()
    rows = np.flatnonzero(frames.split == 0)
    few = np.sort(np.random.default_rng(0).permutation(rows)[:MAX_CALIBRATION_IMAGES])
    familiarity = familiarity_for(run.network, frames.images[few], progress=True)
    deployed = DeployedNetwork(run.network, strategy, familiarity).eval()
    if options.strategy == 'fast' and len(images):
        # Without a recognizer all n are decoded.
        count = MAX_IMAGES if run.network.recognizer else max(LEAST_IMAGES, MAX_IMAGES * 5 // n)
        few = images[np.random.default_rng(0).permutation(len(images))[:count]]
        search['agreement'] = search_agreement(run.network, few, strategy, until_settled=True,
                                               progress=True)
    calibration = calibrate(deployed, images, True, options.false_alarms)
    labels = options.labels or [f'identity {j}' for j in range(n)]
    if options.label:
        # A name is read off all but the test images: a log has few clips for validation.
        named = np.flatnonzero(frames.split < 2)
        named = np.sort(np.random.default_rng(0).permutation(named)[:MAX_CALIBRATION_IMAGES])
        labels = name_identities(
            observe(run.network, frames.images[named], strategy=strategy).identity,
            frames.labels[options.label][named], frames.label_names[options.label], n)
    deployed.cpu()                                    # traced and checked there
    precision = 'float16' if options.float16 else 'float32'
    print(f'writing {options.out} and checking it against torch ...', file=sys.stderr)
    metadata = run_metadata(run, options.out.stem, labels, calibration, search, precision)
    export_onnx(run.network, options.out, metadata, images[:16], strategy, precision, familiarity)
    if (run.path / DYNAMICS).exists():
        files = export_dynamics(run.network, load_flow(run), options.out,
                                weights_hash(run.network))
        print(f'dynamics: {", ".join(map(str, files))}')
    if options.keep_run:
        keep_for_evaluation(run, options.keep_run)
    print(f'{options.out}: identities {", ".join(labels)}; checked against torch')
    if 'agreement' in search:
        agreement = search['agreement']
        print(f'the fast search found the identity of the exhaustive one in '
              f'{100 * agreement["identity"]:.2f} % of {agreement["images"]} validation images, '
              f'its modules too in {100 * agreement["identity_and_subset"]:.2f} %')


if __name__ == '__main__':
    run_cli(main)
