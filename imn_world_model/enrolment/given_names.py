"""Names that a user gives to a model's identities, from YAML into the file."""
import json
from pathlib import Path
from typing import Any

import onnx
import yaml

from imn_world_model.base.cli import write_whole
from imn_world_model.base.errors import UserError


def read_names(path: Path, labels: tuple[str, ...]) -> tuple[str, ...]:
    """
    What identities are called from now on.

    :param path: YAML of present name to new name; who is not in it keeps the present one.
    :param labels: present names of the n identities.
    :return: n names.
    :raises UserError: for a file that is not of this form, an identity that is not there, an
        empty name, or two identities of one name.
    """
    given = _mapping(path)
    names = list(labels)
    for key, value in given:
        if key not in labels:
            raise UserError(f"{path}: no identity is labelled '{key}'; there are "
                            f'{", ".join(labels)}')
        if not isinstance(value, str):
            raise UserError(f"{path}: the name of '{key}' is {value!r}, not a text; put it in "
                            'quotes')
        name = ' '.join(value.split())
        if not name:
            raise UserError(f"{path}: the name of '{key}' is empty; give one, or leave the line "
                            'out')
        names[labels.index(key)] = name
    for j, name in enumerate(names):
        first = names.index(name)
        if first != j:
            raise UserError(
                f"{path}: '{labels[first]}' and '{labels[j]}' would both be '{name}'; give two "
                'names, or make them one first: `python -m imn_world_model.enroll --merge`')
    return tuple(names)


def _mapping(path: Path) -> list[tuple[str, Any]]:
    """:return: keys and values of a YAML file, in its order."""
    form = 'give lines such as `identity 0: cup`'
    try:
        text = path.read_text(encoding='utf-8')
        node = yaml.compose(text, yaml.SafeLoader)
        found = yaml.safe_load(text)
    except UnicodeDecodeError as error:
        raise UserError(f'{path} is no text (UTF-8); {form}') from error
    except yaml.YAMLError as error:
        raise UserError(f'{path} is not YAML ({error}); {form}') from error
    if not isinstance(node, yaml.MappingNode) or not found:
        raise UserError(f'{path} holds no names; {form}')
    # Of keys that come twice, YAML would keep the last in silence.
    keys = [key.value for key, _ in node.value]
    for key in keys:
        if keys.count(key) > 1:
            raise UserError(f"{path} names '{key}' twice; leave one line out")
    return [(str(key), value) for key, value in found.items()]


def write_names(model: Path, names: tuple[str, ...], out: Path) -> None:
    """
    Write a copy of a model file under other names of its identities; all else stays.

    :param model: the exported file.
    :param names: of its n identities.
    :param out: the new file.
    """
    proto = onnx.load(model)
    next(entry for entry in proto.metadata_props if entry.key == 'labels').value = (
        json.dumps(names))
    write_whole(out, proto.SerializeToString())
