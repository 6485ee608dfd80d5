"""
Draw the figures of docs/how_it_works.md from the shipped run, at most a minute.

    .venv/bin/python tools/figures.py            # -> docs/figures/
"""
from __future__ import annotations

import csv
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib import pyplot as plt

from imn_world_model.base.config import Config
from imn_world_model.base.marks import MARK
from imn_world_model.learning.learner import Learner
from imn_world_model.learning.run import load_run
from imn_world_model.model.combine import active_product, candidate_transforms, subset_transforms
from imn_world_model.model.imn import IndependentModularNetwork
from imn_world_model.model.pictures import to_uint8
from imn_world_model.model.score import image_loss
from imn_world_model.model.winner import exhaustive
from imn_world_model.rendering.shapes3d import Shapes3D

ROOT = Path(__file__).resolve().parent.parent
RUN = ROOT / 'export' / 'shapes3d_run'
OUT = ROOT / 'docs' / 'figures'
# Factor indices of the image that is shown: a red capsule before a blue wall on a green floor.
SHOWN = (3, 6, 0, 5, 3, 4)
# Shades of one family, told apart by lightness too.
COLOURS = ('#1b3a6b', '#c0504d', '#4f9153', '#8064a2', '#d08a2e')


def save(figure: plt.Figure, name: str) -> None:
    """Write a figure as a PNG and say so."""
    OUT.mkdir(exist_ok=True)
    figure.savefig(OUT / name, dpi=110, bbox_inches='tight', metadata=MARK)
    plt.close(figure)
    print(f'docs/figures/{name}')


def show(axis: plt.Axes, picture: np.ndarray, title: str = '') -> None:
    """Show a picture without a frame of numbers."""
    axis.imshow(picture, interpolation='nearest')
    axis.set_title(title, fontsize=9)
    axis.set_xticks([])
    axis.set_yticks([])


@torch.no_grad()
def candidates(network: IndependentModularNetwork, image: np.ndarray) -> None:
    """Eq. (4) to (9): one image, some of its 155 candidates, the score of all."""
    batch = torch.from_numpy(image[None]).movedim(-1, 1).float() / 255.0
    encoding = network.encode(batch)
    answer = network.search(batch, encoding, exhaustive)
    identity = int(answer.identity_scores.argmax())
    winner = int(answer.subset[0, identity])
    names = [''.join(str(k + 1) for k in range(len(mask)) if mask[k])
             for mask in network.masks.tolist()]
    rows = [0, 1, 2, 6, winner]
    cand_T = candidate_transforms(subset_transforms(encoding.comp_T), network.identities())
    n = network.config.num_identities
    recon = network.decoder(cand_T)[0].unflatten(0, (-1, n))            # (P, n, 3, H, W)
    error = image_loss(recon, batch)                                     # (P, n)

    figure, axes = plt.subplots(len(rows), n + 1, figsize=(7.6, 6.6))
    for r, subset in enumerate(rows):
        show(axes[r, 0], image if r == 0 else np.full_like(image, 255), 'image' if r == 0 else '')
        if r:
            axes[r, 0].axis('off')
        for j in range(n):
            axis = axes[r, j + 1]
            show(axis, to_uint8(recon[subset, j]), f'identity {j}' if r == 0 else '')
            axis.set_xlabel(f'error {error[subset, j]:.0f}', fontsize=8)
            if subset == winner and j == identity:
                for side in axis.spines.values():
                    side.set(color='#c0504d', linewidth=3)
        axes[r, 1].set_ylabel(f'modules {names[subset]}', fontsize=9)
    figure.tight_layout()
    save(figure, 'candidates.png')


@torch.no_grad()
def built_up(network: IndependentModularNetwork, image: np.ndarray) -> None:
    """Eq. (1), (5): an identity alone, then with one module more at a time."""
    batch = torch.from_numpy(image[None]).movedim(-1, 1).float() / 255.0
    output = network(batch)
    identity_T = network.identities()[output.identity]
    figure, axes = plt.subplots(1, network.config.num_modules + 2, figsize=(10, 1.9))
    product = ''
    for k in range(network.config.num_modules + 1):
        active = torch.zeros(1, network.config.num_modules, dtype=torch.bool)
        active[:, :k] = True
        recon = network.decoder(active_product(output.encoding.comp_T, active) @ identity_T)
        product += f'$T_{k}$' if k else ''
        show(axes[k], to_uint8(recon[0]), product + '$T^I$')
    show(axes[-1], image, 'image')
    save(figure, 'built_up.png')


