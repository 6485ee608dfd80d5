"""
Objects that training never saw, taught from one clip each; judged on another day.

The folder holds recordings with a topic ``/ground_truth`` of JSON strings (``object``,
``category``). Of every category the last object, by name, is left out of training. The network
learns from all recordings but the last, without labels; each object left out is enrolled from its
clip in the first; all are judged on the last. Labels name identities, one to one on the training
recordings, and judge.
"""
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from imn_world_model import enroll
from imn_world_model.base.config import Config, override
from imn_world_model.base.errors import UserError
from imn_world_model.bench import row
from imn_world_model.bench.real import PROTOCOLS, one_to_one, read
from imn_world_model.data.frames import DataOptions, Frames
from imn_world_model.enrolment.enrol import enrol, known_as
from imn_world_model.exporting.calibration import calibrate, familiarity_for
from imn_world_model.exporting.deployed import DeployedNetwork
from imn_world_model.exporting.graph import export_onnx, run_metadata
from imn_world_model.exporting.search_fit import shortlist_for
from imn_world_model.learning.fit import train
from imn_world_model.learning.loading import Rows
from imn_world_model.learning.presets import preset
from imn_world_model.learning.run import Run, kept_options, load_run
from imn_world_model.model.observe import observe
from imn_world_model.robot.inference import ImnModel
from imn_world_model.vision.preprocess import Crop

PROTOCOL = next(protocol for protocol in PROTOCOLS if protocol.name == 'plain-I')
# Share of known objects' images that may pass for novel. It is counted on training clips, each
# judged by one clip less than the model knows; 0.02 to 0.04 came of it on the last recording.
FALSE_ALARMS = 0.08
# One of so many training clips is for the thresholds.
HELD_OUT = 10
VIEWS = (1, 3, 5, 13)
BATCH = 32


def select(frames: Frames, chosen: np.ndarray) -> Frames:
    """:return: the frames where ``chosen`` (N,) is true."""
    rows = np.flatnonzero(chosen)
    return replace(
        frames, images=Rows(frames.images, rows),
        clip=np.unique(frames.clip[rows], return_inverse=True)[1], split=frames.split[rows],
        source=frames.source[rows], topic=frames.topic[rows], stamp=frames.stamp[rows],
        index=frames.index[rows],
        labels={name: value[rows] for name, value in frames.labels.items()},
        values={name: value[rows] for name, value in frames.values.items()})


def run(folder: Path, seeds: list[int], preset_name: str, settings: list[str],
        out: Path, in_a_row: int = 0, accelerator: str = 'auto') -> dict[str, float]:
    """
    Train, enrol and judge with every seed; a line each as soon as it is there.

    :param folder: of the recordings.
    :param seeds: of training.
    :param preset_name: what is trained.
    :param settings: ``section.key=value``.
    :param out: where run folders and models go.
    :param in_a_row: objects that are enrolled one after another, beside; see :mod:`row`.
    :param accelerator: what training runs on.
    :return: figure -> value.
    :raises UserError: for a folder without such recordings.
    """
    warnings.filterwarnings('ignore', module='lightning')
    config = override(preset(preset_name), settings)
    learn, judge = read(folder, PROTOCOL, config.model)
    if 'category' not in learn.labels:
        raise UserError(f'{folder}: the ground truth tells no category')
    new = left_out(learn)
    print(f'{len(new)} objects are left out: '
          f'{", ".join(learn.label_names["object"][k] for k in new)}\n'
          '| seed | old ones before | after | new ones | by views '
          f'({", ".join(map(str, VIEWS))}) | novel: new, old | after forgetting all | '
          'seconds each (median, most) |\n|---|---|---|---|---|---|---|---|', flush=True)
    figures: dict[str, float] = {}
    for seed in seeds:
        trained = train_without(config, seed, learn, new, out / f'{preset_name}-seed{seed}',
                                accelerator)
        found = judge_run(trained, learn, judge, new, out)
        if in_a_row:
            name = trained.path.name
            found |= row.run(out / f'{name}.onnx', out / f'{name}-row.onnx', learn, judge, new,
                             in_a_row)
        for name, value in found.items():
            figures[f'seed {seed} {name}'] = value
    return figures


def left_out(frames: Frames) -> np.ndarray:
    """:return: numbers of the objects that are last in their category, by name."""
    names = np.array(frames.label_names['object'])
    last: dict[int, int] = {}
    for number in np.argsort(names):
        of = np.flatnonzero(frames.labels['object'] == number)
        if len(of):
            last[int(frames.labels['category'][of[0]])] = int(number)
    return np.array(sorted(last.values()))


def train_without(config: Config, seed: int, learn: Frames, new: np.ndarray,
                  folder: Path, accelerator: str = 'auto') -> Run:
    """
    Train on all other objects.

    :param config: of the preset.
    :param learn: training recordings.
    :param new: objects left out.
    :param folder: of the run.
    :param accelerator: what training runs on.
    """
    old = old_ones(learn, new)
    count = len(np.unique(old.labels['object']))
    config = override(config, [f'train.seed={seed}', f'model.num_identities={count}'])
    options = DataOptions(size=config.model.side, crop=Crop('none'), scene_change=256.0)
    train(config, old, folder,
          {'paths': list(old.sources), 'options': kept_options(options),
           'content_hash': old.content_hash, 'num_frames': len(old.images), 'num_labels': 0},
          accelerator=accelerator, progress=True, over=True)
    return load_run(folder)


