r"""
Write boxes that were drawn by hand into a recording's ground truth.

    .venv/bin/python tools/draw_boxes.py ../shared/data/real/tools/condition_4 \
        docs/figures/tools_4_boxes.json tools_4

The file maps an image's stamp (nanoseconds) to x, y, width, height in pixels. The recording has a
topic ``/ground_truth`` of JSON strings with ``stamp``; of stamps without a box it stays as it is.
"""
import json
import sys
from pathlib import Path

from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import StoragePlugin, Writer

TRUTH = '/ground_truth'


def main(recording: str, boxes: str, out: str) -> None:
    """Copy a recording, message by message."""
    drawn = json.loads(Path(boxes).read_text())
    with AnyReader([Path(recording)]) as reader, \
            Writer(Path(out), version=9, storage_plugin=StoragePlugin.MCAP) as writer:
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
    main(*sys.argv[1:])
