"""
Objects in photographs, learnt without labels: trains, judges on another day, prints the table.

The folder holds ``plain``, ``scene`` and ``tools``, or some of them; in each, recordings with a
topic ``/ground_truth`` of JSON strings (``object``, ``category``, ``azimuth`` and ``polar`` in
degrees, ``box``). All but the last recording, by name, are for training. Labels are for judging
alone; names are given to identities on the training recordings, by the best one-to-one assignment.
"""
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import matplotlib
import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist, pdist
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.kernel_ridge import KernelRidge
from sklearn.metrics import confusion_matrix, normalized_mutual_info_score
from sklearn.neighbors import KNeighborsClassifier
from torch.nn import functional as F

from imn_world_model.base.config import Config, ModelConfig, override
from imn_world_model.base.errors import UserError
from imn_world_model.base.marks import MARK
from imn_world_model.data.frames import DataOptions, Frames, ImageRows, load_frames
from imn_world_model.data.regions import Regions
from imn_world_model.data.sources import find_sources
from imn_world_model.learning.batches import Turned
from imn_world_model.learning.fit import train
from imn_world_model.learning.presets import preset
from imn_world_model.learning.run import kept_options, load_run
from imn_world_model.model.observe import Observation, observe
from imn_world_model.model.recognition import PRETRAINED_SIDE, pretrained_body
from imn_world_model.vision.preprocess import Crop

TRUTH = '/ground_truth'
# Kinds whose azimuth shows, and the polar angle of a camera on their level.
FRONTS = ('car', 'cow', 'cup', 'dog', 'horse')
LEVEL = 90.0
# The simple methods: components of 32x32 pixels, seeds of k-means.
BASELINE_SIDE, BASELINE_COMPONENTS, BASELINE_SEEDS = 32, 50, 3
# The map from coordinates to the azimuth: training frames that it takes, its ridge, cosine of how
# far from the nearest frame's azimuth those are that it is fitted to.
LEAST_POSES, RIDGE, SAME_SIDE = 3, 0.05, 0.0
BATCH = 32


@dataclass(frozen=True)
class Protocol:
    """
    One row of the table.

    :param name: as in the table.
    :param folder: below the folder of recordings.
    :param label: what an identity stands for.
    :param regions: how objects are found.
    :param pose: whether the azimuth is read from the coordinates, too.
    """

    name: str
    folder: str
    label: str
    regions: Regions
    pose: bool = False


PROTOCOLS = (
    Protocol('plain-I', 'plain', 'object', Regions(), pose=True),
    Protocol('plain-C', 'plain', 'category', Regions()),
    Protocol('tools-T28', 'tools', 'object', Regions(auto=True)),
    Protocol('tools-T7', 'tools', 'category', Regions(auto=True)),
    Protocol('scene-I', 'scene', 'object', Regions(boxes=TRUTH)),
    Protocol('scene-C', 'scene', 'category', Regions(boxes=TRUTH)),
)


