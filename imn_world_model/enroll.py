"""
``python -m imn_world_model.enroll``: teach an exported model one more object, or let one go.

An identity is learnt alone, from one clip of the object; everything else in the file stays as it
is. The work is in :mod:`pool`; this file reads, checks and writes.
"""
import argparse
import json
from dataclasses import asdict
from pathlib import Path

from imn_world_model.base.cli import run_cli
from imn_world_model.base.errors import UserError
from imn_world_model.enrolment import pool
from imn_world_model.enrolment.enrol import _changed, _number, enrol, read_views
from imn_world_model.robot.inference import ImnModel


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog='imn_world_model.enroll', description=__doc__)
    parser.add_argument('--model', type=Path, required=True, metavar='FILE.onnx')
    parser.add_argument('--out', type=Path, required=True, metavar='NEW.onnx')
    parser.add_argument('--data', nargs='+', type=Path, metavar='PATH',
                        help='one clip of the new object, some dozen views: whatever train reads')
    parser.add_argument('--label', metavar='NAME', help='of the new object')
    parser.add_argument('--anyway', action='store_true',
                        help='enrol what the model seems to know already, too')
    parser.add_argument('--json', action='store_true', help='report as a line of JSON')
    parser.add_argument('--forget', metavar='LABEL', help='take an identity out')
    parser.add_argument('--merge', nargs=2, metavar=('A', 'B'),
                        help='make one identity of two, under the name of A')
    options = parser.parse_args(arguments)
    asked = [name for name in ('data', 'forget', 'merge') if getattr(options, name)]
    if len(asked) != 1 or (asked == ['data']) != bool(options.label):
        parser.error('give --data and --label, or --forget, or --merge')
    model = ImnModel(options.model, ['cpu'])
    if options.forget:
        gone = _number(model.labels, options.forget)
        if len(model.labels) == 1:
            raise UserError(f"'{options.forget}' is the only identity of {options.model}; a model "
                            'has at least one')
        rest = [j for j in range(len(model.labels)) if j != gone]
        _changed(options.model, options.out, lambda before: pool.kept(before, rest))
        print(f"{options.out}: '{options.forget}' is gone, {len(rest)} identities are left")
    elif options.merge:
        first, second = (_number(model.labels, label) for label in options.merge)
        if first == second:
            raise UserError(f"--merge was given '{options.merge[0]}' twice; give two identities")
        _changed(options.model, options.out, lambda before: pool.merged(before, first, second))
        print(f"{options.out}: '{options.merge[1]}' is '{options.merge[0]}' now")
    else:
        views = read_views(model, options.data)
        report = enrol(options.model, views, options.label, options.out, options.anyway,
                       progress=not options.json)
        if options.json:
            print(json.dumps(asdict(report) | {'text': str(report)}))
        else:
            print(f"{options.out}: '{options.label}' {report}")


if __name__ == '__main__':
    run_cli(main)
