"""A run judged on one split: figures, and the sections of the report."""
from typing import Any

import numpy as np
from tqdm import tqdm

from imn_world_model.base.errors import UserError
from imn_world_model.data.frames import Frames
from imn_world_model.judging import metrics, report
from imn_world_model.learning.run import Run
from imn_world_model.model.observe import Observation, latent_means, observe
from imn_world_model.model.pictures import (
    exchanged_identities,
    grid,
    identity_images,
    module_sweeps,
)
from imn_world_model.model.winner import MAX_IDENTITIES, coarse_to_fine, exhaustive
from imn_world_model.rendering.shapes3d import FACTOR_SIZES, FACTORS, Shapes3D

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
