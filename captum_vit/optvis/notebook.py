"""Pictures for notebooks: PNGs, and figures of HTML that hold all that they show."""

from __future__ import annotations

import io
from base64 import b64encode
from collections.abc import Iterable
from html import escape

from PIL import Image

from captum_vit.storage.files import shown

# Pixels of the longer side on the screen, at least: images of micro models have 64.
_SMALLEST = 128


def png(image: Image.Image) -> bytes:
    """An image as the content of a PNG."""
    content = io.BytesIO()
    image.save(content, format="PNG")
    return content.getvalue()


def figure(image: Image.Image, caption: Iterable[str], heading: str = "") -> str:
    """An image with lines below it, and a heading that also tells it to who cannot see it; all of them plain text."""
    factor = max(1.0, _SMALLEST / max(image.size))
    width, height = (round(factor * side) for side in image.size)
    words = "<br>".join(escape(shown(line)) for line in caption if line)
    title = f"<b>{escape(shown(heading))}</b><br>" if heading else ""
    return (
        '<figure style="display: inline-block; vertical-align: top; margin: 0 8px 8px 0">'
        f'<img src="data:image/png;base64,{b64encode(png(image)).decode()}" alt="{escape(shown(heading))}" '
        f'width="{width}" height="{height}">'
        f'<figcaption style="max-width: {width}px; font-size: smaller; overflow-wrap: anywhere">{title}{words}'
        "</figcaption></figure>"
    )


def beside(figures: Iterable[str]) -> str:
    """Figures beside one another, in as many rows as the notebook's width asks for."""
    return f"<div>{''.join(figures)}</div>"


def note(words: str) -> str:
    """A line of small print, plain text."""
    return f'<div style="font-size: smaller">{escape(shown(words))}</div>'
