"""``python -m imn_world_model``: which version this is, and what can be typed."""
import argparse
import ast
from pathlib import Path

from imn_world_model import __version__
from imn_world_model.base.cli import run_cli
from imn_world_model.base.errors import UserError

PREFIX = '``python -m imn_world_model.'


def commands() -> dict[str, str]:
    """
    Read the commands off the modules that are there; none of them is imported.

    :return: what each command does, by its name: the first line of its module's docstring.
    """
    folder = Path(__file__).parent
    found = {}
    for path in sorted([*folder.glob('*.py'), *folder.glob('*/__main__.py')]):
        text = ' '.join((ast.get_docstring(ast.parse(path.read_text())) or '').split('\n\n')[0]
                        .split())
        if text.startswith(PREFIX):
            call, _, purpose = text.removeprefix(PREFIX).partition('``: ')
            found[call.split()[0]] = purpose
    return found


def main(arguments: list[str] | None = None) -> None:
    """Command line of the package itself."""
    lines = [f'  {name:9} {purpose}' for name, purpose in commands().items()]
    parser = argparse.ArgumentParser(
        prog='imn_world_model', description='Object identities and transforms from camera logs.',
        epilog='\n'.join(['commands, as in `python -m imn_world_model.train --help`:', *lines]),
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--version', action='version', version=f'imn_world_model {__version__}')
    _, rest = parser.parse_known_args(arguments)
    if rest and rest[0] in commands():
        raise UserError(f'commands are modules: python -m imn_world_model.{" ".join(rest)}')
    if rest:
        raise UserError(f"there is no command '{rest[0]}'; there are {', '.join(commands())}")
    parser.print_help()


if __name__ == '__main__':
    run_cli(main)