def run(folder: Path, names: list[str], seeds: list[int], preset_name: str, settings: list[str],
        out: Path, rehearse: bool = False, accelerator: str = 'auto') -> dict[str, float]:
    """
    Train and judge every protocol with every seed; a line each as soon as it is there.

    :param folder: of the recordings.
    :param names: of the protocols; empty for all whose folder is there.
    :param seeds: of training.
    :param preset_name: what is trained.
    :param settings: ``section.key=value``, for all of them.
    :param out: where run folders go.
    :param rehearse: leave the last recording alone and judge on the one before it: for choosing
        settings.
    :param accelerator: what training runs on.
    :return: figure -> value.
    :raises UserError: for an unknown protocol, or a folder without recordings.
    """
    unknown = set(names) - {protocol.name for protocol in PROTOCOLS}
    if unknown:
        raise UserError(f'unknown protocol {", ".join(sorted(unknown))}; choose from '
                        f'{", ".join(protocol.name for protocol in PROTOCOLS)}')
    chosen = [protocol for protocol in PROTOCOLS if (folder / protocol.folder).is_dir()
              and (not names or protocol.name in names)]
    if not chosen:
        raise UserError(f'{folder} holds none of plain, scene and tools with recordings in them')
    # Lightning's advice on worker counts and modes is for its developers.
    warnings.filterwarnings('ignore', module='lightning')
    config = override(preset(preset_name), settings)
    figures: dict[str, float] = {}
    print('| protocol | method | accuracy | NMI | azimuth, median error | minutes |\n'
          '|---|---|---|---|---|---|', flush=True)
    for protocol in chosen:
        learn, judge = read(folder / protocol.folder, protocol, config.model, rehearse)
        pretrained = config.model.recognizer not in ('none', 'conv')
        for method, accuracy, nmi in baselines(learn, judge, protocol.label, pretrained):
            print(f'| {protocol.name} | {method} | {accuracy:.3f} | {nmi} | | |', flush=True)
            figures[f'{protocol.name} {method}'] = accuracy
        for seed in seeds:
            for name, value in one_run(protocol, config, seed, learn, judge, out,
                                       preset_name, accelerator).items():
                figures[f'{protocol.name} {preset_name} seed {seed} {name}'] = value
    return figures


def read(folder: Path, protocol: Protocol, model: ModelConfig,
         rehearse: bool = False) -> tuple[Frames, Frames]:
    """:return: the frames of the training recordings, all for training, and of the last one."""
    sources = find_sources([folder])
    sources = sources[:-1] if rehearse else sources
    if len(sources) < 2:
        beside = ' beside the last' if rehearse else ''
        raise UserError(f'{folder} holds {len(sources)} recordings{beside}; one is for judging, '
                        'so at least two are needed')
    crop = Crop('none', None, model.background, model.turn == 'level')
    options = DataOptions(size=model.side, crop=crop, ground_truth_topic=TRUTH,
                          regions=protocol.regions, scene_change=256.0)
    parts = [load_frames([source.path for source in some], options)
             for some in (sources[:-1], sources[-1:])]
    for part in parts:
        if protocol.label not in part.labels:
            raise UserError(f'{folder}: {TRUTH} tells no {protocol.label}')
    learn, judge = (replace(part, split=np.zeros_like(part.split)) for part in parts)
    return learn, _same_classes(judge, learn, protocol.label)


def _same_classes(frames: Frames, other: Frames, label: str) -> Frames:
    """:return: the frames with classes numbered as in the other ones; unknown ones are last."""
    known = other.label_names[label]
    number = np.array([known.index(name) if name in known else len(known)
                       for name in frames.label_names[label]])
    return replace(frames, labels={**frames.labels, label: number[frames.labels[label]]},
                   label_names={**frames.label_names, label: known})


