"""What the documentation shows is what the package does: every Python example runs."""

from __future__ import annotations

import doctest
import re
from importlib import import_module
from pathlib import Path

import matplotlib
import pytest
import torch

CHECKOUT = Path(__file__).parents[1]
PAGES = [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").rglob("*.md"))]
CAIT = CHECKOUT / "tests" / "third_party" / "captum-vit-cait"
# An indented fence (in a list) counts too. "python no-run" is for code that cannot run here: say why in the page.
FENCE = re.compile(r"^(?P<indent> *)```(?P<language>[^\n`]*)\n(?P<code>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str) -> list[tuple[int, str]]:
    """Line and code of each fenced block of a language, in order."""
    text = page.read_text(encoding="utf-8")
    found = []
    for fence in FENCE.finditer(text):
        if fence["language"].strip() == language:
            code = "".join(line.removeprefix(fence["indent"]) for line in fence["code"].splitlines(keepends=True))
            found.append((text.count("\n", 0, fence.start("code")), code))
    return found


def name(page: Path) -> str:
    return page.relative_to(CHECKOUT).as_posix()


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=name)
def test_the_pages_python_examples_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    matplotlib.use("agg")
    torch.manual_seed(0)
    namespace: dict[str, object] = {"__name__": "__main__"}
    for line, code in blocks(page, "python"):
        # Padded with empty lines, so that a traceback shows the page's own line numbers.
        exec(compile("\n" * line + code, str(page), "exec"), namespace)


@pytest.mark.parametrize("file", ["captum_vit_cait.py", "pyproject.toml", "test_cait.py"])
def test_the_how_to_shows_the_distribution_that_the_tests_install(file: str) -> None:
    page = (CHECKOUT / "docs" / "how-to" / "write-an-adapter.md").read_text(encoding="utf-8")
    assert f"\n{(CAIT / file).read_text(encoding='utf-8')}```\n" in page


def test_the_readme_shows_the_adapter_that_the_tests_install() -> None:
    adapter = (CAIT / "captum_vit_cait.py").read_text(encoding="utf-8")
    shown = [code for _, code in blocks(CHECKOUT / "README.md", "python") if "Adapter" in code]
    assert len(shown) == 1
    assert adapter.endswith(shown[0])


@pytest.mark.parametrize("module", ["probes.adapting", "probes.grid", "probes.address"])
def test_the_examples_in_docstrings_give_what_they_say(module: str) -> None:
    failed, attempted = doctest.testmod(import_module(f"captum_vit.{module}"))
    assert attempted > 0
    assert not failed


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_the_pages_links_to_files_lead_somewhere(page: Path) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    targets = [target.split("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text)]
    missing = [target for target in targets if target and ":" not in target and not (page.parent / target).exists()]
    assert not missing
