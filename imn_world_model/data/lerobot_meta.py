"""
What a LeRobot data set says of itself: its cameras, its episodes and the files that hold them.

Versions 2.x have a file per episode, named by its number, and ``meta/episodes.jsonl``. Version 3
has many episodes in a file; ``meta/episodes/`` tells which, and where in the video each begins.
https://huggingface.co/docs/lerobot/lerobot-dataset-v3
"""
import json
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from imn_world_model.base.errors import UserError

INFO = Path('meta') / 'info.json'
FILE_SUFFIXES = ('.json', '.jsonl', '.parquet', '.mp4')
FOLDERS = ('meta', 'data', 'videos')
ACTION = 'action'


@dataclass(frozen=True)
class Video:
    """
    Where a camera's pictures of an episode are.

    :param path: of the file.
    :param start: seconds from its beginning to that of the episode.
    """

    path: Path
    start: float = 0.0


@dataclass(frozen=True)
class Episode:
    """
    One take.

    :param number: as the data set counts.
    :param length: frames of each camera.
    :param data: Parquet file with its stamps and actions.
    :param videos: camera -> its video.
    """

    number: int
    length: int
    data: Path
    videos: dict[str, Video]


@dataclass(frozen=True)
class DataSet:
    """
    What is recorded.

    :param rate: frames per second.
    :param cameras: key -> ``video`` or ``image`` (pictures inside the Parquet files).
    :param codecs: camera -> how its videos are coded, where that is said.
    :param depth: cameras of depth.
    :param actions: column -> names of its numbers.
    :param episodes: in order.
    """

    rate: float
    cameras: dict[str, str]
    codecs: dict[str, str]
    depth: frozenset[str]
    actions: dict[str, tuple[str, ...]]
    episodes: tuple[Episode, ...]


def parquet() -> Any:
    """
    Import the reader of Parquet files, which few need.

    :return: the module ``pyarrow.parquet``.
    :raises UserError: where it is not installed.
    """
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise UserError('LeRobot data sets are read with pyarrow, which is not installed; '
                        "pip install 'imn_world_model[lerobot]', or pyarrow alone") from error
    return pyarrow.parquet


def is_lerobot(path: Path) -> bool:
    """:return: whether a folder is a LeRobot data set; other tools' have meta/info.json, too."""
    try:
        return b'codebase_version' in (path / INFO).read_bytes()
    except OSError:
        return False


def lerobot_files(path: Path) -> list[Path]:
    """:return: the files of a data set, in a fixed order."""
    return sorted(file for name in FOLDERS for file in (path / name).rglob('*')
                  if file.suffix.lower() in FILE_SUFFIXES and file.is_file())


def read_description(root: Path) -> DataSet:
    """
    Read ``meta/``.

    :param root: of the data set.
    :raises UserError: when something in it is missing, broken or of another version.
    """
    try:
        info = json.loads((root / INFO).read_text())
        version = str(info['codebase_version'])
        features = {str(key): dict(feature) for key, feature in info['features'].items()}
        cameras = {key: feature['dtype'] for key, feature in features.items()
                   if feature['dtype'] in ('video', 'image')}
        rate = float(info['fps'])
        if not rate > 0:
            raise ValueError
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(f'{root / INFO} is no description of a LeRobot data set '
                        f'({type(error).__name__}: {error})') from error
    if version.lstrip('v').split('.')[0] not in ('2', '3'):
        raise UserError(f'{root / INFO} is of LeRobot {version}; known are 2.0, 2.1 and 3.0')
    told = {key: {**(feature.get('video_info') or {}), **(feature.get('info') or {})}
            for key, feature in features.items() if key in cameras}
    read = _episodes_by_file if version.lstrip('v').startswith('2') else _episodes_by_table
    return DataSet(
        rate, cameras,
        codecs={key: str(about['video.codec']) for key, about in told.items()
                if 'video.codec' in about},
        depth=frozenset(key for key, about in told.items() if any(
            name.endswith('is_depth_map') and value for name, value in about.items())),
        actions={key: _names(key, feature) for key, feature in features.items()
                 if key == ACTION or key.startswith(f'{ACTION}.')},
        episodes=read(root, info, [key for key in cameras if cameras[key] == 'video']))


def _names(key: str, feature: dict[str, Any]) -> tuple[str, ...]:
    """:return: a name for each number of a column; their own names where there are as many."""
    def leaves(names: Any) -> list[str]:
        if isinstance(names, dict):
            # {'motors': ['shoulder', ...]} or {'shoulder': 0, ...}
            inner = [leaf for value in names.values() for leaf in leaves(value)]
            return inner or [str(name) for name in names]
        if isinstance(names, list):
            return [leaf for name in names for leaf in leaves(name)]
        return [names] if isinstance(names, str) else []

    try:
        count = prod(int(side) for side in feature.get('shape') or (1,))
    except (TypeError, ValueError):
        count = 1
    names = leaves(feature.get('names'))
    if len(names) != count or len(set(names)) != count:
        names = [str(k) for k in range(count)]
    return tuple(f'{key}.{name}' for name in names)


def _episodes_by_file(root: Path, info: dict[str, Any], videos: list[str]
                      ) -> tuple[Episode, ...]:
    file = root / 'meta' / 'episodes.jsonl'
    try:
        rows = [json.loads(line) for line in file.read_text().splitlines() if line.strip()]
        size = int(info.get('chunks_size', 1000))
        episodes = []
        for row in rows:
            number = int(row['episode_index'])
            place = {'episode_chunk': number // size, 'episode_index': number}
            episodes.append(Episode(
                number, int(row['length']), root / info['data_path'].format(**place),
                {key: Video(root / info['video_path'].format(**place, video_key=key))
                 for key in videos}))
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(f'{file} with {INFO} does not tell the episodes '
                        f'({type(error).__name__}: {error})') from error
    return tuple(episodes)


def _episodes_by_table(root: Path, info: dict[str, Any], videos: list[str]
                       ) -> tuple[Episode, ...]:
    reader = parquet()
    folder = root / 'meta' / 'episodes'
    episodes = []
    try:
        files = sorted(folder.rglob('*.parquet'))
        if not files:
            raise FileNotFoundError('no Parquet file in there')
        columns = ['episode_index', 'length', 'data/chunk_index', 'data/file_index', *(
            f'videos/{key}/{name}' for key in videos
            for name in ('chunk_index', 'file_index', 'from_timestamp'))]
        for file in files:
            for row in reader.read_table(file, columns=columns).to_pylist():
                episodes.append(Episode(
                    row['episode_index'], int(row['length']),
                    root / info['data_path'].format(chunk_index=row['data/chunk_index'],
                                                    file_index=row['data/file_index']),
                    {key: Video(root / info['video_path'].format(
                        video_key=key, chunk_index=row[f'videos/{key}/chunk_index'],
                        file_index=row[f'videos/{key}/file_index']),
                        float(row[f'videos/{key}/from_timestamp'])) for key in videos}))
    except Exception as error:                        # pyarrow's are of many kinds
        raise UserError(f'{folder} with {INFO} does not tell the episodes '
                        f'({type(error).__name__}: {" ".join(str(error).split())})') from error
    return tuple(episodes)