@torch.no_grad()
def independence(network: IndependentModularNetwork) -> None:
    """Eq. (8): how much each pair of basis matrices has to do with each other."""
    basis = network.compositional.basis.flatten(0, 1)                    # (m*L, u, u)
    norms = (basis[:, None] @ basis[None]).square().sum((-2, -1)).sqrt()
    size = basis.square().sum((-2, -1)).sqrt()
    figure, axis = plt.subplots(figsize=(3.9, 3.3))
    shown = axis.imshow(norms / (size[:, None] * size), cmap='Blues', vmin=0.0)
    latents = network.config.num_latents
    for edge in range(latents, len(basis), latents):
        axis.axhline(edge - 0.5, color='grey', linewidth=0.6)
        axis.axvline(edge - 0.5, color='grey', linewidth=0.6)
    centres = np.arange(0, len(basis), latents) + (latents - 1) / 2
    numbers = range(1, len(centres) + 1)
    axis.set_xticks(centres, numbers)
    axis.set_yticks(centres, numbers)
    axis.set(xlabel='module of $A_j$', ylabel='module of $A_i$')
    figure.colorbar(shown, label=r'$\|A_iA_j\| / \|A_i\|\|A_j\|$')
    save(figure, 'independence.png')


def schedule(config: Config) -> None:
    """The order of learning: weight of the KL term, use of the identities, error."""
    with (RUN / 'metrics' / 'metrics.csv').open() as stream:
        rows = [row for row in csv.DictReader(stream) if row['validation/pixel_error']]
    step = np.array([int(row['step']) for row in rows])
    n, train = config.model.num_identities, config.train
    use = np.array([[float(row[f'validation/identity_{j}']) for row in rows] for j in range(n)])
    figure, axes = plt.subplots(3, 1, figsize=(7, 5.4), sharex=True)
    learner = Learner(config)
    steps = np.arange(train.steps)
    axes[0].semilogy(steps, [learner.kl_weight(k) for k in steps], color=COLOURS[0])
    axes[0].set_ylabel('KL weight')
    axes[1].stackplot(step, use, colors=COLOURS)
    axes[1].set_ylabel('use of identities')
    axes[1].set_ylim(0, 1)
    axes[2].semilogy(step, [float(row['validation/pixel_error']) for row in rows],
                     color=COLOURS[0])
    axes[2].set_ylabel('squared error')
    axes[2].set_xlabel('step')
    for axis in axes:
        for when in (train.single_identity_steps, train.all_modules_steps):
            axis.axvline(when, color='black', linestyle=':', linewidth=1)
    for when, text in ((0, 'one\nidentity'), (train.single_identity_steps, 'identities\napart'),
                       (train.all_modules_steps, 'subsets of modules\nchosen, too')):
        axes[0].text(when + 60, 1, text, fontsize=8, va='bottom',
                     transform=axes[0].get_xaxis_transform())
    save(figure, 'schedule.png')


@torch.no_grad()
def hues(network: IndependentModularNetwork, images: Shapes3D) -> None:
    """Eq. (1): a hue goes round in the coordinates of one module, and stands still in others."""
    m = network.config.num_modules
    figure, axes = plt.subplots(1, m, figsize=(10, 2.3))
    rng = np.random.default_rng(0)
    factors = np.tile(np.array(SHOWN), (300, 1))
    factors[:, 2] = rng.integers(0, 10, len(factors))
    factors[:, 3] = rng.integers(0, 8, len(factors))
    factors[:, 5] = rng.integers(0, 15, len(factors))
    batch = torch.from_numpy(images.images(factors)).movedim(-1, 1).float() / 255.0
    mu = network.encode(batch).mu
    cloud = matplotlib.colormaps['hsv'](factors[:, 2] / 10)
    for k in range(m):
        axes[k].scatter(*mu[:, k, :2].T, c=cloud, s=8)
        axes[k].set(title=f'module {k + 1}', xlim=(-3, 3), ylim=(-3, 3), aspect='equal')
        axes[k].title.set_fontsize(9)
        axes[k].tick_params(labelsize=7)
    save(figure, 'hues.png')


def main() -> None:
    """Draw all."""
    run = load_run(RUN)
    images = Shapes3D(run.config.model.image_size)
    image = images.images(np.array([SHOWN]))[0]
    candidates(run.network, image)
    built_up(run.network, image)
    independence(run.network)
    schedule(run.config)
    hues(run.network, images)


if __name__ == '__main__':
    main()
