"""Python of an adapter: expressions for modules and grids, and loops over blocks that repeat."""

from __future__ import annotations

import keyword
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import nn

from captum_vit.discovery.finding import FoundSite
from captum_vit.discovery.steps import GridStep
from captum_vit.probes.grid import PatchGrid, Size
from captum_vit.probes.layout import TOKENS
from captum_vit.probes.steps import Resize, SameWindow, Window

WIDTH = 120
GridNames = dict[tuple[GridStep, ...], str]
_LISTS = (nn.ModuleList, nn.Sequential)


def module_at(model: nn.Module, path: str, start: str = "", variable: str = "model") -> str:
    """The expression for a module: ``model.blocks[0].mlp``.

    Parameters
    ----------
    path
        Its path in the model.
    start, variable
        A path on the way, and the variable that holds the module there.
    """
    expression, reached = variable, start
    for word in path[len(start) :].strip(".").split("."):
        if not word:
            continue
        at = model.get_submodule(reached)
        if word.isdigit() and isinstance(at, _LISTS):
            expression += f"[{word}]"
        elif word.isidentifier() and not keyword.iskeyword(word):
            expression += f".{word}"
        else:
            expression += f'.get_submodule("{word}")'
        reached = f"{reached}.{word}".strip(".")
    return expression


def grids(model: nn.Module, sites: Sequence[FoundSite]) -> tuple[GridNames, list[str]]:
    """Names for the grids of sites, and the lines that make them, each from the one that it continues."""
    several = dict.fromkeys(site.steps for site in sites)
    named: GridNames = {}
    lines = []
    for number, steps in enumerate(several, start=1):
        begun = max((known for known in named if steps[: len(known)] == known), key=len, default=())
        name = f"grid{number}" if len(several) > 1 else "grid"
        lines.append(f"{name} = {named.get(begun, 'PatchGrid()')}{_calls(model, steps[len(begun) :])}")
        named[steps] = name
    return named, lines


def _calls(model: nn.Module, steps: Sequence[GridStep]) -> str:
    """The calls that take steps, which read numbers off the model's modules where these tell them."""
    calls, modules = "", []
    for step in steps:
        if step.by and PatchGrid().through(model.get_submodule(step.by)) == step.grid:
            modules.append(module_at(model, step.by))
            continue
        calls += _through(modules) + _literally(step.grid)
        modules = []
    return calls + _through(modules)


def _through(modules: Sequence[str]) -> str:
    return f".through({', '.join(modules)})" if modules else ""


def _literally(grid: PatchGrid) -> str:
    (rows,), (columns,) = grid.rows, grid.columns
    if isinstance(rows, Resize) and isinstance(columns, Resize):
        return f".resized({_pair((rows.cells, columns.cells))})"
    assert isinstance(rows, Window | SameWindow)
    assert isinstance(columns, Window | SameWindow)
    kernel, stride = _pair((rows.kernel, columns.kernel)), _pair((rows.stride, columns.stride))
    if not (isinstance(rows, Window) and isinstance(columns, Window)):
        return f".then_same({kernel}, {stride})"
    padding = f", {_pair((rows.padding, columns.padding))}" if rows.padding or columns.padding else ""
    return f".then({kernel}, {stride}{padding}{', ceil=True' if rows.ceil else ''})"


def _pair(values: Size) -> str:
    return str(values[0]) if values[0] == values[1] else str(values)


def site_lines(model: nn.Module, sites: Sequence[FoundSite], grid_names: GridNames, loops: bool = True) -> list[str]:
    """Statements that yield sites: loops over the model's lists of blocks where blocks are alike.

    Parameters
    ----------
    loops
        Whether to write loops, or a statement for each site.
    """
    lines, at = [], 0
    while at < len(sites):
        found = [loop for loop in _loops(model, sites[at:]) if loops and loop.turns > 1]
        loop = max(found, key=lambda each: len(each.sites) * each.turns, default=None)
        if loop is None:
            lines += _yield(sites[at], sites[at].name, module_at(model, sites[at].reads), model, grid_names)
            at += 1
            continue
        lines.append(loop.head(model))
        for site in loop.sites:
            name = f"{loop.path}.{{i}}{site.name[len(loop.first) :]}"
            reads = module_at(model, site.reads, loop.first, loop.variable)
            lines += [f"    {line}" for line in _yield(site, name, reads, model, grid_names)]
        at += len(loop.sites) * loop.turns
    return lines


