"""
``python -m imn_world_model.label``: a page on which you name the identities that were found.

With `--data`, a page that shows the most typical pictures of each; it downloads `names.yaml`. With
`--names`, a copy of the model that answers with these names.
"""
import argparse
from pathlib import Path

from imn_world_model.base.cli import run_cli, write_whole
from imn_world_model.base.errors import UserError
from imn_world_model.enrolment.typical import typical
from imn_world_model.robot.inference import ImnModel


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog='imn_world_model.label', description=__doc__)
    parser.add_argument('--model', type=Path, required=True, metavar='FILE.onnx')
    parser.add_argument('--data', nargs='+', type=Path, metavar='PATH',
                        help='whatever train reads; the page shows pictures of it')
    parser.add_argument('--topics', nargs='+', default=[], metavar='GLOB',
                        help='image topics to use (default: all)')
    parser.add_argument('--names', type=Path, metavar='FILE.yaml',
                        help='that the page has downloaded, or lines such as `identity 0: cup`')
    parser.add_argument('--out', type=Path, required=True, metavar='PAGE.html or NEW.onnx')
    options = parser.parse_args(arguments)
    if bool(options.data) == bool(options.names):
        parser.error('give --data for a page, or --names for a model with names')
    suffix = '.html' if options.data else '.onnx'
    if options.out.suffix != suffix:
        raise UserError(f'--out is {options.out}; its name must end in {suffix}')
    if options.out.exists():
        raise UserError(f'{options.out} exists; give a name that is free, or remove it')
    try:
        from imn_world_model.enrolment.given_names import read_names, write_names
        from imn_world_model.enrolment.label_page import page
    except ImportError as error:
        raise UserError(f'label needs onnx and jinja2 ({error}); pip install onnx jinja2'
                        ) from error
    model = ImnModel(options.model, ['cpu'])
    if options.names:
        names = read_names(options.names, model.labels)
        write_names(options.model, names, options.out)
        changed = sum(old != new for old, new in zip(model.labels, names, strict=True))
        print(f'{options.out}: {changed} of {len(names)} identities have another name')
        return
    shown = typical(model, options.data, tuple(options.topics))
    write_whole(options.out, page(shown, options.model, options.data).encode())
    print(f'{options.out}: {len(shown)} identities; open it in a browser')


if __name__ == '__main__':
    run_cli(main)
