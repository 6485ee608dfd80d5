"""
``python -m imn_world_model.track``: does filtering help? Measured on a log with ground truth.

The model answers every image of the log; the filter of the state estimator follows the
Lie-algebra coordinates. Linear maps from raw and from filtered coordinates to a true quantity are
fitted on a training part, either another log or every other image of the same one, and tell how
far raw and filtered coordinates of the remaining images are from the truth. Frames of one clip
resemble each other, so only another log shows how far the map holds in scenes it has not seen.

    python -m imn_world_model.track                          the demo log, every other image
    python -m imn_world_model.track --occlude 0.1            something gets in the way now and then
    python -m imn_world_model.simulate --out logs/drive --clips 40 --frames 32 --seed 1
    python -m imn_world_model.track --fit-log logs/drive     a training part of its own
"""
import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from imn_world_model.base.cli import run_cli
from imn_world_model.base.errors import UserError
from imn_world_model.robot.inference import ImnModel
from imn_world_model.robot.replay import Log, apply, draw, follow, linear_fit, occlude, read_log
from imn_world_model.robot.tracking import TrackingOptions

ROOT = Path(__file__).resolve().parent.parent


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog='imn_world_model.track', description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--model', type=Path, default=ROOT / 'export' / 'demo.onnx')
    parser.add_argument('--log', type=Path, default=ROOT / 'demo' / 'log')
    parser.add_argument('--fit-log', type=Path,
                        help='log to fit the maps on; default: every other image of --log')
    parser.add_argument('--quantities', nargs='+', default=['distance', 'bearing'])
    parser.add_argument('--occlude', type=float, default=0.0, metavar='SHARE',
                        help='cover part of this share of the images, drawn at random')
    parser.add_argument('--out', type=Path, default=Path('track.png'), help='the plot')
    defaults = TrackingOptions()
    for name in ('acceleration', 'variance_scale'):
        parser.add_argument(f'--{name.replace("_", "-")}', type=float,
                            default=getattr(defaults, name))
    options = parser.parse_args(arguments)
    if not 0.0 <= options.occlude <= 1.0:
        raise UserError(f'--occlude is {options.occlude}; it is a share, from 0 to 1')
    model = ImnModel(options.model)
    log = read_log(options.log, model, options.quantities)
    filter_options = TrackingOptions(acceleration=options.acceleration,
                                     variance_scale=options.variance_scale)
    coordinates = follow(model, log, filter_options)
    known = coordinates
    if options.occlude:
        # The maps are fitted on images with nothing in the way.
        coordinates = follow(model, replace(log, images=occlude(log.images, options.occlude)),
                             filter_options)
    if options.fit_log:
        training = read_log(options.fit_log, model, options.quantities)
        known = follow(model, training, filter_options)
        tested = np.full(len(log.time), True)
    else:
        tested = np.arange(len(log.time)) % 2 == 1
        training = Log(log.time[~tested], log.images[~tested],
                       {name: values[~tested] for name, values in log.truth.items()})
        known = known[0][~tested], known[1][~tested]
    measured_values, filtered_values = {}, {}
    for name in options.quantities:
        measured_values[name], filtered_values[name] = (
            apply(linear_fit(fitted, training.truth[name]), values)
            for fitted, values in zip(known, coordinates, strict=True))
        errors = [np.sqrt(np.mean((values[name] - log.truth[name])[tested] ** 2))
                  for values in (measured_values, filtered_values)]
        print(f'{name:12} spread {log.truth[name].std():.4f}, error measured {errors[0]:.4f}, '
              f'filtered {errors[1]:.4f}, ratio {errors[1] / errors[0]:.2f}')
    draw(log, measured_values, filtered_values, options.out)
    print(f'plot: {options.out}')


if __name__ == '__main__':
    run_cli(main)
