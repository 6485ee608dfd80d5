"""What `make docs` does beyond Markdown: equations as MathML, names of modules as code."""
from __future__ import annotations

import html
import re
from typing import Any

from latex2mathml.converter import convert

EQUATION = re.compile(r'<(span|div) class="arithmatex">\\([([])(.*?)\\[)\]]</\1>', re.S)
ROLE = re.compile(r':(?:mod|class|func|meth|data):<code>')


def on_page_content(content: str, **_: Any) -> str:
    """
    Called by MkDocs with the HTML of each page.

    Equations become MathML, which browsers draw themselves; docstrings' ``:mod:`` and ``:class:``
    become plain code.

    :param content: HTML.
    """
    def mathml(found: re.Match[str]) -> str:
        display = 'block' if found[2] == '[' else 'inline'
        return convert(html.unescape(found[3]), display=display)
    return ROLE.sub('<code>', EQUATION.sub(mathml, content))
