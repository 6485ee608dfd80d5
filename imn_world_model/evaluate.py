"""``python -m imn_world_model.evaluate``: what identities hold, in figures and pictures."""
import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from imn_world_model import metrics, report
from imn_world_model.agreement import search_agreement
from imn_world_model.cli import atomic_path, run_cli
from imn_world_model.data.frames import Frames, load_frames
from imn_world_model.errors import UserError
from imn_world_model.foresight import foresight_section
from imn_world_model.hardware import add_accelerator_option, device_for
from imn_world_model.observe import Observation, latent_means, observe
from imn_world_model.pictures import (
    exchanged_identities,
    grid,
    identity_images,
    module_sweeps,
)
from imn_world_model.rendering.shapes3d import FACTOR_SIZES, FACTORS, Shapes3D
from imn_world_model.run import DYNAMICS, Run, load_run
from imn_world_model.shortlist import shortlist_for
from imn_world_model.winner import MAX_IDENTITIES, coarse_to_fine, exhaustive

SPLITS = {'train': 0, 'validation': 1, 'test': 2}
EXAMPLES = 10


def evaluate(run: Run, frames: Frames, split: str, limit: int, seed: int,
             disentanglement: bool) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """
    Judge a run on one split.

    :param run: loaded run.
    :param frames: data at the run's image size.
    :param split: ``train``, ``validation`` or ``test``.
    :param limit: images at most, drawn at random; 0 for all.
    :param seed: of that draw and of the protocols.
    :param disentanglement: whether to compute FactorVAE score, MIG, DCI and SAP.
    :return: the figures, and the sections of the report.
    :raises UserError: when the split is empty.
    """
    rows = np.flatnonzero(frames.split == SPLITS[split])
    if len(rows) == 0:
        raise UserError(f'the data has no {split} images; choose another --split')
    if limit and len(rows) > limit:
        rows = np.sort(np.random.default_rng(seed).choice(rows, limit, replace=False))
    images = frames.images[rows]
    n, m = run.config.model.num_identities, run.config.model.num_modules
    # Of many identities most are no match: decoding all of them is for --compare-search.
    seen = observe(run.network, images, keep_recon=True,
                   strategy=exhaustive if n <= MAX_IDENTITIES else coarse_to_fine)
    labels = {name: values[rows] for name, values in frames.labels.items()
              if (values[rows] >= 0).all() and len(np.unique(values[rows])) > 1}
    figures: dict[str, Any] = {
        'run': run.path.name, 'step': run.step, 'split': split, 'images': len(images),
        'image_size': run.config.model.image_size, 'seed': seed, 'data_hash': frames.content_hash,
        'pixel_error': float(seen.error.mean()), 'score': float(seen.score.mean()),
        'identity_share': (np.bincount(seen.identity, minlength=n) / len(images)).tolist(),
        'kl': seen.kl.mean(0).tolist()}
    sections = []
    if labels:
        figures |= metrics.summarize(seen.identity, seen.latents, labels, n)
        kind = figures['purity_of']
        names = frames.label_names[kind]
        values = metrics.table_one(seen.identity, labels[kind], n, len(names))
        figures['table_one'] = {name: row.tolist() for name, row in zip(names, values,
                                                                        strict=True)}
        sections.append(_identity_section(figures, values, names))
        factors = {name: classes for name, classes in labels.items() if name != 'shape'}
        if disentanglement and factors:
            figures['disentanglement'] = _disentanglement(run, seen, factors, seed)
            sections.append(report.section(
                'Disentanglement of the coordinates',
                "disentanglement_lib's protocols on posterior means: MIG with 20 bins, DCI with "
                'random forests (20 trees, depth 12) of scikit-learn, SAP with linear SVMs, '
                'FactorVAE score with 800 + 400 votes of 64 rendered images (3Dshapes only).',
                [report.table('', ['figure', 'value'],
                              [[name, value] for name, value in
                               figures['disentanglement'].items()])]))
    run.network.cpu()                                 # a few pictures
    sections += _picture_sections(run, images, seen, labels, m)
    return figures, sections


