"""What a model says of several objects of a recording, counted against their names."""
import json
from pathlib import Path

import numpy as np
import pytest
from recordings import COMPRESSED, STORE, STRING, compressed, write_bag
from test_proposals import moving

from imn_world_model.base.errors import UserError
from imn_world_model.bench import identified
from imn_world_model.data.sources import find_sources
from imn_world_model.robot.inference import ImnModel

BOX = (10.0, 10.0, 40.0, 40.0)


def log_of(folder: Path, names: list[str], pause: int = 0) -> Path:
    """:return: a recording of two things with these names that move, 2 Hz, seconds in between."""
    messages = []
    for number, (picture, boxes) in enumerate(moving()):
        stamp = 10 ** 9 + number * 5 * 10 ** 8 + (number > 5) * pause * 10 ** 9
        messages.append(('/camera/image', COMPRESSED, stamp, compressed(picture, stamp)))
        told = {'stamp': stamp, 'objects': [{'object': name, 'box': box}
                                            for name, box in zip(names, boxes)]}
        messages.append(('/ground_truth', STRING, stamp, STORE.types[STRING](
            data=json.dumps(told))))
    return write_bag(folder, messages)


def test_names_that_the_tracks_bear_are_right_and_others_wrong(tiny_model, tmp_path, capsys):
    model = ImnModel(tiny_model, ['cpu'])
    first = log_of(tmp_path / 'first' / 'several' / 'one', list(model.labels[:2]))
    source, = find_sources([first])
    heard: list[list[str]] = []
    # What the model says of each in its true box, picture by picture.
    for name in model.labels[:2]:
        truth = {stamp: [(label, box) for label, box in there if label == name]
                 for stamp, there in identified.named_boxes(source).items()}
        heard.append([label for label in model.labels if identified.follow(
            source, {stamp: [(label, box) for _, box in there] for stamp, there in truth.items()},
            model, identified.in_true_boxes).right == 12])
    assert [len(labels) for labels in heard] == [1, 1]     # one and the same in every picture
    said = [labels[0] for labels in heard]
    others = [next(label for label in model.labels if label not in said) for _ in said]
    figures = identified.run(tmp_path / 'first', model)
    share = np.mean([name == label for name, label in zip(model.labels[:2], said)])
    assert figures['several/one right in true boxes'] == share
    assert figures['several/one switches in true boxes'] == 0.0
    assert figures['several/one found'] >= 0.9
    log_of(tmp_path / 'second' / 'several' / 'one', others)
    wrong = identified.run(tmp_path / 'second', model)
    assert [wrong[f'several/one right in {kind} boxes'] for kind in ('true', 'found')] == [0, 0]
    assert '| several/one |' in capsys.readouterr().out
    log_of(tmp_path / 'third' / 'several' / 'one', ['teapot', 'kettle'])
    with pytest.raises(UserError, match='no recording in .* names an object that .* --label'):
        identified.run(tmp_path / 'third', model)


def test_an_object_that_gets_another_track_has_switched(tiny_model, tmp_path):
    model = ImnModel(tiny_model, ['cpu'])
    source, = find_sources([log_of(tmp_path / 'one', list(model.labels[:2]))])
    truth = identified.named_boxes(source)
    steady = identified.follow(source, truth, model, identified.in_true_boxes)
    assert (steady.found, steady.switches, len(steady.keys)) == (24, 0, 24)
    stamps = sorted(truth)
    # The names change places in one picture and back: each of the two switches twice.
    truth[stamps[5]] = [(name, box) for (name, _), (_, box) in zip(
        truth[stamps[5]], reversed(truth[stamps[5]]))]
    assert identified.follow(source, truth, model, identified.in_true_boxes).switches == 4
    # One that is away for a picture is a new one.
    truth[stamps[5]] = []
    assert identified.follow(source, truth, model, identified.in_true_boxes).switches == 0


@pytest.mark.parametrize(('pause', 'switches'), [(0, 2), (5, 0)])
def test_after_a_pause_objects_are_new_ones(tiny_model, tmp_path, pause, switches):
    model = ImnModel(tiny_model, ['cpu'])
    source, = find_sources([log_of(tmp_path / 'one', list(model.labels[:2]), pause)])
    truth = identified.named_boxes(source)
    for stamp in sorted(truth)[6:]:
        truth[stamp] = [(name, box) for (name, _), (_, box) in zip(
            truth[stamp], reversed(truth[stamp]))]
    found = identified.follow(source, truth, model, identified.in_true_boxes)
    assert (found.found, found.switches) == (24, switches)


def test_each_box_is_for_one_object():
    assert identified.pairs([BOX], [('one', BOX), ('other', BOX)]) == [(0, ('one', BOX))]
    assert identified.pairs([(200.0, 0.0, 9.0, 9.0), BOX], [('one', BOX)]) == [(1, ('one', BOX))]
    assert identified.pairs([], [('one', BOX)]) == []
