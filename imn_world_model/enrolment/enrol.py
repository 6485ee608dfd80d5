"""A model file that knows one object more, or one less: read, checked, written."""
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from tqdm import tqdm

from imn_world_model.base.config import to_dict
from imn_world_model.base.errors import UserError
from imn_world_model.data.frames import DataOptions, load_frames
from imn_world_model.data.regions import Regions
from imn_world_model.enrolment import pool
from imn_world_model.enrolment.pool import Pool
from imn_world_model.exporting.graph import export_onnx
from imn_world_model.exporting.restore import Restored, restore
from imn_world_model.learning.run import weights_hash
from imn_world_model.model.observe import observe
from imn_world_model.model.winner import Strategy
from imn_world_model.robot.inference import ImnModel

# Views that are learnt from, spread over the clip.
MAX_VIEWS = 64
# One of so many is kept back to see how well the new identity is recognised.
KEEP_BACK = 4
# An object is known where so few of its views are novel, so many of them agree on a name, and the
# median view is not stranger than usual.
KNOWN_NOVEL, KNOWN_AGREE = 0.3, 0.7
# A score is novel so many standard deviations below the mean of the views that were kept back.
DEVIATIONS = 3.0


@dataclass(frozen=True)
class Enrolled:
    """
    What came of it.

    :param views: learnt from.
    :param kept_back: views that the identity was judged on before it learnt from them, too.
    :param right: of those, how many it named; 0 of 0 for very short clips.
    :param confidence: median of those, in [0, 1]; 0 for very short clips.
    """

    views: int
    kept_back: int
    right: int
    confidence: float

    def __str__(self) -> str:
        if not self.kept_back:
            return f'learnt from {self.views} views, too few to keep one back for judging'
        return (f'learnt from {self.views} views; of {self.kept_back} that were kept back at '
                f'first {self.right} were named rightly, with a confidence of '
                f'{self.confidence:.2f} (median)')


def enrol(model: Path, images: np.ndarray, label: str, out: Path, anyway: bool = False,
          progress: bool = True) -> Enrolled:
    """
    Write a model that knows one more object.

    :param model: the exported file.
    :param images: (K, S, S, 3) uint8 views, prepared as the model takes them.
    :param label: the object's name.
    :param out: the new file.
    :param anyway: whether to enrol what the model seems to know.
    :param progress: whether to show a bar.
    :raises UserError: when the label is taken, the object is known, or the file cannot be used.
    """
    old = ImnModel(model, ['cpu'])
    if label in old.labels:
        raise UserError(f"{model} knows a '{label}' already; --forget it first, or choose another "
                        'label')
    images = spread(images)
    known = None if anyway else known_as(old, images)
    if known is not None:
        raise UserError(f"{model} takes most of these {len(images)} views for '{known}'; if it is "
                        'another object, give --anyway')
    source = restore(model)
    before = _pool(source, old)
    back = np.arange(len(images)) % KEEP_BACK == KEEP_BACK - 2
    rounds = 2 if back.any() else 1
    with tqdm(total=rounds * pool.steps(before), desc=f'learning {label}', unit=' steps',
              disable=not progress) as bar:
        def tell() -> None:
            bar.update()

        report, threshold = Enrolled(len(images), 0, 0, 0.0), old.novelty_threshold
        if back.any():
            trial = pool.learnt(before, images[~back], label, tell)
            report, lowest = _judge(trial, source.strategy, images, back, old)
            threshold = min(threshold, lowest)
        after = pool.learnt(before, images, label, tell)
    after = replace(after, thresholds=(*before.thresholds, threshold))
    write(after, source, out, images[:16])
    return report


def spread(images: np.ndarray) -> np.ndarray:
    """:return: at most :data:`MAX_VIEWS` of the views (K, S, S, 3), spread over them."""
    rows = np.linspace(0, len(images) - 1, min(len(images), MAX_VIEWS)).round().astype(int)
    return images[rows]


def known_as(model: ImnModel, images: np.ndarray) -> str | None:
    """
    The name under which a model knows an object.

    :param images: (K, S, S, 3) uint8 views.
    :return: ``None`` for an object that is new.
    """
    winner = model.predict(images)
    labels, counts = np.unique(winner.label, return_counts=True)
    if (winner.novel.mean() > KNOWN_NOVEL or counts.max() < KNOWN_AGREE * len(images)
            or np.median(winner.strangeness) > model.usual_strangeness):
        return None
    return str(labels[counts.argmax()])


def _pool(source: Restored, model: ImnModel) -> Pool:
    """:return: the identities of a file."""
    return Pool(source.network, source.familiarity, source.config, model.labels,
                     tuple(float(value) for value in model.novelty_thresholds),
                model.strangeness_threshold)


def _judge(trial: Pool, strategy: Strategy, images: np.ndarray, back: np.ndarray,
           model: ImnModel) -> tuple[Enrolled, float]:
    """:return: how views (K,) that were kept back are answered, and the score to expect."""
    seen = observe(trial.network, images[back], strategy=strategy)
    mine = len(trial.labels) - 1
    confidence = model.confidences(seen.identity_scores)[:, mine]
    scores = seen.identity_scores[:, mine]
    return (Enrolled(len(images), int(back.sum()), int((seen.identity == mine).sum()),
                     float(np.median(confidence))),
            float(scores.mean() - DEVIATIONS * scores.std()))


def write(after: Pool, source: Restored, out: Path, examples: np.ndarray) -> None:
    """
    Write a pool as a model file, checked against torch.

    :param after: the identities.
    :param source: the file that they come from.
    :param out: the new file.
    :param examples: (K, S, S, 3) uint8 that are checked; may be empty.
    """
    config = json.loads(source.metadata['config']) | to_dict(after.config)
    metadata = source.metadata | {
        'name': out.stem, 'labels': json.dumps(after.labels), 'config': json.dumps(config),
        'novelty_thresholds': json.dumps(after.thresholds),
        'weights_hash': weights_hash(after.network)}
    print(f'writing {out} and checking it against torch ...', file=sys.stderr)
    export_onnx(after.network, out, metadata, examples, source.strategy,
                metadata['precision'], after.familiarity)


def read_views(model: ImnModel, paths: list[Path]) -> np.ndarray:
    """
    All frames of a clip, as a model takes them.

    :param model: whose crop and regions are used.
    :param paths: whatever train reads; or one ``.npz`` with ``images``, prepared already.
    :return: (K, S, S, 3) uint8.
    """
    if len(paths) == 1 and paths[0].suffix == '.npz':
        try:
            with np.load(paths[0]) as file:
                return np.asarray(file['images'])
        except (OSError, ValueError, KeyError, BadZipFile) as error:
            raise UserError(f"{paths[0]} cannot be read as .npz with 'images' ({error}); give a "
                            'clip that train reads') from error
    frames = load_frames(paths, DataOptions(size=model.image_size, crop=model.crop, still=0.0,
                                            regions=Regions(**model.regions)))
    for note in frames.notes:
        print(note, file=sys.stderr)
    return np.asarray(frames.images[np.arange(len(frames.images))])


def _number(labels: tuple[str, ...], label: str) -> int:
    if label not in labels:
        raise UserError(f"no identity is labelled '{label}'; there are {', '.join(labels)}")
    return labels.index(label)


def _changed(model: Path, out: Path, change: Callable[[Pool], Pool]) -> None:
    """Write a model whose identities were changed without any images."""
    old, source = ImnModel(model, ['cpu']), restore(model)
    size = old.image_size
    write(change(_pool(source, old)), source, out, np.zeros((0, size, size, 3), np.uint8))
