"""The evaluation as one self-contained HTML page and the pictures in it."""
import base64
import csv
import io
from pathlib import Path
from typing import Any

import cv2
import matplotlib

matplotlib.use('Agg')

import jinja2
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from imn_world_model.model.combine import subset_masks

# Table I of the paper, in percent: rows cube, cylinder, sphere, capsule; columns m1 to m5.
PAPER_SHAPES = ('cube', 'cylinder', 'sphere', 'capsule')
PAPER_PLAIN = ((28.03, 28.80, 0, 43.17, 0), (100, 0, 0, 0, 0), (0, 0, 100, 0, 0),
               (40.32, 0, 0, 0, 59.68))
PAPER_CLASSIFIER = ((93.62, 0, 0, 0, 6.377), (0, 0, 0, 0, 100), (0, 0, 12.33, 87.66, 0),
                    (0, 77.80, 13.34, 7.992, 0))

TEMPLATE = jinja2.Environment(autoescape=True).from_string("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{{ title }}</title><style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto;
padding: 0 1rem; }
table { border-collapse: collapse; margin: .7rem 0; } td, th { padding: .2rem .7rem;
text-align: right; border-bottom: 1px solid #ddd; } th:first-child, td:first-child {
text-align: left; } img { max-width: 100%; image-rendering: pixelated; display: block; }
figcaption { color: #555; } figure { margin: 1.2rem 0; } </style></head><body>
<h1>{{ title }}</h1><p>{{ subtitle }}</p>
{% for section in sections %}<h2>{{ section.title }}</h2>
{% if section.text %}<p>{{ section.text }}</p>{% endif %}
{% for table in section.tables %}<table><caption>{{ table.caption }}</caption>
<tr>{% for cell in table.head %}<th>{{ cell }}</th>{% endfor %}</tr>
{% for row in table.rows %}<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</table>{% endfor %}
{% for picture in section.pictures %}<figure><img alt="{{ picture.caption }}"
src="data:image/png;base64,{{ picture.data }}"><figcaption>{{ picture.caption }}</figcaption>
</figure>{% endfor %}{% endfor %}</body></html>
""")


def picture(caption: str, image: np.ndarray | Figure) -> dict[str, str]:
    """:return: an RGB array or a figure as what the template embeds."""
    if isinstance(image, Figure):
        buffer = io.BytesIO()
        image.savefig(buffer, format='png', dpi=110, bbox_inches='tight')
        plt.close(image)
        data = buffer.getvalue()
    else:
        valid, encoded = cv2.imencode('.png', cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        assert valid
        data = encoded.tobytes()
    return {'caption': caption, 'data': base64.b64encode(data).decode()}


def table(caption: str, head: list[str], rows: list[list[Any]]) -> dict[str, Any]:
    """:return: a table of the template; floats with three decimals."""
    shown = [[f'{cell:.3f}' if isinstance(cell, float) else cell for cell in row]
             for row in rows]
    return {'caption': caption, 'head': head, 'rows': shown}


def section(title: str, text: str = '', tables: list | None = None,
            pictures: list | None = None) -> dict[str, Any]:
    """:return: a section of the template."""
    return {'title': title, 'text': text, 'tables': tables or [], 'pictures': pictures or []}


def render(title: str, subtitle: str, sections: list[dict[str, Any]]) -> str:
    """:return: the page."""
    return TEMPLATE.render(title=title, subtitle=subtitle, sections=sections)


def table_one_tables(values: np.ndarray, names: tuple[str, ...]) -> list[dict[str, Any]]:
    """:return: this model's Table I and the paper's two."""
    def rows(matrix: Any, labels: tuple[str, ...]) -> list[list[Any]]:
        return [[label, *(f'{value:.2f}' for value in row)]
                for label, row in zip(labels, matrix, strict=True)]
    head = ['true class', *(f'identity {j}' for j in range(values.shape[1]))]
    paper = ['true class', *(f'm{j + 1}' for j in range(5))]
    return [table('This model, % of the class won by each identity', head, rows(values, names)),
            table('Paper, without ID classifier', paper, rows(PAPER_PLAIN, PAPER_SHAPES)),
            table('Paper, with ID classifier', paper, rows(PAPER_CLASSIFIER, PAPER_SHAPES))]


def subset_rows(subset: np.ndarray, num_modules: int) -> list[list[Any]]:
    """:return: table rows of the ten commonest winning subsets."""
    masks = subset_masks(num_modules)
    number, count = np.unique(subset, return_counts=True)
    rows = []
    for k in np.argsort(-count)[:10]:
        modules = ' '.join(str(i) for i, on in enumerate(masks[number[k]]) if on)
        rows.append([modules, f'{100 * count[k] / len(subset):.1f} %'])
    return rows


def matrix_figure(values: np.ndarray, factors: list[str], num_latents: int) -> Figure:
    """:return: the latent-factor matrix as a heat map."""
    figure, axes = plt.subplots(figsize=(1.2 + 0.9 * len(factors), 1 + 0.28 * len(values)))
    shown = axes.imshow(values, vmin=0, vmax=1, cmap='viridis', aspect='auto')
    axes.set_xticks(range(len(factors)), factors, rotation=40, ha='right')
    axes.set_yticks(range(len(values)),
                    [f'module {i // num_latents}, z{i % num_latents}' for i in range(len(values))])
    figure.colorbar(shown, label="share of the coordinate's variance")
    return figure


def learning_curves(run: Path) -> list[dict[str, str]]:
    """:return: loss terms and validation figures over the steps, if the run kept them."""
    rows: list[dict[str, str]] = []
    for metrics in sorted(run.glob('metrics*/metrics.csv')):    # one more for each resumption
        with metrics.open() as stream:
            rows += csv.DictReader(stream)
    rows.sort(key=lambda row: int(row['step']))
    pictures = []
    for caption, prefix in (('terms of the loss', 'loss'), ('validation', 'validation/')):
        names = [name for name in rows[0] if name.startswith(prefix)] if rows else []
        if not names:
            continue
        figure, axes = plt.subplots(figsize=(8, 3.2))
        for name in names:
            known = np.array([(float(row['step']), float(row[name]))
                              for row in rows if row.get(name)])
            sign = -1.0 if name.endswith('score') else 1.0      # scores are negative losses
            if len(known) and (sign * known[:, 1] > 0).any():
                axes.plot(known[:, 0], (sign * known[:, 1]).clip(min=1e-6),
                          label=('-' if sign < 0 else '') + name)
        axes.set(xlabel='step', yscale='log')
        axes.legend(fontsize=7, ncols=2)
        pictures.append(picture(caption, figure))
    return pictures