def one_run(protocol: Protocol, config: Config, seed: int, learn: Frames, judge: Frames,
            out: Path, preset_name: str, accelerator: str) -> dict[str, float]:
    """Train once, judge, print. :return: the figures."""
    count = len(learn.label_names[protocol.label])
    told = [f'train.seed={seed}']
    if config.model.num_identities == preset(preset_name).model.num_identities:
        told.append(f'model.num_identities={count}')
    run_config = override(config, told)
    folder = out / f'{protocol.name}-{preset_name}-seed{seed}'
    start = time.monotonic()
    options = DataOptions(size=config.model.side, crop=Crop('none'),
                          regions=protocol.regions, scene_change=256.0)
    train(run_config, learn, folder,
          {'paths': list(learn.sources), 'options': kept_options(options),
           'content_hash': learn.content_hash, 'num_frames': len(learn.images), 'num_labels': 0},
          accelerator=accelerator, progress=True, over=True)
    minutes = (time.monotonic() - start) / 60
    run = load_run(folder)
    turned = run.config.model.turn == 'level' and config.model.turn == 'auto'
    own, seen = (observe(run.network, Turned(images)[:] if turned else images[:])
                 for images in (learn.images, judge.images))
    truth, names = judge.labels[protocol.label], learn.label_names[protocol.label]
    assigned = one_to_one(learn.labels[protocol.label], own.identity)
    answer = np.array([assigned.get(j, -1) for j in seen.identity])
    figures = {'accuracy': float((answer == truth).mean()),
               'training accuracy': float(np.mean(
                   [assigned.get(j, -1) for j in own.identity] == learn.labels[protocol.label])),
               'nmi': float(normalized_mutual_info_score(truth, seen.identity)),
               'identities': float(len(np.unique(own.identity))),
               'squared error': float(seen.error.mean()), 'minutes': minutes}
    pose = ''
    if protocol.pose and {'azimuth', 'polar'} <= set(judge.values):
        errors = azimuth_errors(learn, own, judge, seen)
        kind = np.array(judge.label_names['category'])[judge.labels['category']]
        fronts = np.isin(kind, FRONTS) & np.isfinite(errors)
        if fronts.any():
            figures['azimuth'] = float(np.median(errors[fronts]))
            of_kind = ', '.join(f'{name} {np.median(errors[(kind == name) & fronts]):.0f}'
                                for name in FRONTS if ((kind == name) & fronts).any())
            pose = f'{figures["azimuth"]:.0f} ({of_kind})'
    confusion_picture(truth, answer, names, folder / 'pictures' / 'confusion.png')
    print(f'| {protocol.name} | `{preset_name}` seed {seed} (training '
          f'{figures["training accuracy"]:.3f}, {figures["identities"]:.0f} identities) '
          f'| {figures["accuracy"]:.3f} | {figures["nmi"]:.3f} | {pose} | {minutes:.1f} |',
          flush=True)
    return figures


def one_to_one(classes: np.ndarray, identity: np.ndarray) -> dict[int, int]:
    """:return: identity -> class, the assignment with the most frames; (K,) arrays of both."""
    table = np.zeros((max(classes.max(), identity.max()) + 1,) * 2)
    np.add.at(table, (identity, classes), 1)
    return dict(zip(*linear_sum_assignment(-table), strict=True))


def azimuth_errors(learn: Frames, own: Observation, judge: Frames,
                   seen: Observation) -> np.ndarray:
    """
    How well the coordinates tell the azimuth: a map for each identity, from training's labels.

    :return: (K,) degrees of frames at :data:`LEVEL`, NaN for others and where an identity has too
        few training frames.
    """
    errors = np.full(len(seen.identity), np.nan)
    angle = np.radians(learn.values['azimuth'])
    level = judge.values['polar'] == LEVEL
    for identity in np.unique(seen.identity):
        theirs = (own.identity == identity) & np.isfinite(angle)
        mine = (seen.identity == identity) & level
        if theirs.sum() < LEAST_POSES or not mine.any():
            continue
        found = read_angle(own.latents[theirs], angle[theirs], seen.latents[mine])
        apart = np.degrees(found) - judge.values['azimuth'][mine]
        errors[mine] = np.abs((apart + 180) % 360 - 180)
    return errors