def _identity_section(figures: dict[str, Any], values: np.ndarray,
                      names: tuple[str, ...]) -> dict[str, Any]:
    rows = [[name, item['nmi'], item['ari'], figures['probe'][name]['accuracy'],
             figures['probe'][name]['chance']] for name, item in figures['identity'].items()]
    unused = figures['unused_identities']
    text = (f'Purity (of {figures["purity_of"]}): {100 * figures["purity"]:.2f} %. '
            + (f'Identities that won nothing: {", ".join(map(str, unused))}.' if unused
               else 'Every identity won something.'))
    head = ['factor', 'NMI with identity', 'ARI', 'linear probe of the coordinates', 'chance']
    return report.section('What the identities are (Table I)', text,
                          report.table_one_tables(values, names) + [
                              report.table('Identity and coordinates against each factor', head,
                                           rows)])


def _disentanglement(run: Run, seen: Observation, factors: dict[str, np.ndarray],
                     seed: int) -> dict[str, float]:
    """:return: figures of the coordinates for the factors that the identity does not hold."""
    forest = metrics.dci(seen.latents, factors, seed)
    result = {'mig': metrics.mutual_information_gap(seen.latents, factors),
              'dci_disentanglement': forest['disentanglement'],
              'dci_completeness': forest['completeness'],
              'dci_informativeness': forest['informativeness'],
              'sap': metrics.sap(seen.latents, factors)}
    if set(factors) == set(FACTORS) - {'shape'}:
        world = Shapes3D(run.config.model.side)
        keep = [FACTORS.index(name) for name in FACTORS if name != 'shape']
        bar = tqdm(desc='FactorVAE score', unit=' batches')

        def render(chosen: np.ndarray) -> np.ndarray:
            bar.update()
            rng = np.random.default_rng([seed, *chosen[0], *chosen[-1]])
            full = np.empty((len(chosen), len(FACTORS)), np.int64)
            full[:, keep] = chosen
            full[:, FACTORS.index('shape')] = rng.integers(4, size=len(chosen))
            return world.images(full)

        sizes = tuple(FACTOR_SIZES[k] for k in keep)
        with bar:
            result['factor_vae'] = metrics.factor_vae_score(
                lambda images: latent_means(run.network, images), render, sizes, seed=seed)
    return result


def _picture_sections(run: Run, images: np.ndarray, seen: Observation,
                      labels: dict[str, np.ndarray], num_modules: int) -> list[dict[str, Any]]:
    shown = np.random.default_rng(0).permutation(len(images))[:EXAMPLES]
    alone = identity_images(run.network)
    sections = [
        report.section('Fig. 2', '', None, [
            report.picture('(a) example images', grid([images[shown]])),
            report.picture('(b) each identity decoded alone', grid([alone])),
            report.picture('(c) the modules of each example on every identity', grid(
                [images[shown], *exchanged_identities(run.network, images[shown]).swapaxes(0, 1)]))
        ]),
        report.section('Reconstructions', f'Squared error per pixel and channel '
                       f'{seen.error.mean():.5f}.', None, [
                           report.picture('images, winners, their identities alone',
                                          grid([images[shown], seen.recon[shown],
                                                alone[seen.identity[shown]]]))]),
        report.section('Which modules win', '', [
            report.table('The commonest winning subsets', ['modules', 'share'],
                         report.subset_rows(seen.subset, num_modules))]),
        report.section('What each module does', '', None, [
            report.picture('one image; along a row, one module takes its coordinates from other '
                           'images', grid(list(module_sweeps(
                               run.network, images[int(shown[0])], seen.latents))))])]
    if labels:
        figure = report.matrix_figure(metrics.factor_matrix(seen.latents, labels), list(labels),
                                      run.config.model.num_latents)
        sections.append(report.section('Coordinates and factors', '', None, [
            report.picture("share of a coordinate's variance that a factor explains", figure)]))
    curves = report.learning_curves(run.path)
    if curves:
        sections.append(report.section('Learning curves', '', None, curves))
    return sections


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
