"""Writes self-contained HTML pages for all reports, with nothing to download."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 1180px; margin: 2em auto;
  padding: 0 1em; }
h1 { font-size: 1.5em; }
h2 { font-size: 1.25em; margin-top: 2.2em; border-bottom: 1px solid #ccc; }
h3 { font-size: 1.05em; margin-top: 1.8em; }
.wide { overflow-x: auto; margin: 1em 0; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { padding: 3px 9px; text-align: right; border-bottom: 1px solid #e4e4e4; }
td { white-space: nowrap; }
th { border-bottom: 2px solid #888; vertical-align: bottom; font-weight: 600; }
th:first-child, td:first-child { text-align: left; }
details td:last-child { text-align: left; }
tr.base td { background: #f3f3f3; }
tr.ours td { background: #fdf0e6; }
small, .note { color: #555; font-size: 13px; }
small { font-size: 11px; }
img { max-width: 100%; }
figure { margin: 1em 0; }
figcaption { color: #555; font-size: 13px; }
"""


def write_page(path: Path, title: str, parts: Sequence[str]) -> None:
    """Writes a page.

    Args:
        path: The HTML file.
        title: Title, plain text.
        parts: Content, HTML.
    """
    page = (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>"
        f"<h1>{escape(title)}</h1>{''.join(parts)}</body></html>\n"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")


def picture_of(title: str, figure: Figure, caption: str) -> str:
    """Returns HTML of a heading, the figure as an inline SVG image, and a caption."""
    # As an image, since several SVG in one page would share the names of their parts.
    buffer = io.BytesIO()
    with rc_context({"svg.hashsalt": "heisd"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    content = base64.b64encode(buffer.getvalue()).decode()
    return (
        f'<figure><h3>{escape(title)}</h3><img alt="{escape(title)}" '
        f'src="data:image/svg+xml;base64,{content}"><figcaption>{escape(caption)}</figcaption>'
        "</figure>"
    )
