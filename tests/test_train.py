"""The chain a user types: logs in, train, resume, evaluate, export, infer; all as processes."""
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from recordings import drive, write_bag

from imn_world_model.base.config import override
from imn_world_model.base.errors import UserError
from imn_world_model.data.frames import DataOptions, load_frames
from imn_world_model.learning.batches import Batches
from imn_world_model.learning.learner import Learner
from imn_world_model.learning.loading import FrameBatches
from imn_world_model.learning.presets import preset
from imn_world_model.learning.run import load_run
from imn_world_model.vision.preprocess import Crop

ROOT = Path(__file__).parents[1]


def run(module: str, *arguments: object, cwd: Path, check: bool = True
        ) -> subprocess.CompletedProcess:
    """:return: a finished ``python -m imn_world_model.MODULE``; its output is text."""
    done = subprocess.run(
        [sys.executable, '-m', f'imn_world_model.{module}', *map(str, arguments)], cwd=cwd,
        env=environment(cwd), capture_output=True, text=True, timeout=300)
    assert not check or done.returncode == 0, done.stderr[-3000:]
    return done


def environment(folder: Path) -> dict[str, str]:
    """:return: this process's, with a cache of its own and the package found from anywhere."""
    return os.environ | {'IMN_CACHE_DIR': str(folder / 'cache'), 'PYTHONPATH': os.pathsep.join(
        [str(ROOT), os.environ.get('PYTHONPATH', '')])}


@pytest.fixture(scope='module')
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """:return: a folder with ``logs/`` that holds a recording and a rendered 3Dshapes file."""
    folder = tmp_path_factory.mktemp('chain')
    write_bag(folder / 'logs' / 'drive', drive(6, 8))
    run('render', '--out', 'logs/shapes.h5', '--count', 240, '--size', 32, '--clips', 'object',
        '--views', 8, cwd=folder)
    return folder


