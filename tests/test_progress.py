"""The progress bar: on standard error, as text in notebooks too, and it says how long all takes if that is long."""

from __future__ import annotations

import io
from contextlib import redirect_stderr, redirect_stdout
from itertools import accumulate
from types import SimpleNamespace

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


@pytest.mark.parametrize(
    ("seconds", "told"),
    {
        "the first, which also allocates, does not count": ([10, *9 * [30]], ["Work: about 4 min"]),  # eight are left
        "the first alone takes long": (10 * [20], ["Work: about 3 min"]),  # nine are left
        "quick steps are watched for two seconds": (100 * [1], ["Work: about 2 min"]),  # 97 are left after three
        "what is left takes less than a minute": (20 * [3], []),
        "what is done at once": (20 * [0.01], []),
    }.values(),
)
def test_the_first_steps_tell_once_how_long_the_others_take(seconds, told, monkeypatch, capsys):
    clock = accumulate(seconds, initial=0)
    monkeypatch.setattr("captum_vit.progress.time", SimpleNamespace(perf_counter=lambda: next(clock)))
    with progress_bar("Work", len(seconds), disable=True, foretold=True) as advance:
        for _ in seconds:
            advance(1)
    assert capsys.readouterr().err.splitlines() == told


def test_where_nothing_was_done_yet_nothing_is_told(monkeypatch, capsys):
    clock = accumulate(3 * [30], initial=0)
    monkeypatch.setattr("captum_vit.progress.time", SimpleNamespace(perf_counter=lambda: next(clock)))
    with progress_bar("Work", 4, disable=True, foretold=True) as advance:
        advance(0)
        assert not capsys.readouterr().err
        advance(1)
    assert capsys.readouterr().err == "Work: about 2 min\n"  # 3 × 30 s


def test_work_that_is_taken_back_and_done_again_counts_once(monkeypatch, capsys):
    clock = accumulate([1, 1, 9, 10], initial=0)
    monkeypatch.setattr("captum_vit.progress.time", SimpleNamespace(perf_counter=lambda: next(clock)))
    with progress_bar("Work", 30, disable=True, foretold=True) as advance:
        for steps in (1, 2, -2):
            advance(steps)
        assert not capsys.readouterr().err
        advance(3)
    assert capsys.readouterr().err == "Work: about 3 min\n"  # 26 left, of which 3 took 20 s
