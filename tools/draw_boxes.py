r"""
Write boxes that were drawn by hand into a recording's ground truth.

    .venv/bin/python tools/draw_boxes.py ../shared/data/real/tools/condition_4 \
        docs/figures/tools_4_boxes.json tools_4

The file maps an image's stamp (nanoseconds) to x, y, width, height in pixels. The recording has a
topic ``/ground_truth`` of JSON strings with ``stamp``; of stamps without a box it stays as it is.
"""
import argparse
import json
from pathlib import Path

from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import StoragePlugin, Writer

from imn_world_model.base.cli import atomic_path, run_cli
from imn_world_model.base.errors import UserError

TRUTH = '/ground_truth'


def main(arguments: list[str] | None = None) -> None:
    """Copy a recording, message by message."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('recording', type=Path)
    parser.add_argument('boxes', type=Path, metavar='FILE.json')
    parser.add_argument('out', type=Path)
    options = parser.parse_args(arguments)
    if not (options.recording / 'metadata.yaml').is_file():
        raise UserError(f'{options.recording} is no rosbag2 recording; give a folder with a '
                        'metadata.yaml')
    if options.out.exists():
        raise UserError(f'{options.out} is there already; give another place')
    try:
        drawn = json.loads(options.boxes.read_text())
    except ValueError as error:
        raise UserError(f'{options.boxes} is no JSON: {error}') from None
    with AnyReader([options.recording]) as reader, atomic_path(options.out) as folder, \
            Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        store = reader.typestore
        copies = {each.id: writer.add_connection(each.topic, each.msgtype, typestore=store)
                  for each in reader.connections}
        for connection, time, raw in reader.messages():
            if connection.topic == TRUTH:
                message = reader.deserialize(raw, connection.msgtype)
                labels = json.loads(message.data)
                if (box := drawn.get(str(labels['stamp']))) is not None:
                    text = type(message)(data=json.dumps({**labels, 'box': box}))
                    raw = store.serialize_cdr(text, connection.msgtype)
            writer.write(copies[connection.id], time, raw)


if __name__ == '__main__':
    run_cli(main)
