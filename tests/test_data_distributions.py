"""Recordings as Humble, Iron, Jazzy and Kilted lay them out."""
import sqlite3
from pathlib import Path

import pytest
import yaml
from recordings import drive, storage_file, write_bag
from rosbags.rosbag2 import StoragePlugin

from imn_world_model.data.bags import promised_images
from imn_world_model.data.frames import DataOptions, load_frames

# Humble's plugin for sqlite3, `CREATE TABLE` as in its source; Foxy had no QoS column.
HUMBLE_TOPICS = ('id INTEGER PRIMARY KEY, name TEXT NOT NULL, type TEXT NOT NULL, '
                 'serialization_format TEXT NOT NULL')
QOS = ', offered_qos_profiles TEXT NOT NULL'


def as_humble(bag: Path, qos: bool) -> None:
    """Bring a recording into the form of rosbag2's version 5, or of its first."""
    metadata = bag / 'metadata.yaml'
    content = yaml.safe_load(metadata.read_text())
    information = content['rosbag2_bagfile_information']
    information['version'] = 5
    for name in ('custom_data', 'ros_distro'):
        information.pop(name, None)
    for item in information['topics_with_message_count']:
        item['topic_metadata'].pop('type_description_hash', None)
        item['topic_metadata']['offered_qos_profiles'] = '- history: 3\n  depth: 0\n'
    metadata.write_text(yaml.safe_dump(content))
    file = storage_file(bag)
    if file.suffix != '.db3':
        return
    columns = 'id, name, type, serialization_format' + (', offered_qos_profiles' if qos else '')
    with sqlite3.connect(file) as database:
        database.execute('ALTER TABLE topics RENAME TO newer')
        database.execute(f'CREATE TABLE topics ({HUMBLE_TOPICS}{QOS if qos else ""})')
        database.execute(f'INSERT INTO topics SELECT {columns} FROM newer')
        for table in ('newer', 'message_definitions', 'schema', 'metadata'):
            database.execute(f'DROP TABLE IF EXISTS {table}')
    database.close()


@pytest.mark.parametrize('storage', [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
@pytest.mark.parametrize('layout', ['first', 'humble', 'iron', 'jazzy'])
def test_layout_of_every_distribution_is_read(layout: str, storage: StoragePlugin, tmp_path: Path
                                              ) -> None:
    version = 9 if layout == 'jazzy' else 8          # Kilted writes Jazzy's
    bag = write_bag(tmp_path / 'bag', drive(), storage, version=version)
    if layout in ('first', 'humble'):
        as_humble(bag, qos=layout == 'humble')
    options = DataOptions(size=16, cache_dir=tmp_path / 'cache', still=0.0)
    frames = load_frames([bag], options, progress=False)
    assert len(frames.images) == 18 and not frames.notes
    assert frames.reports[0]['recorded'] == 18
    # The metadata is understood: it would tell of what a damaged file lost.
    assert promised_images(bag) == {'/camera/image': 18}
