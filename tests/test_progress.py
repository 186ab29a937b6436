"""The progress bar: on standard error, with a line of text in notebooks too, and out of the way of results."""

from __future__ import annotations

import io
from contextlib import redirect_stderr, redirect_stdout

import pytest
from rich import console

from captum_vit.progress import progress_bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")


def printed(stdout: io.StringIO, disable: bool = False) -> tuple[str, str]:
    """What work with a bar leaves on standard output and on standard error, which is a terminal."""
    stderr = Terminal()
    with redirect_stdout(stdout), redirect_stderr(stderr), progress_bar("Rendering", 3, disable) as advance:
        for step in range(3):
            advance(1)
            print("loss", step)
    return stdout.getvalue(), stderr.getvalue()


LOSSES = "loss 0\nloss 1\nloss 2\n"


def test_what_is_printed_to_a_file_meanwhile_goes_there():
    out, error = printed(io.StringIO())
    assert out == LOSSES
    assert "loss" not in error
    assert "Rendering" in error
    assert "3/3" in error


def test_what_is_printed_to_the_terminal_meanwhile_stands_above_the_bar():
    out, error = printed(Terminal())
    assert not out
    assert error.index("loss 2") < error.rindex("3/3")


def test_in_a_notebook_it_is_text_and_needs_no_widgets(monkeypatch):
    monkeypatch.setattr(console, "_is_jupyter", lambda: True)
    out, error = printed(io.StringIO())
    assert out == LOSSES
    assert "3/3" in error


def test_disabled_it_shows_nothing():
    assert printed(io.StringIO(), disable=True) == (LOSSES, "")
