"""What the launch files make of their arguments; imports neither launch nor rclpy."""
from collections.abc import Iterable

import yaml

from imn_world_model.base.errors import UserError

LEVELS = {'debug': 'debug', 'info': 'info', 'warn': 'warn', 'warning': 'warn', 'error': 'error',
          'fatal': 'fatal', 'critical': 'fatal'}


def topics(text: str) -> list[str]:
    """
    Read the argument `image_topics`.

    :param text: one topic, several with commas, or a YAML list of them.
    :return: the topics.
    :raises UserError: when it names none, or what it holds are no names.
    """
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        value = None
    words = value.split(',') if isinstance(value, str) else value
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise UserError(f'image_topics:={text} is no list of topics; write '
                        'image_topics:=/front/image_raw,/left/image_raw')
    names = [word.strip() for word in words]
    if not names or not all(names):
        raise UserError(f'image_topics:={text} names no topic or an empty one; leave it '
                        'out for what the parameters file says')
    return names


def log_arguments(level: str, namespace: str, name: str) -> list[str]:
    """
    Build a node's command line arguments for its log level, not that of ROS' own libraries.

    :param level: debug, info, warn (or warning), error or fatal, in any case.
    :param namespace: of the node.
    :param name: of the node.
    :raises UserError: for another level.
    """
    if level.lower() not in LEVELS:
        raise UserError(f'log_level:={level} is no level; use one of: {", ".join(LEVELS)}')
    logger = '.'.join([*filter(None, namespace.split('/')), name])
    return ['--ros-args', '--log-level', f'{logger}:={LEVELS[level.lower()]}']


def check_known(given: Iterable[str], known: Iterable[str], file: str,
                command: Iterable[str]) -> None:
    """
    Refuse arguments on the command line that a launch file does not know.

    :param given: `name:=value` words of the command line.
    :param known: arguments that the launch file declares.
    :param file: name of the launch file.
    :param command: the whole command line; a file that it does not name is included by another,
        which may have arguments of its own.
    :raises UserError: naming the unknown ones and those there are.
    """
    known = list(known)
    names = [word.partition(':=')[0] for word in given if ':=' in word]
    unknown = [name for name in names if name not in known]
    if unknown and any(word.endswith(file) for word in command):
        raise UserError(f'{file} has no argument {", ".join(unknown)}; it has {", ".join(known)}')