@dataclass(frozen=True)
class _Loop:
    """Turns over a list of modules, each of which gives the same sites as the first."""

    path: str
    start: int
    turns: int
    sites: Sequence[FoundSite]

    @property
    def first(self) -> str:
        """Path of the first module of the loop."""
        return f"{self.path}.{self.start}"

    @property
    def variable(self) -> str:
        """The name of one of its modules: ``block`` of ``blocks``."""
        word = self.path.rpartition(".")[2].rstrip("s")
        fit = word.isidentifier() and not keyword.iskeyword(word) and word not in ("i", "model", "self", "grid")
        return word if fit and self.path.endswith("s") else "block"

    def head(self, model: nn.Module) -> str:
        """The loop's first line."""
        modules, stop = module_at(model, self.path), self.start + self.turns
        length = len(list(model.get_submodule(self.path).children()))
        if self.turns < length:
            modules += f"[{self.start or ''}:{stop if stop < length else ''}]"
        start = f", start={self.start}" if self.start else ""
        return f"for i, {self.variable} in enumerate({modules}{start}):"


def _loops(model: nn.Module, sites: Sequence[FoundSite]) -> Iterator[_Loop]:
    """Loops that the first of some sites may begin, over each list of modules that its path goes through."""
    words = sites[0].name.split(".")
    for depth, word in enumerate(words):
        path = ".".join(words[:depth])
        if not path or not word.isdigit() or not isinstance(model.get_submodule(path), _LISTS):
            continue
        start = int(word)
        pieces: list[list[tuple[object, ...]]] = []
        rest = sites
        while True:
            prefix = f"{path}.{start + len(pieces)}"
            count = next((i for i, site in enumerate(rest) if not _is_in(site, prefix)), len(rest))
            piece = [_relative(site, prefix) for site in rest[:count]]
            if not piece or (pieces and piece != pieces[0]):
                break
            pieces.append(piece)
            rest = rest[count:]
        if pieces:
            yield _Loop(path, start, len(pieces), sites[: len(pieces[0])])


def _is_in(site: FoundSite, prefix: str) -> bool:
    return all(f"{path}.".startswith(f"{prefix}.") for path in (site.name, site.reads))


def _relative(site: FoundSite, prefix: str) -> tuple[object, ...]:
    """What is told of a site in a loop's body; its number of units is read off the module."""
    others = site.steps, site.layout, site.prefix_tokens, site.suffix_tokens
    return (site.name[len(prefix) :], site.reads[len(prefix) :], *others)


def _yield(site: FoundSite, name: str, reads: str, model: nn.Module, grid_names: GridNames) -> list[str]:
    """The statement that yields one site, on one line if that is short enough."""
    layer = model.get_submodule(site.reads)
    arguments = [f'{"f" if "{i}" in name else ""}"{name}"', f"reads={reads}", f"grid={grid_names[site.steps]}"]
    if site.layout != TOKENS:
        arguments.append(f'layout="{site.layout}"')
    if site.prefix_tokens:
        arguments.append(f"prefix_tokens={site.prefix_tokens}")
    if site.suffix_tokens:
        arguments.append(f"suffix_tokens={site.suffix_tokens}")
    if getattr(layer, "in_features", getattr(layer, "in_channels", None)) != site.units:
        arguments.append(f"units={site.units}")
    line = f"yield feed_forward({', '.join(arguments)})"
    if len(line) <= WIDTH - 12:  # of indentation
        return [line]
    return ["yield feed_forward(", *(f"    {each}," for each in arguments), ")"]