def read_angle(known: np.ndarray, angle: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """
    Read angles off coordinates: the nearest frame says which side is seen, a map the rest.

    The map is kernel ridge regression over frames of that side. Over all of them it would give
    the mean of two sides that look alike, which is neither.

    :param known: (K, d) coordinates of training frames.
    :param angle: (K,) theirs, in radians.
    :param asked: (R, d) coordinates.
    :return: (R,) radians.
    """
    # Coordinates are in units of their prior, so none is stretched.
    gamma = 1.0 / max(float(np.median(pdist(known, 'sqeuclidean'))), 1e-9)
    nearest = angle[cdist(asked, known).argmin(1)]
    found = np.empty(len(asked))
    for number, (side, latents) in enumerate(zip(nearest, asked, strict=True)):
        same = np.cos(angle - side) >= SAME_SIDE
        apart = np.angle(np.exp(1j * (angle[same] - side)))
        reader = KernelRidge(alpha=RIDGE, kernel='rbf', gamma=gamma).fit(known[same], apart)
        found[number] = side + reader.predict(latents[None])[0]
    return found


def baselines(learn: Frames, judge: Frames, label: str,
              pretrained: bool = False) -> Iterator[tuple[str, float, str]]:
    """:return: simple methods on the same images: name, accuracy, NMI."""
    pixels = [np.stack([cv2.resize(image, (BASELINE_SIDE,) * 2, interpolation=cv2.INTER_AREA)
                        for image in frames.images[:]]).reshape(len(frames.images), -1) / 255.0
              for frames in (learn, judge)]
    few = min(BASELINE_COMPONENTS, *pixels[0].shape)
    pca = PCA(few, random_state=0).fit(pixels[0])
    yield from _simple('pixels', pca.transform(pixels[0]), pca.transform(pixels[1]), learn, judge,
                       label)
    if pretrained:
        yield from _simple('pretrained features', pretrained_means(learn.images),
                           pretrained_means(judge.images), learn, judge, label)


def _simple(what: str, own: np.ndarray, other: np.ndarray, learn: Frames, judge: Frames,
            label: str) -> Iterator[tuple[str, float, str]]:
    """:return: k-means and nearest neighbours on features (N, d) and (K, d)."""
    classes, truth = learn.labels[label], judge.labels[label]
    clips = np.unique(learn.clip, return_inverse=True)[1]
    means = np.stack([own[clips == k].mean(0) for k in range(clips.max() + 1)])
    n = len(learn.label_names[label])
    found = []
    for seed in range(BASELINE_SEEDS):
        model = KMeans(min(n, len(means)), n_init=5, random_state=seed).fit(means)
        assigned = one_to_one(classes, model.predict(own))
        cluster = model.predict(other)
        found.append((np.mean([assigned.get(j, -1) for j in cluster] == truth),
                      normalized_mutual_info_score(truth, cluster)))
    accuracy, nmi = np.mean(found, axis=0)
    yield f'{what}, k-means of {n} on clip means', float(accuracy), f'{nmi:.3f}'
    nearest = KNeighborsClassifier(1).fit(own, classes)
    yield f'{what}, 1-NN with all labels', float(nearest.score(other, truth)), ''


@torch.no_grad()
def pretrained_means(images: ImageRows) -> np.ndarray:
    """:return: (N, 1280), EfficientNet-lite0's features, averaged over the whole picture."""
    body, found = pretrained_body(), []
    for rows in np.array_split(np.arange(len(images)), -(-len(images) // BATCH)):
        image = torch.from_numpy(images[rows]).movedim(-1, 1).float() / 255.0
        large = F.interpolate(image, (PRETRAINED_SIDE,) * 2, mode='bilinear', align_corners=False)
        found.append(body(large * (255 / 128) - 127 / 128).mean((2, 3)))
    return torch.cat(found).numpy()


def confusion_picture(truth: np.ndarray, answer: np.ndarray, names: tuple[str, ...],
                      path: Path) -> None:
    """Write what is taken for what; the last column is what has no name."""
    matplotlib.use('Agg')
    from matplotlib import pyplot as plt
    table = confusion_matrix(truth, np.where(answer < 0, len(names), answer),
                             labels=range(len(names) + 1))[:-1]
    share = table / table.sum(1, keepdims=True).clip(1)
    side = max(4.0, 0.16 * len(names) + 2)
    figure, axes = plt.subplots(figsize=(side, side), constrained_layout=True)
    axes.imshow(share, cmap='Blues', vmin=0, vmax=1)
    marks: Any = range(len(names))
    axes.set_yticks(marks, names, fontsize=7)
    axes.set_xticks([*marks, len(names)], [*names, 'no name'], fontsize=7, rotation=90)
    axes.set_ylabel('true')
    axes.set_xlabel('answered')
    figure.savefig(path, dpi=110, metadata=MARK)
    plt.close(figure)
