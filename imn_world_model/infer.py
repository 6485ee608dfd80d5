"""``python -m imn_world_model.infer``: the node's answers, offline, one JSON object a frame."""
import argparse
import sys
from pathlib import Path

from imn_world_model.base.cli import atomic_path, run_cli
from imn_world_model.base.errors import UserError
from imn_world_model.base.shipped import shipped_model
from imn_world_model.data.sources import find_sources
from imn_world_model.robot.answers import write_answers
from imn_world_model.robot.inference import ImnModel

# ONNX Runtime's providers for what the other commands call accelerators.
ACCELERATORS = {'auto': None, 'cpu': ['cpu'], 'gpu': ['cuda']}


def main(arguments: list[str] | None = None) -> None:
    """Command line of offline inference."""
    parser = argparse.ArgumentParser(prog='imn_world_model.infer', description=__doc__)
    parser.add_argument('--model', type=Path, default=shipped_model(), metavar='FILE.onnx',
                        help='that export wrote (default: the one that comes with the package)')
    parser.add_argument('--data', nargs='+', type=Path, required=True, metavar='PATH',
                        help='whatever train reads')
    parser.add_argument('--out', type=Path, required=True, metavar='FILE.jsonl')
    parser.add_argument('--topics', nargs='+', default=[], metavar='GLOB',
                        help='image topics to use (default: all)')
    parser.add_argument('--batch', type=int, default=16, help='frames per inference')
    parser.add_argument('--providers', nargs='+', metavar='NAME',
                        help='tensorrt, cuda, cpu, best first (default: what is installed)')
    parser.add_argument('--accelerator', choices=tuple(ACCELERATORS), default='auto',
                        help='in place of --providers: cpu, gpu (CUDA) or auto')
    options = parser.parse_args(arguments)
    if options.batch < 1:
        raise UserError(f'--batch is {options.batch}; it must be at least 1')
    model = ImnModel(options.model, options.providers or ACCELERATORS[options.accelerator])
    notes: list[str] = []
    sources = find_sources(options.data, notes)
    for note in notes:
        print(note, file=sys.stderr)
    with atomic_path(options.out) as scratch, scratch.open('w') as stream:
        count, problems = write_answers(model, sources, tuple(options.topics), options.batch,
                                        stream)
        for problem in problems:
            print(problem, file=sys.stderr)
        if not count:
            raise UserError(f'nothing usable in {", ".join(map(str, options.data))}')
    print(f'{options.out}: {count} frames by {model.name} on {model.provider}')


if __name__ == '__main__':
    run_cli(main)