def old_ones(learn: Frames, new: np.ndarray) -> Frames:
    """:return: the frames of all other objects; one clip of :data:`HELD_OUT` for validation."""
    old = select(learn, ~np.isin(learn.labels['object'], new))
    clips = np.random.default_rng(0).permutation(old.clip.max() + 1)
    held = clips[:len(clips) // HELD_OUT]
    return replace(old, split=np.isin(old.clip, held).astype(np.uint8))


def judge_run(trained: Run, learn: Frames, judge: Frames, new: np.ndarray,
              out: Path) -> dict[str, float]:
    """Export, enrol, judge, print. :return: the figures."""
    torch.set_num_threads(1)
    name, old = trained.path.name, old_ones(learn, new)
    path = out / f'{name}.onnx'
    export(trained, old, path)
    # An object whose clips were all held out is neither known nor enrolled.
    taught = np.isin(judge.labels['object'],
                     np.append(np.unique(old.labels['object'][old.split == 0]), new))
    judge = select(judge, taught)
    truth = np.array(judge.label_names['object'])[judge.labels['object']]
    novel = np.isin(judge.labels['object'], new)
    images = judge.images[np.arange(len(judge.images))]
    answered, strange = _answers(path, images)
    right = answered == truth
    figures = {'old before': float(right[~novel].mean()),
               'novel new': float(strange[novel].mean()),
               'novel old': float(strange[~novel].mean())}
    by_views = {count: _enrol_all(path, out / f'{name}-{count}.onnx', learn, new, count)
                for count in VIEWS}
    for count, (model, seconds, refused) in by_views.items():
        right = _answers(model, images)[0] == truth
        figures |= {f'new {count}': float(right[novel].mean()),
                    f'old after {count}': float(right[~novel].mean()),
                    f'refused {count}': float(refused)}
        if count == VIEWS[-1]:
            figures |= {'seconds': float(np.median(seconds)), 'most seconds': max(seconds)}
    gone = out / f'{name}-forgotten.onnx'
    source = by_views[VIEWS[-1]][0]
    for label in (learn.label_names['object'][k] for k in new):
        enroll.main(['--model', str(source), '--out', str(gone), '--forget', label])
        source = gone
    right = _answers(gone, images)[0] == truth
    figures['old forgotten'] = float(right[~novel].mean())
    most = VIEWS[-1]
    by_count = ', '.join(f'{figures["new " + str(count)]:.2f}' for count in VIEWS)
    print(f'| {name} | {figures["old before"]:.3f} | {figures[f"old after {most}"]:.3f} | '
          f'{figures[f"new {most}"]:.3f} ({figures[f"refused {most}"]:.0f} known at first) | '
          f'{by_count} | {figures["novel new"]:.3f}, {figures["novel old"]:.3f} | '
          f'{figures["old forgotten"]:.3f} | {figures["seconds"]:.0f}, '
          f'{figures["most seconds"]:.0f} |', flush=True)
    return figures


def export(trained: Run, old: Frames, path: Path) -> None:
    """Write a model whose identities are named on training's images."""
    network = trained.network
    strategy = shortlist_for(network, old, progress=False)
    rows = np.flatnonzero(old.split == 0)
    images = old.images[rows]
    familiarity, kept = familiarity_for(network, images, old.clip[rows])
    calibration = calibrate(DeployedNetwork(network, strategy, familiarity).eval(),
                            old.images[np.flatnonzero(old.split == 1)], True, FALSE_ALARMS, kept)
    seen = observe(network, images, strategy=strategy)
    known = old.label_names['object']
    assigned = one_to_one(old.labels['object'][old.split == 0], seen.identity)
    labels = [f'identity {j}' for j in range(network.config.num_identities)]
    for j, k in assigned.items():
        if k in old.labels['object'] and j < len(labels):
            labels[j] = known[k]
    export_onnx(network, path, run_metadata(trained, path.stem, labels, calibration,
                                            strategy.facts()),
                images[:16], strategy, familiarity=familiarity)


def _enrol_all(path: Path, out: Path, learn: Frames, new: np.ndarray,
               count: int) -> tuple[Path, list[float], int]:
    """:return: a model with all new objects, seconds for each, and how many seemed known."""
    model, seconds, refused = path, [], 0
    for number in new:
        rows = np.flatnonzero((learn.labels['object'] == number) & (learn.source == 0))
        spread = np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int)
        views = learn.images[rows[spread]]
        label = learn.label_names['object'][number]
        refused += known_as(ImnModel(model, ['cpu'], threads=1), views) is not None
        start = time.monotonic()
        enrol(model, views, label, out, anyway=True, progress=False)
        seconds.append(time.monotonic() - start)
        model = out
    return model, seconds, refused


def _answers(path: Path, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """:return: labels and novelty of all images (K, S, S, 3), (K,) each."""
    model = ImnModel(path, ['cpu'], threads=1)
    winners = [model.predict(images[start:start + BATCH])
               for start in range(0, len(images), BATCH)]
    return (np.concatenate([winner.label for winner in winners]),
            np.concatenate([winner.novel for winner in winners]))
