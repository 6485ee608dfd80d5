"""The page on which a user names identities: one HTML file, nothing fetched from elsewhere."""
import base64
import re
import shlex
from pathlib import Path

import cv2
import jinja2
import numpy as np

from imn_world_model.enrolment.typical import Shown

# Names that nobody has given.
UNNAMED = re.compile(r'identity \d+')
QUALITY = 90

PAGE = jinja2.Environment(autoescape=True).from_string("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Names for {{ model }}</title><style>
body { font: 15px/1.4 system-ui, sans-serif; max-width: 76rem; margin: 0 auto; padding: 0 1rem; }
header { position: sticky; top: 0; background: #fff; padding: .6rem 0; z-index: 1;
border-bottom: 1px solid #bbb; display: flex; gap: 1rem; align-items: center; flex-wrap: wrap; }
h1 { font-size: 1.1rem; margin: 0; } progress { width: 10rem; } code { font-size: .9em; }
button { font: inherit; padding: .3rem .9rem; } p { margin: .5rem 0; max-width: 60rem; }
.row { display: flex; gap: 1rem; align-items: center; padding: .5rem .3rem;
border-bottom: 1px solid #ddd; scroll-margin: 8rem; }
.row:focus-within { background: #eef3ff; } .pictures { display: flex; gap: 3px; flex: none;
width: {{ width }}px; flex-wrap: wrap; }
.pictures img { width: {{ side }}px; height: {{ side }}px; }
.what { width: 8rem; flex: none; } .what small { display: block; color: #555; }
.name { flex: 1; min-width: 10rem; } input { font: inherit; width: 100%; padding: .3rem;
box-sizing: border-box; } .twice input { outline: 2px solid #c60; } .hint { color: #a40;
font-size: .9em; } </style></head><body>
<header><h1>Names for {{ model }}</h1><progress max="{{ rows|length }}" value="0"></progress>
<span id="progress" aria-live="polite"></span>
<button id="download">Download names.yaml</button></header>
<p>{{ images }} images of {{ data }}. A row is one identity, with the pictures that are most
typical of it. Type what it shows; <b>Enter</b> goes on, <b>Shift+Enter</b> goes back. What stays
empty keeps its name. Then <code>python -m imn_world_model.label --model {{ model_word }} --names
names.yaml --out NEW.onnx</code></p>
{% for row in rows %}<div class="row" data-key="{{ row.key }}">
<div class="pictures">{% for data in row.pictures %}<img alt=""
src="data:image/jpeg;base64,{{ data }}">{% else %}no picture{% endfor %}</div>
<div class="what"><b>{{ row.label }}</b><small>won {{ row.won }} images</small>
{% if row.novel %}<small>{{ row.novel }} of them novel</small>{% endif %}</div>
<div class="name"><input aria-label="name of {{ row.label }}" value="{{ row.value }}"
autocomplete="off" spellcheck="false"><div class="hint"></div></div></div>
{% endfor %}<script>
const rows = [...document.querySelectorAll('.row')];
const inputs = rows.map(row => row.querySelector('input'));
const nameOf = input => input.value.trim().replace(/\\s+/g, ' ');
const firstWith = name => rows[inputs.findIndex(input => nameOf(input) === name)];
let saved = true;

function look() {
  const named = inputs.filter(nameOf).length;
  document.querySelector('#progress').textContent = `${named} of ${inputs.length} named`;
  document.querySelector('progress').value = named;
  rows.forEach((row, k) => {
    const name = nameOf(inputs[k]), first = name ? firstWith(name) : row;
    row.classList.toggle('twice', first !== row);
    row.querySelector('.hint').textContent = first === row ? '' :
      `${first.dataset.key} has this name. Another thing: give it another name. The same thing ` +
      `found twice: leave it, this row keeps its old name; afterwards enroll --model NEW.onnx ` +
      `--merge ${quoted(name)} ${quoted(row.dataset.key)} --out MERGED.onnx`;
  });
}

const quoted = word => /^[\\w.-]+$/.test(word) ? word : `'${word.replace(/'/g, `'\\\\''`)}'`;

function go(from, step) {
  const to = inputs[from + step];
  if (!to) { document.querySelector('#download').focus(); return; }
  to.focus(); to.select();
  rows[from + step].scrollIntoView({block: 'center'});
}

function yaml() {
  const lines = rows.map((row, k) => [row, nameOf(inputs[k])])
    .filter(([row, name]) => name && firstWith(name) === row)
    .map(([row, name]) => `${JSON.stringify(row.dataset.key)}: ${JSON.stringify(name)}`);
  return ['# identity: its name', ...lines, ''].join('\\n');
}

inputs.forEach((input, k) => {
  input.addEventListener('input', () => { saved = false; look(); });
  input.addEventListener('keydown', event => {
    if (event.isComposing || !['Enter', 'ArrowDown', 'ArrowUp'].includes(event.key)) return;
    event.preventDefault();
    go(k, event.key === 'ArrowUp' || event.shiftKey ? -1 : 1);
  });
});
document.querySelector('#download').addEventListener('click', () => {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([yaml()], {type: 'text/yaml'}));
  link.download = 'names.yaml';
  link.click();
  saved = true;
});
addEventListener('beforeunload', event => { if (!saved) event.preventDefault(); });
look();
(inputs.find(input => !nameOf(input)) || inputs[0]).focus();
</script></body></html>
""")
SIDE, ACROSS = 80, 8


def page(shown: list[Shown], model: Path, data: list[Path]) -> str:
    """
    Build the page.

    :param shown: the identities, in the order of the rows.
    :param model: the file that they are of.
    :param data: the log that the pictures are from.
    :return: HTML.
    """
    rows = [{'key': one.label, 'label': one.label, 'won': one.won, 'novel': one.novel,
             'value': '' if UNNAMED.fullmatch(one.label) else one.label,
             'pictures': [_jpeg(image) for image in one.pictures]} for one in shown]
    return PAGE.render(model=model.name, model_word=shlex.quote(str(model)), rows=rows,
                       data=', '.join(map(str, data)), images=sum(one.won for one in shown),
                       side=SIDE, width=ACROSS * (SIDE + 3))


def _jpeg(image: np.ndarray) -> str:
    """:return: an RGB picture (S, S, 3) as base64."""
    valid, encoded = cv2.imencode('.jpg', image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    assert valid
    return base64.b64encode(encoded.tobytes()).decode()