@pytest.fixture(scope='module')
def trained(logs: Path) -> Path:
    """:return: a debug run on those logs."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    run('train', '--data', 'logs', '--preset', 'debug', '--name', 'first', '--accelerator', 'cpu',
        '--gap', '0.9', cwd=logs)
    # Of processor time: on a busy machine the clock says nothing.
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 60
    return logs / 'runs' / 'first'


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / 'checkpoints' / 'last.ckpt', weights_only=True)['state_dict']


def test_train_leaves_checkpoint_config_metrics_and_pictures(trained: Path) -> None:
    for name in ('checkpoints/last.ckpt', 'config.yaml', 'data.json', 'metrics/metrics.csv',
                 'pictures/reconstructions.png', 'pictures/identities.png',
                 'pictures/exchanged.png', 'pictures/modules.png'):
        assert (trained / name).stat().st_size > 0
    assert json.loads((trained / 'data.json').read_text())['num_frames'] == 6 * 8 + 240
    # Evaluation and export must cut the same clips as training did.
    options = load_run(trained).data_options
    assert (options.size, options.gap, options.crop) == (32, 0.9, Crop())
    rows = (trained / 'metrics' / 'metrics.csv').read_text().splitlines()
    column = rows[0].split(',').index('validation/pixel_error')
    errors = [float(row.split(',')[column]) for row in rows[1:] if row.split(',')[column]]
    assert errors and np.isfinite(errors).all()


def test_train_learns(logs: Path) -> None:
    run('train', '--data', 'logs', '--preset', 'debug', '--name', 'longer', '--accelerator', 'cpu',
        '--set', 'train.steps=240', 'train.checkpoint_every=30', cwd=logs)
    text = (logs / 'runs' / 'longer' / 'metrics' / 'metrics.csv').read_text().splitlines()
    column = text[0].split(',').index('validation/pixel_error')
    errors = [float(row.split(',')[column]) for row in text[1:] if row.split(',')[column]]
    assert errors[-1] < 0.4 * errors[0]


def test_resume_after_kill_is_bit_identical(logs: Path, trained: Path) -> None:
    settings = ['--data', 'logs', '--preset', 'debug', '--accelerator', 'cpu']
    every = ['--set', 'train.checkpoint_every=20']
    run('train', *settings, *every, '--name', 'whole', cwd=logs)
    process = subprocess.Popen(
        [sys.executable, '-m', 'imn_world_model.train', *settings, '--name', 'killed', *every,
         'train.steps=60'], cwd=logs, env=environment(logs), stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL)
    checkpoint = logs / 'runs' / 'killed' / 'checkpoints' / 'last.ckpt'
    while not checkpoint.exists():
        assert process.poll() is None, 'training ended before its first checkpoint'
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = torch.load(checkpoint, weights_only=True)['global_step']
    assert done < 60, 'it was killed too late to test anything'
    run('train', *settings, '--name', 'killed', '--resume', cwd=logs)
    whole, killed = weights(logs / 'runs' / 'whole'), weights(logs / 'runs' / 'killed')
    for name in whole:
        assert torch.equal(whole[name], killed[name]), name


def test_a_finished_run_goes_on_with_more_steps_and_keeps_its_curves(logs: Path,
                                                                    trained: Path) -> None:
    folder = logs / 'runs' / 'longer_still'
    shutil.copytree(trained, folder)
    before = (folder / 'metrics' / 'metrics.csv').read_text()
    run('train', '--data', 'logs', '--preset', 'debug', '--accelerator', 'cpu', '--gap', '0.9',
        '--name', folder.name, '--resume', '--set', 'train.steps=80', cwd=logs)
    assert load_run(folder).step == 80
    assert (folder / 'metrics' / 'metrics.csv').read_text() == before
    more = (folder / 'metrics-1' / 'metrics.csv').read_text().splitlines()
    steps = [int(row.split(',')[more[0].split(',').index('step')]) for row in more[1:]]
    assert min(steps) >= 60 and max(steps) == 79


def test_two_processes_match_one_with_the_same_global_batch(logs: Path, trained: Path) -> None:
    run('train', '--data', 'logs', '--preset', 'debug', '--accelerator', 'cpu', '--name', 'two',
        '--devices', 2, cwd=logs)
    one, two = weights(trained), weights(logs / 'runs' / 'two')
    # Sums in another order: equal up to rounding, over 60 steps of Adam. A group between two
    # identities may fall either way, which accounts of who won what would show.
    learnt = [name for name in one if name.startswith('network.')]
    distance = torch.cat([(one[name] - two[name]).float().flatten() for name in learnt]).norm()
    size = torch.cat([one[name].float().flatten() for name in learnt]).norm()
    assert distance < 1e-2 * size


def test_views_of_the_id_classifier_share_their_label(logs: Path) -> None:
    frames = load_frames([logs / 'logs' / 'shapes.h5'],
                         DataOptions(size=32, cache_dir=logs / 'cache'), progress=False)
    frames = replace(frames, clip=np.arange(len(frames.images)))       # no clips to lean on
    config = override(preset('debug'), ['loss.classifier_weight=1.0'])
    batches = FrameBatches(frames, config, frames.labels['shape'])
    assert batches.labels is not None
    label = Batches(batches.images, batches.clip, config, batches.labels)[0]['label']
    groups = label.reshape(-1, config.train.views)
    assert (groups == groups[:, :1]).all() and len(groups.unique()) > 1


def test_export_and_infer_follow(logs: Path, trained: Path) -> None:
    run('export', '--run', trained, '--out', 'model.onnx', '--label', 'shape', cwd=logs)
    keys = {entry.key for entry in onnx.load(logs / 'model.onnx').metadata_props}
    assert {'imn_format_version', 'labels', 'config', 'training_data_hash',
            'novelty_threshold'} <= keys
    run('infer', '--model', 'model.onnx', '--data', 'logs', '--out', 'answers.jsonl', cwd=logs)
    answers = [json.loads(line) for line in (logs / 'answers.jsonl').read_text().splitlines()]
    assert len(answers) == 6 * 8 + 240
    first = next(answer for answer in answers if answer['topic'] == '/camera/image')
    assert first['stamp'] == 10 ** 9 and first['source'].endswith('drive')
    assert len(first['transform']) == 6 and len(first['module_transforms']) == 3
    assert 0.0 <= first['confidence'] <= 1.0 and first['label'] and 'reconstruction' not in first
    assert first['identity_scores'][first['identity']] == max(first['identity_scores'])


def test_a_kept_run_evaluates_the_same_and_is_not_resumed(logs: Path, trained: Path) -> None:
    run('export', '--run', trained, '--out', 'kept.onnx', '--keep-run', 'runs/kept', cwd=logs)
    for name in ('first', 'kept'):
        done = run('evaluate', '--run', f'runs/{name}', '--data', 'logs', '--out',
                   f'report-{name}', '--no-disentanglement', cwd=logs)
        assert 'not the data that' not in done.stderr
    first, kept = (json.loads((logs / f'report-{name}' / 'metrics.json').read_text())
                   for name in ('first', 'kept'))
    assert {**first, 'run': 'kept'} == kept
    sizes = [(logs / 'runs' / name / 'checkpoints' / 'last.ckpt').stat().st_size
             for name in ('first', 'kept')]
    assert sizes[1] < 0.5 * sizes[0]
    done = run('train', '--data', 'logs', '--preset', 'debug', '--name', 'kept', '--resume',
               '--set', 'train.steps=80', cwd=logs, check=False)
    assert done.returncode == 2 and 'kept for evaluation' in done.stderr
    assert 'Traceback' not in done.stderr


def test_evaluate_writes_figures_and_a_self_contained_report(logs: Path, trained: Path) -> None:
    run('evaluate', '--run', trained, '--data', 'logs/shapes.h5', '--split', 'train', '--limit',
        '150', '--no-disentanglement', '--compare-search', '40', '--out', 'report', cwd=logs)
    figures = json.loads((logs / 'report' / 'metrics.json').read_text())
    assert figures['images'] == 150 and 0.2 <= figures['purity'] <= 1.0
    assert 0.0 <= figures['search_agreement']['identity_and_subset'] <= 1.0
    for row in figures['table_one'].values():
        assert sum(row) == pytest.approx(100.0)
    page = (logs / 'report' / 'report.html').read_text()
    assert page.count('data:image/png;base64,') >= 6 and 'Table I' in page
    assert not re.search(r'(src|href)="http', page)


def test_evaluate_a_log_whose_only_truth_is_the_shape(logs: Path, trained: Path) -> None:
    run('simulate', '--out', 'truth', '--clips', '4', '--frames', '2', '--rate', '2', cwd=logs)
    done = run('evaluate', '--run', trained, '--data', 'truth', '--ground-truth-topic',
               '/ground_truth', '--split', 'train', '--out', 'report-truth', cwd=logs)
    assert 'purity of shape' in done.stdout
    assert 'not the data that' in done.stderr
    figures = json.loads((logs / 'report-truth' / 'metrics.json').read_text())
    assert set(figures['identity']) == {'shape'} and 'disentanglement' not in figures


@pytest.mark.parametrize(('module', 'arguments', 'cause'), [
    ('train', ['--data', 'nowhere'], 'nowhere does not exist'),
    ('train', ['--data', 'logs', '--preset', 'huge'], "unknown preset 'huge'"),
    ('train', ['--data', 'logs', '--set', 'train.stepz=1'], 'train.stepz'),
    ('train', ['--data', 'logs', '--config', 'none.yaml'], 'none.yaml does not exist'),
    ('train', ['--data', 'logs', '--preset', 'debug', '--name', 'first'], 'already holds a run'),
    ('train', ['--data', 'logs', '--preset', 'debug', '--name', '..'], "--name is '..'; it names"),
    ('train', ['--data', 'logs', '--preset', 'debug', '--name', 'a/b'], 'has no /'),
    ('train', ['--data', 'logs', '--name', 'absent', '--resume'], 'config.yaml does not exist'),
    ('evaluate', ['--run', 'logs', '--data', 'logs', '--out', 'x'], 'not a run folder'),
    ('export', ['--run', 'runs/first', '--out', 'y.onnx', '--labels', 'a'], '1 names for 3'),
    ('infer', ['--model', 'logs/shapes.h5', '--data', 'logs', '--out', 'z'], 'not a readable'),
    ('infer', ['--model', 'none.onnx', '--data', 'logs', '--out', 'z'], 'does not exist'),
    ('data', ['inspect', 'nowhere'], 'nowhere does not exist'),
])
def test_mistakes_are_one_line_and_leave_nothing(logs: Path, trained: Path, module: str,
                                                 arguments: list[str], cause: str) -> None:
    before = sorted(logs.iterdir())
    done = run(module, *arguments, cwd=logs, check=False)
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if line.startswith('error:')]
    assert len(lines) == 1 and cause in lines[0]
    assert 'Traceback' not in done.stderr
    assert sorted(logs.iterdir()) == before


def test_data_inspect_writes_a_table_and_a_contact_sheet(logs: Path) -> None:
    done = run('data', 'inspect', 'logs', '--out', 'sheet', cwd=logs)
    rows = [line.split() for line in done.stdout.splitlines()]
    assert ['/camera/image', 'jpeg', '64x48', '48', '0', '0', '10.0', '0', '0', '6', '8-8', 'gap',
            '5'] in rows
    assert 'frames recorded 240, used 240,' in done.stdout
    assert (logs / 'sheet' / 'contact_sheet.png').stat().st_size > 10000
    assert json.loads((logs / 'sheet' / 'inspect.json').read_text())['num_clips'] == 36


def test_a_loss_that_is_no_number_ends_training_and_spares_the_checkpoint() -> None:
    learner = Learner(preset('debug'))
    learner._watch(torch.tensor(1.0), 6)
    learner.on_save_checkpoint({})
    with pytest.raises(UserError, match='not finite at step 7; lower train.learning_rate'):
        learner._watch(torch.tensor(torch.nan), 7)
    # A card's losses are looked at now and then: a checkpoint may come first.
    with pytest.raises(UserError, match='not finite'):
        learner.on_save_checkpoint({})
