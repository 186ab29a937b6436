"""The reference is whole: every public name and every command and option stands in it, and pages show real ones."""

from __future__ import annotations

import ast
import importlib.util
import re
import shlex
from functools import reduce
from importlib import import_module
from itertools import chain
from types import ModuleType

import nbformat
import pytest
from test_docs import CHECKOUT, FENCE, PAGES, blocks, name
from typer.main import get_command

from captum_vit.cli import app

DOCS = CHECKOUT / "docs"
DIRECTIVE = re.compile(r"^\.\. auto(?P<kind>\w+):: (?P<name>[\w.]+)$", re.MULTILINE)
# Modules whose __all__ is a promise to users.
PROMISING = ("captum_vit", "captum_vit.models", "captum_vit.studies")


def found(dotted: str) -> object:
    """What a name stands for, be it in a module or in a class."""
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        try:
            return reduce(getattr, parts[length:], import_module(".".join(parts[:length])))
        except ModuleNotFoundError:
            continue
    raise AssertionError(f"{dotted} is not there")


def documented() -> set[int]:
    """Identities of all that the pages of the reference have a directive for."""
    objects: list[object] = []
    for page in (DOCS / "api").glob("*.md"):
        for kind, dotted in DIRECTIVE.findall(page.read_text(encoding="utf-8")):
            objects.append(found(dotted))
            if kind == "module":
                own = [value for value in vars(found(dotted)).values() if getattr(value, "__module__", None) == dotted]
                objects += own + [found(f"{dotted}.{each}") for each in getattr(found(dotted), "__all__", ())]
    return {id(each) for each in objects}


def shown(code: str) -> set[str]:
    """Names of the package that code imports or reaches by dots."""
    names = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "captum_vit":
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        dotted = ast.unparse(node) if isinstance(node, ast.Attribute) else ""
        if re.fullmatch(r"captum_vit(\.\w+)+", dotted):
            names.add(dotted)
    return names


def python_of_docs() -> list[str]:
    """All code that pages and notebooks show."""
    cells = chain.from_iterable(nbformat.read(book, 4).cells for book in (DOCS / "notebooks").glob("*.ipynb"))
    of_notebooks = [re.sub(r"%pip.*", "pass", cell.source) for cell in cells if cell.cell_type == "code"]
    return [code for page in PAGES for _, code in blocks(page, "python")] + of_notebooks


def test_every_public_name_is_in_the_reference():
    promised = {f"{module}.{each}" for module in PROMISING for each in import_module(module).__all__}
    objects = {dotted: found(dotted) for dotted in promised.union(*map(shown, python_of_docs()))}
    # Of a module that is only on the way to a name, the name counts.
    on_the_way = {
        dotted for dotted, value in objects.items() if isinstance(value, ModuleType) and dotted not in promised
    }
    of_classes = {dotted for dotted in objects if isinstance(found(dotted.rpartition(".")[0]), type)}
    in_reference = documented()
    missing = [
        each for each in sorted(objects.keys() - on_the_way - of_classes) if id(objects[each]) not in in_reference
    ]
    assert not missing


def commands(command, path="captum-vit"):
    """Commands below a command, groups too, by their words."""
    for word, below in getattr(command, "commands", {}).items():
        yield f"{path} {word}", below
        yield from commands(below, f"{path} {word}")


COMMANDS = dict(commands(get_command(app)))


def options(command) -> list[str]:
    """Of a command, but for those that are kept for old scripts and shown to nobody."""
    shown_ones = [parameter for parameter in command.params if not getattr(parameter, "hidden", False)]
    return [option for parameter in shown_ones for option in parameter.opts if option.startswith("-")]


@pytest.fixture(scope="module")
def sections():
    """What the build puts into the page of commands, by the command's words."""
    spec = importlib.util.spec_from_file_location("commands", DOCS / "extensions" / "commands.py")
    extension = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(extension)
    source = [(DOCS / f"{extension.PAGE}.md").read_text(encoding="utf-8")]
    extension.put_behind_the_page(None, extension.PAGE, source)
    parts = re.split(r"^#+ `(captum-vit[^`]*)`$", source[0], flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize("words", COMMANDS)
def test_every_command_has_a_section_with_all_its_options(words, sections):
    listed = " ".join(re.findall(r"^\* `([^`]+)`:", sections[words], re.MULTILINE))
    assert not set(options(COMMANDS[words])) - set(re.split(r"[\s,/]+", listed))


def examples() -> list[tuple[str, str, list[str]]]:
    """Each command of this package in a block of a page: the page, the command's words, and what follows them."""
    found_ones = []
    for page in PAGES:
        fences = list(FENCE.finditer(page.read_text(encoding="utf-8")))
        shells = [fence["code"] for fence in fences if fence["language"].strip() in ("", "bash", "console")]
        lines = "\n".join(shells).replace("\\\n", " ").splitlines()
        for part in chain.from_iterable(re.split(r"&&|[|;$]", line) for line in lines):
            path, *rest = shlex.split(part, comments=True) if part.strip().startswith("captum-vit ") else [""]
            while rest and f"{path} {rest[0]}" in COMMANDS:
                path = f"{path} {rest.pop(0)}"
            if path:
                found_ones.append((name(page), path, rest))
    return found_ones


def test_every_command_is_shown_by_a_page():
    runnable = {words for words, command in COMMANDS.items() if not hasattr(command, "commands")}
    assert not runnable - {words for _, words, _ in examples()}


def test_the_commands_that_pages_show_exist_with_those_options():
    wrong = []
    for page, words, rest in examples():
        known = options(COMMANDS[words]) if words in COMMANDS else []
        given = [word.partition("=")[0] for word in rest if re.match(r"--?[a-z]", word)]
        wrong += [(page, words, option) for option in given if option not in known]
        wrong += [(page, words, "is no command")] * (words not in COMMANDS)
    assert not wrong
