"""The notebooks of the documentation run from top to bottom, on the models that come with the package."""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib
import nbformat
import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

NOTEBOOKS = sorted((Path(__file__).parents[1] / "docs" / "notebooks").glob("*.ipynb"))
LARGEST = 400_000  # bytes, with outputs: what a code host shows, and a clone brings without a thought


@pytest.fixture
def shell(tmp_path, monkeypatch):
    """What runs cells in a notebook's kernel, in this process, where torch is imported already."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    for name in ("displayhook", "excepthook"):
        monkeypatch.setattr(sys, name, getattr(sys, name))
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    matplotlib.use("agg")
    threads = torch.get_num_threads()  # which notebooks set
    yield InteractiveShell(config=Config(HistoryManager={"enabled": False}))
    torch.set_num_threads(threads)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebook_runs_from_top_to_bottom(path, shell):
    cells = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert len(cells) >= 5
    for cell in cells:
        shell.run_cell(cell).raise_error()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebook_installs_what_is_missing_and_switches_to_real_models_in_one_line(path):
    code = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert "%pip install" in code[0].source
    assert "find_spec(" in code[0].source  # only where it is missing
    real = [line for line in code[1].source.splitlines() if line.startswith("# ") and " = " in line]
    assert len(real) == 1


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebook_is_valid_small_and_says_nothing_of_the_machine_that_made_it(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    text = path.read_text(encoding="utf-8")
    assert len(text) < LARGEST
    assert str(Path(__file__).parents[1]) not in text
    assert not [
        output for cell in notebook.cells for output in cell.get("outputs", ()) if output.output_type == "error"
    ]
