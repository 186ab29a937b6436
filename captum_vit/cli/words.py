"""Words of a question that need no model to be checked: a wrong one is refused before anything slow is imported.

Each function here is the callback of an option: it gives the option's value back, or raises what ends the command.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path

from typer import Context

from captum_vit.errors import ModelNameError, PlanError, RankingError, RecipeError, StudyError
from captum_vit.loading.names import SCHEMES, check_scheme, split
from captum_vit.probes.devices import check_device
from captum_vit.probes.hookspecs import GROUP, OWN_DISTRIBUTION
from captum_vit.probes.kinds import kinds_of
from captum_vit.storage.files import check_output

# What the modules that do the work have by these names; they import torch, and tests compare the two.
RECIPES = ("ghiasi2022", "fourier", "steady", "lucent", "maco")
DEFAULT_RECIPE = "steady"
REDUCTIONS = ("mean", "max")
REDUCTIONS_OF_RELEVANCE = ("sum", "max")
MEASURES = ("activation", "relevance")
TARGETS = ("top", "norm", "sum")
FILLS = ("zero", "mean", "blur")
CLASSIFIERS = ("own", "probe", "neighbours", "auto")
DTYPES = ("float32", "bfloat16", "float16")


# What stands behind the colon of a choice of neurons, and seldom behind that of a model's scheme.
_UNITS = re.compile(r"\d+|\d+-\d+|all|random:\d+")


def model(context: Context, name: str) -> str:
    """A model's name with a scheme of the package, or none; with any scheme where plugins are installed."""
    scheme = split(name)[0]
    if is_choice(name) and scheme not in SCHEMES:
        raise ModelNameError(f'"{name}" chooses neurons; give the model first: {context.command_path} MODEL {name}')
    check_scheme(name, (*SCHEMES, scheme) if _has_plugins() else SCHEMES)
    return name


# Typer asks whether what a callback takes is a class of its own, and Python 3.10 fails at that with list[str] alone.
def models(context: Context, names: list[str] | None) -> list[str] | None:
    """Models' names."""
    return [model(context, name) for name in names] if names else names


def is_choice(word: str) -> bool:
    """Whether a word has the form of a choice of neurons: ``SITE:UNIT``, ``SITE:0-63``, ``SITE:all`` ..."""
    site, _, units = word.strip().partition(":")
    return bool(site and _UNITS.fullmatch(units))


def fill(word: str) -> str:
    """What stands where an image is cut away."""
    if word not in FILLS:
        raise StudyError(f'no fill "{word}"; use {", ".join(FILLS)}')
    return word


def classifier(kind: str) -> str:
    """A kind of classifier."""
    if kind not in CLASSIFIERS:
        raise StudyError(f'no classifier "{kind}"; use {", ".join(CLASSIFIERS)}')
    return kind


def device(word: str) -> str:
    """A device that may be here."""
    return check_device(word)


def dtype(word: str | None) -> str | None:
    """A floating-point type, or None."""
    if word is not None and word not in DTYPES:
        raise PlanError(f'no dtype "{word}" to render in; use {", ".join(DTYPES)}')
    return word


def recipe(name: str) -> str:
    """A recipe of the package; any name where plugins are installed, which may bring others."""
    if name not in RECIPES and not _has_plugins():
        raise RecipeError(f'no recipe "{name}"; there are {", ".join(RECIPES)}')
    return name


def reduction(context: Context, name: str | None) -> str | None:
    """A reduction over the patches of what the option ``--by`` names, or None."""
    is_relevance = context.params.get("by", "").startswith("relevance")
    known = REDUCTIONS_OF_RELEVANCE if is_relevance else REDUCTIONS
    if name is not None and name not in known:
        of = " of relevance" if is_relevance else ""
        raise RankingError(f'no reduction "{name}"{of}; there are: {", ".join(known)}')
    return name


def measure(by: str) -> str:
    """What a ranking measures."""
    kind, _, output = by.partition(":")
    if by not in MEASURES and not (kind == "relevance" and (output in TARGETS or output.isdecimal())):
        raise RankingError(
            f'rankings are not by "{by}"; rank by {", ".join(MEASURES)}, or relevance:OUTPUT with OUTPUT a number or '
            f"one of {', '.join(TARGETS)}"
        )
    return by


def kinds(names: list[str] | None) -> list[str] | None:
    """Kinds of sites."""
    return list(kinds_of(names)) if names else names


def output(*suffixes: str) -> Callable[[Path | None], Path | None]:
    """Makes the callback of an option that names a file with one of these suffixes."""

    def checked(path: Path | None) -> Path | None:
        if path is not None:
            check_output(path, suffixes)
        return path

    return checked


def _has_plugins() -> bool:
    return any(entry.dist is None or entry.dist.name != OWN_DISTRIBUTION for entry in entry_points(group=GROUP))
