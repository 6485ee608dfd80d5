"""``python -m imn_world_model.evaluate``: what identities hold, in figures and pictures."""
import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from imn_world_model.base.cli import atomic_path, run_cli
from imn_world_model.data.frames import load_frames
from imn_world_model.exporting.agreement import search_agreement
from imn_world_model.exporting.search_fit import shortlist_for
from imn_world_model.judging import report
from imn_world_model.judging.evaluation import SPLITS, evaluate
from imn_world_model.judging.foresight import foresight_section
from imn_world_model.learning.hardware import add_accelerator_option, device_for
from imn_world_model.learning.run import DYNAMICS, load_run


def main(arguments: list[str] | None = None) -> None:
    """Command line of the evaluation."""
    parser = argparse.ArgumentParser(prog='imn_world_model.evaluate', description=__doc__)
    parser.add_argument('--run', type=Path, required=True, metavar='DIR',
                        help='run folder that train wrote, or a folder with one run in it')
    parser.add_argument('--data', nargs='+', type=Path, required=True, metavar='PATH')
    parser.add_argument('--out', type=Path, required=True, metavar='DIR',
                        help='folder for metrics.json and report.html')
    parser.add_argument('--split', choices=tuple(SPLITS), default='test')
    parser.add_argument('--limit', type=int, default=10000, help='images at most; 0 for all')
    parser.add_argument('--seed', type=int, default=0, help='of the draw and the protocols')
    parser.add_argument('--ground-truth-topic', metavar='TOPIC',
                        help='topic of a log that carries true labels')
    parser.add_argument('--compare-search', type=int, default=0, metavar='N',
                        help='compare the fast search with the exhaustive one on N images')
    parser.add_argument('--no-disentanglement', action='store_true',
                        help='leave out FactorVAE score, MIG, DCI and SAP (minutes)')
    add_accelerator_option(parser)
    options = parser.parse_args(arguments)
    device = device_for(options.accelerator)
    run = load_run(options.run)
    run.network.to(device)
    frames = load_frames(options.data, replace(
        run.data_options, ground_truth_topic=options.ground_truth_topic))
    for note in frames.notes:
        print(note, file=sys.stderr)
    if frames.content_hash != run.data_hash:
        print(f'this is not the data that {run.path} was trained on: if it holds the same '
              'recordings under other names, training clips are in its test split',
              file=sys.stderr)
    figures, sections = evaluate(run, frames, options.split, options.limit, options.seed,
                                 not options.no_disentanglement)
    if options.compare_search:
        run.network.to(device)
        rows = np.flatnonzero(frames.split == SPLITS[options.split])
        chosen = np.random.default_rng(options.seed).permutation(rows)[:options.compare_search]
        figures['search_agreement'] = search_agreement(
            run.network, frames.images[np.sort(chosen)], shortlist_for(run.network, frames),
            progress=True)
    if (run.path / DYNAMICS).exists():
        foreseen, section = foresight_section(run, options.data, options.split)
        figures |= foreseen
        sections.append(section)
    page = report.render(f'Run {run.path.name}', f'{figures["images"]} {options.split} images of '
                         f'{", ".join(map(str, options.data))}, step {run.step}', sections)
    for name, text in (('metrics.json', json.dumps(figures, indent=2)), ('report.html', page)):
        with atomic_path(options.out / name) as scratch:
            scratch.write_text(text)
    if 'purity' in figures:
        print(f'purity of {figures["purity_of"]} {100 * figures["purity"]:.2f} %')
    print(f'squared error per pixel {figures["pixel_error"]:.5f}; report in '
          f'{options.out / "report.html"}')


if __name__ == '__main__':
    run_cli(main)
