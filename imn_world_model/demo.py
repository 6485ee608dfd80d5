"""
``python -m imn_world_model.demo``: a camera log, through the node, to identities and matrices.

Starts the node as a process of its own, plays the log into it through ROS topics, prints every
answer, and leaves a recording of both output topics and a picture of what the model saw.
"""
import argparse
import os
import shutil
from pathlib import Path

from imn_world_model.base.cli import run_cli
from imn_world_model.base.errors import UserError
from imn_world_model.nodes.demonstration import ROOT, draw, run, summary


def main(arguments: list[str] | None = None) -> None:
    """Command line of the demo."""
    parser = argparse.ArgumentParser(prog='imn_world_model.demo', description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--model', type=Path, default=ROOT / 'export' / 'demo.onnx')
    parser.add_argument('--log', type=Path, default=ROOT / 'demo' / 'log',
                        help='rosbag2 folder with the camera images')
    parser.add_argument('--out', type=Path, default=ROOT / 'demo', help='folder for the results')
    parser.add_argument('--rate', type=float, default=1.5, help='1 plays at the recorded speed')
    options = parser.parse_args(arguments)
    if options.rate <= 0:
        raise UserError(f'--rate is {options.rate}; it must be above 0')
    if not options.model.is_file():
        raise UserError(f'model {options.model} does not exist; give one with --model')

    # A demo should neither hear nor disturb robots on the network.
    os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    recording = options.out / 'output_bag'
    options.out.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(recording, ignore_errors=True)
    print(f'{options.log} -> node with {options.model.name} -> /imn/identity, /imn/transform',
          flush=True)
    answers = run(options.model.resolve(), options.log, options.rate, recording)
    print(summary(answers))
    draw(answers, options.out / 'output.png')
    print(f'picture: {options.out / "output.png"}\nrecorded topics: {recording}')


if __name__ == '__main__':
    run_cli(main)
