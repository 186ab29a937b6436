"""The plugin registry: loads what the entry-point group ``captum_vit`` offers and picks what serves a model."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

import pluggy
from torch import nn

from captum_vit.errors import NoAdapterError, PluginError, PluginWarning, UnsupportedModelError
from captum_vit.probes import hookspecs
from captum_vit.probes.adapter import Adapter
from captum_vit.probes.hookspecs import GROUP, HOOKS, OWN_DISTRIBUTION, Offered
from captum_vit.probes.source import ModelSource
from captum_vit.probes.unsupported import advice


@dataclass(frozen=True)
class Registered:
    """An adapter and the distribution that it came from."""

    adapter: Adapter
    distribution: str


@dataclass(frozen=True)
class RegisteredSource:
    """A source of models and the distribution that it came from."""

    source: ModelSource
    distribution: str


Found = TypeVar("Found", Registered, RegisteredSource)


@dataclass(frozen=True)
class Failure:
    """A plugin that could not be used, and why."""

    distribution: str
    entry_point: str
    reason: str

    def __str__(self) -> str:
        return f'plugin "{self.entry_point}" of distribution "{self.distribution}" could not be loaded: {self.reason}'


class Registry:
    """The adapters, sources of models and recipes of all installed distributions, loaded once."""

    def __init__(self) -> None:
        self.adapters: list[Registered] = []
        self.sources: list[RegisteredSource] = []
        self.offered: dict[str, list[Offered]] = {hook: [] for hook in HOOKS}  # by hook, adapters too
        self.failures: list[Failure] = []
        self._manager = pluggy.PluginManager(GROUP)
        self._manager.add_hookspecs(hookspecs)
        # Not pluggy's load_setuptools_entrypoints: there the first plugin that fails ends the loading of all.
        for entry in entry_points(group=GROUP):
            distribution = entry.dist.name if entry.dist else "unknown"
            try:
                self._load(entry, distribution)
            # Whatever a stranger's module raises on import, the other plugins must load.
            except Exception as error:
                reason = str(error) if isinstance(error, PluginError) else f"{type(error).__name__}: {error}"
                self.failures.append(Failure(distribution, entry.name, reason))
                warnings.warn(str(self.failures[-1]), PluginWarning, stacklevel=2)
        self.adapters.sort(key=lambda registered: (registered.adapter.family, registered.distribution))

    def _load(self, entry: EntryPoint, distribution: str) -> None:
        """Take in one plugin, whose hooks are called apart from the others' so that a failure stays its own."""
        plugin = entry.load()
        others = self._manager.get_plugins()
        self._manager.register(plugin, name=f"{distribution}:{entry.name}")
        callers = {name: self._manager.subset_hook_caller(name, others) for name in HOOKS}
        offered = {name: _results(hook) for name, hook in callers.items() if hook.get_hookimpls()}
        if not offered:
            raise PluginError(f"{entry.value} has no function {' or '.join(HOOKS)} marked with @captum_vit.hookimpl")
        for name, things in offered.items():
            kind, one = HOOKS[name]
            for thing in things:
                if not isinstance(thing, Offered) or thing.hook != name:
                    raise PluginError(f"{name} returned {thing!r} among its {kind}, which is not {one}")
                thing.check()
        for name, things in offered.items():
            self.offered[name] += things
            self.adapters += [Registered(thing, distribution) for thing in things if isinstance(thing, Adapter)]
            self.sources += [
                RegisteredSource(thing, distribution) for thing in things if isinstance(thing, ModelSource)
            ]

    def choose(self, model: nn.Module, family: str | None = None) -> Registered | None:
        """The adapter that serves ``model``: a third party's before this package's own; None if there is none.

        Raises
        ------
        PluginError
            ``family`` is not installed, or several adapters claim the model.
        """
        candidates = [registered for registered in self.adapters if family in (None, registered.adapter.family)]
        if family is not None and not candidates:
            known = {registered.adapter.family for registered in self.adapters}
            close = difflib.get_close_matches(family, known, n=3, cutoff=0.5)
            meant = f"did you mean {' or '.join(close)}? " if close else ""
            raise PluginError(
                f'no adapter for family "{family}" is installed; {meant}`captum-vit adapters` lists the {len(known)} '
                "families that are"
            )
        serving = [registered for registered in candidates if registered.adapter.serves(model)]
        winners = _winners(serving)
        if len(winners) > 1:
            claims = ", ".join(f'"{w.adapter.family}" of distribution "{w.distribution}"' for w in winners)
            choice = "" if family else "choose one with adapt(model, family=...), or "
            raise PluginError(
                f"{len(winners)} adapters claim {type(model).__name__}: {claims}; {choice}uninstall what you do not use"
            )
        return winners[0] if winners else None

    def source(self, scheme: str) -> ModelSource | None:
        """The source of a scheme's models: a third party's before this package's own; None if there is none.

        Raises
        ------
        PluginError
            Several distributions have the scheme.
        """
        winners = _winners([registered for registered in self.sources if registered.source.scheme == scheme])
        if len(winners) > 1:
            claims = " and ".join(sorted(f'"{winner.distribution}"' for winner in winners))
            raise PluginError(f"distributions {claims} both give models as {scheme}:NAME; uninstall one of them")
        return winners[0].source if winners else None

    def schemes(self) -> tuple[str, ...]:
        """The schemes of the models that can be had by name."""
        return tuple(dict.fromkeys(registered.source.scheme for registered in self.sources))

    def find(self, model: nn.Module, family: str | None = None) -> tuple[nn.Module, Registered]:
        """The one supported model inside ``model``, which may be that model or a wrapper around it.

        Raises
        ------
        UnsupportedModelError
            There is none, or several.
        PluginError
            As for :meth:`choose`.
        """
        found: dict[str, tuple[nn.Module, Registered]] = {}
        for path, module in model.named_modules():
            inside = any(f"{path}.".startswith(f"{outer}." if outer else "") for outer in found)
            if not inside and (registered := self.choose(module, family)):
                found[path] = module, registered
        if len(found) == 1:
            return next(iter(found.values()))
        name = type(model).__name__
        if found:
            seen = ", ".join(f"{path} ({type(module).__name__})" for path, (module, _) in found.items())
            raise UnsupportedModelError(f"{name} holds {len(found)} supported models: {seen}; adapt one of them")
        children = ", ".join(f"{path} ({type(child).__name__})" for path, child in model.named_children())
        no_adapter = "no installed adapter" if family is None else f'no adapter of family "{family}"'
        raise NoAdapterError(
            f"{no_adapter} serves {name} or a module in it; it holds "
            f"{children or 'no modules'}. {advice(model, (registered.adapter for registered in self.adapters))}"
        )


def _winners(serving: Sequence[Found]) -> Sequence[Found]:
    """Those of other distributions; where there are none, this package's own."""
    return [registered for registered in serving if registered.distribution != OWN_DISTRIBUTION] or serving


def _results(hook: pluggy.HookCaller) -> list[Any]:
    """What one plugin's hook gives, which should be a list."""
    results = hook()
    if not results or not isinstance(results[0], Iterable):
        raise PluginError(f"{hook.name} should return a list; it returned {next(iter(results), None)!r}")
    return list(results[0])


@cache
def registry() -> Registry:
    """The process-wide registry, loaded at its first use: importing the package imports no plugin."""
    return Registry()
