"""
Poses in metres on clips that no fit has seen: errors, and whether they lie within their bounds.

A model is calibrated on a log, once with 50 poses and once with all, and judged on another log.
Both are logs that :mod:`imn_world_model.simulate` wrote, or have poses on the same topic.
"""
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import chi2, norm

from imn_world_model.base.cli import atomic_path
from imn_world_model.base.errors import UserError
from imn_world_model.base.marks import MARK
from imn_world_model.learning.examples import keep_poses, read_examples
from imn_world_model.learning.poses import Example, fit
from imn_world_model.robot.inference import ImnModel
from imn_world_model.robot.poses import Pose, PoseMap, angle_of
from imn_world_model.robot.steady import Steady

TOPIC = '/ground_truth/object_pose'
FEW, ALL = 50, 400
# Bounds that hold this share of errors.
WITHIN = 0.95
# Passages that are drawn.
DRAWN = 12


@dataclass(frozen=True)
class Judged:
    """
    Errors in K frames.

    :param relative: (K,) position error as a share of the distance.
    :param square: (K,) position error squared, normalised by its covariance.
    :param angle: (K,) error of the turn in radians, up to the identity's fold; NaN where no turn
        is told.
    :param angle_deviation: (K,) radians, as told.
    """

    relative: np.ndarray
    square: np.ndarray
    angle: np.ndarray
    angle_deviation: np.ndarray

    @property
    def within(self) -> float:
        """Share of positions within their bounds."""
        return float((self.square <= chi2.ppf(WITHIN, 3)).mean())

    @property
    def angle_within(self) -> float:
        """Share of turns within their bounds."""
        told = ~np.isnan(self.angle)
        bound = norm.ppf((1 + WITHIN) / 2) * self.angle_deviation[told]
        return float((np.abs(self.angle[told]) <= bound).mean()) if told.any() else float('nan')


def run(model: ImnModel, data: list[Path], others: list[Path], picture: Path
        ) -> dict[str, float]:
    """
    Calibrate, judge, print a line for each.

    :param model: an exported model.
    :param data: log with poses to learn from.
    :param others: log with poses to judge on.
    :param picture: gets the errors of the fit with few poses, within their bounds.
    :return: figure -> value.
    :raises UserError: without logs.
    """
    if not data or not others:
        raise UserError('--pose needs --data LOG to calibrate on and --others LOG to judge on')
    known = read_examples(model, data, TOPIC, '', None, ())
    unseen = [each for each in read_examples(model, others, TOPIC, '', None, ())
              if each.position is not None]
    print('| poses learnt from | position error, mean / median / root mean square, % of the '
          'distance | within its 95 % bounds, % | turn, mean / median, degrees | within, % | '
          'filtered, within, % | the same with errors taken for noise | errors last, seconds |\n'
          '|---|---|---|---|---|---|---|---|')
    figures: dict[str, float] = {}
    for count in (FEW, ALL):
        poses = fit(keep_poses(known, count), model.labels)
        told = [poses.tell(each.look, each.label, each.coordinates) for each in unseen]
        alone = judge(told, unseen)
        steady = judge(filtered(poses, told, unseen, poses.seconds), unseen)
        noise = judge(filtered(poses, told, unseen, 1e-3), unseen)
        turned = np.degrees(np.abs(alone.angle[~np.isnan(alone.angle)]))
        values = {'error': 100 * alone.relative.mean(),
                  'median error': 100 * float(np.median(alone.relative)),
                  'root mean square': 100 * float(np.sqrt((alone.relative ** 2).mean())),
                  'within': 100 * alone.within, 'turn': float(turned.mean()),
                  'median turn': float(np.median(turned)),
                  'turn within': 100 * alone.angle_within, 'filtered within': 100 * steady.within,
                  'taken for noise': 100 * noise.within, 'seconds': poses.seconds}
        figures |= {f'{count} {name}': value for name, value in values.items()}
        number = len([1 for each in keep_poses(known, count) if each.position is not None])
        print('| {} | {:.2f} / {:.2f} / {:.2f} | {:.1f} | {:.1f} / {:.1f} | {:.1f} | {:.1f} | '
              '{:.1f} | {:.1f} |'.format(number, *values.values()), flush=True)
        folds = {label: turn.fold for label, turn in poses.turns.items()}
        print(f'  turns are told of {folds or "no identity"}', flush=True)
        if count == FEW:
            draw(alone, told, unseen, picture)
    return figures


def filtered(poses: PoseMap, told: list[Pose], unseen: list[Example], seconds: float
             ) -> list[Pose]:
    """:return: what the robot publishes: poses over time, each passage from its start."""
    result, steady, group = [], Steady(seconds), -1
    for pose, each in zip(told, unseen, strict=True):
        if each.group != group:
            steady, group = Steady(seconds), each.group
        result.append(steady.update(each.seconds, pose))
    return result


def judge(told: list[Pose], unseen: list[Example]) -> Judged:
    """:return: errors of poses against the truth."""
    rows = []
    for pose, each in zip(told, unseen, strict=True):
        assert each.position is not None and each.axes is not None
        error = pose.position - each.position
        square = error @ np.linalg.solve(pose.covariance[:3, :3], error)
        wrong, deviation = float('nan'), float('nan')
        if pose.fold:
            wrong = angle_of(pose.position, pose.axes) - angle_of(each.position, each.axes)
            wrong = float(np.angle(np.exp(1j * pose.fold * wrong))) / pose.fold
            up = pose.axes[:, 2]
            deviation = float(np.sqrt(up @ pose.covariance[3:, 3:] @ up))
        rows.append((np.linalg.norm(error) / np.linalg.norm(each.position), square, wrong,
                     deviation))
    return Judged(*np.array(rows).T)


def draw(alone: Judged, told: list[Pose], unseen: list[Example], path: Path) -> None:
    """Plot errors of distance and turn between their bounds, some passages side by side."""
    import matplotlib
    matplotlib.use('Agg')
    import matplotlib.pyplot as plt
    group = np.array([each.group for each in unseen])
    shown = np.isin(group, np.unique(group)[:DRAWN])
    place = np.arange(int(shown.sum()))
    truth = np.array([each.position for each in unseen], float)
    sight = truth / np.linalg.norm(truth, axis=1, keepdims=True)
    depth = np.array([(pose.position - at) @ ray for pose, at, ray in zip(told, truth, sight)])
    wide = np.array([np.sqrt(ray @ pose.covariance[:3, :3] @ ray)
                     for pose, ray in zip(told, sight)])
    figure, axes = plt.subplots(2, 1, figsize=(11, 5.5), sharex=True)
    bound = norm.ppf((1 + WITHIN) / 2)
    for axis, error, deviation, name in (
            (axes[0], 100 * depth, 100 * wide, 'distance, cm'),
            (axes[1], np.degrees(alone.angle), np.degrees(alone.angle_deviation),
             'turn, degrees')):
        axis.fill_between(place, -bound * deviation[shown], bound * deviation[shown], alpha=0.25,
                          step='mid', label='95 % bounds, as told')
        axis.plot(place, error[shown], '.', markersize=4, label='error')
        axis.axhline(0.0, color='grey', linewidth=0.5)
        axis.set_ylabel(name)
        for start in np.flatnonzero(np.diff(group[shown])) + 0.5:
            axis.axvline(start, color='lightgrey', linewidth=0.8)
    axes[0].legend(loc='upper right')
    axes[1].set_xlabel('frames of unseen clips, one clip after the other')
    figure.tight_layout()
    with atomic_path(path) as scratch:
        figure.savefig(scratch, dpi=90, format='png', metadata=MARK)
    plt.close(figure)
