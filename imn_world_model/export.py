"""``python -m imn_world_model.export``: a trained run as one ONNX file, checked against torch."""
import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from imn_world_model.base.cli import run_cli
from imn_world_model.base.errors import UserError
from imn_world_model.data.frames import load_frames
from imn_world_model.exporting.agreement import (
    Winners,
    rounding_agreement,
    search_agreement,
    some_images,
)
from imn_world_model.exporting.calibration import (
    FALSE_ALARM_RATE,
    MAX_CALIBRATION_IMAGES,
    calibrate,
    familiarity_for,
)
from imn_world_model.exporting.deployed import DeployedNetwork, without_chance
from imn_world_model.exporting.graph import export_onnx, run_metadata
from imn_world_model.exporting.search_fit import Fitted, fitted_search, named_by
from imn_world_model.judging.metrics import name_identities
from imn_world_model.learning.hardware import add_accelerator_option, device_for
from imn_world_model.learning.run import DYNAMICS, keep_for_evaluation, load_run, weights_hash
from imn_world_model.model.compact import round_constants, round_weights
from imn_world_model.model.winner import Strategy, exhaustive
from imn_world_model.prediction.graph import export_dynamics
from imn_world_model.prediction.training import load_flow


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
    without_chance(run.network)
    few = some_images(run.network, images)
    exact: Winners | None = None
    if options.weights == 'float16' and len(images):
        same, exact = rounding_agreement(run.network, few, progress=True)
        print(f'float16 weights: the identity is the same in {100 * same["identity"]:.2f} % of '
              f'{same["images"]} validation images, its modules too in '
              f'{100 * same["identity_and_subset"]:.2f} %')
    elif options.weights == 'float16':
        round_weights(run.network)
    search: dict[str, Any] = {'strategy': options.strategy}
    strategy: Strategy = exhaustive
    fitted: Fitted | None = None
    if options.strategy == 'fast':
        fitted = fitted_search(run.network, frames)
        strategy = fitted.shortlist
        if options.weights == 'float16':
            strategy = strategy.rounded()
        search |= fitted.shortlist.facts()
    rows = np.flatnonzero(frames.split == 0)
    seen = np.sort(np.random.default_rng(0).permutation(rows)[:MAX_CALIBRATION_IMAGES])
    familiarity, kept = familiarity_for(run.network, frames.images[seen], frames.clip[seen],
                                        progress=True)
    if familiarity is not None and options.weights == 'float16':
        round_constants(familiarity)
    deployed = DeployedNetwork(run.network, strategy, familiarity).eval()
    if options.strategy == 'fast' and len(images):
        search['agreement'] = search_agreement(run.network, few, strategy, until_settled=True,
                                               progress=True, exact=exact)
    calibration = calibrate(deployed, images, True, options.false_alarms, kept)
    labels = options.labels or [f'identity {j}' for j in range(n)]
    if options.label:
        named, winners = named_by(run.network, frames, fitted, MAX_CALIBRATION_IMAGES)
        labels = name_identities(winners, frames.labels[options.label][named],
                                 frames.label_names[options.label], n)
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
