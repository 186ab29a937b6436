"""The reference of the commands: what Typer writes of them, put behind the page that is called like this extension."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

PAGE = "commands"


def reference() -> str:
    """Every command with its arguments and options in Markdown, from the texts that ``--help`` shows."""
    words = [sys.executable, "-m", "typer", "captum_vit.cli", "utils", "docs", "--name", "captum-vit"]
    written = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    # Examples are coloured by Rich's markup on a console; here they are code. The page itself says what comes first.
    return re.sub(r"\[cyan\](.*?)\[/\]", r"`\1`", written[written.index("\n## ") :])


def put_behind_the_page(app: Any, name: str, source: list[str]) -> None:
    """Sphinx's event ``source-read``: a page's text, before it is parsed."""
    if name == PAGE:
        source[0] += reference()


def setup(app: Any) -> dict[str, bool]:
    """Connect the event."""
    app.connect("source-read", put_behind_the_page)
    return {"parallel_read_safe": True}
