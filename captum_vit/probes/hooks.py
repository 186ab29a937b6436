"""Probes on the forward path: the identity modules, the hooks that feed them, and what one forward pass notes."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook

from captum_vit.errors import GridError
from captum_vit.probes.grid import Size
from captum_vit.probes.site import Site


class Probe(nn.Module):
    """Identity on the forward path at a site: a hook or a layer attribution here sees, or replaces, neurons as maps.

    The probe of the patch tokens passes ``(B, units, rows, columns)``; that of the prefix tokens
    ``(B, units, 1, prefix_tokens)``. The model goes on computing with whatever the probe returns.
    """

    def forward(self, neurons: Tensor) -> Tensor:
        """Return ``neurons`` as they are."""
        return neurons


class StopForward(BaseException):
    """Ends a forward pass once everything wanted of it is there; the adapted model catches it.

    A BaseException, so that a wrapper's ``except Exception`` does not swallow it on the way up.

    Parameters
    ----------
    output
        What the layer at which the pass stops gave; the adapted model returns it.
    """

    def __init__(self, output: Any) -> None:
        super().__init__()
        self.output = output


class ForwardPass(threading.local):
    """What a forward pass notes, kept for each thread apart.

    Attributes
    ----------
    image_size
        (height, width) of the image that last entered the model in this thread.
    wanted
        Sites after which the pass stops; empty: it runs to its end.
    maps
        Maps of the wanted sites of the latest pass, by site name.
    """

    def __init__(self) -> None:
        self.image_size: Size | None = None
        self.wanted: frozenset[str] = frozenset()
        self.maps: dict[str, Tensor] = {}

    @contextmanager
    def until(self, wanted: frozenset[str]) -> Iterator[dict[str, Tensor]]:
        """Let passes in this thread stop as soon as all ``wanted`` sites have run, and collect their maps."""
        outer = self.wanted, self.maps
        self.wanted, self.maps = wanted, {}
        try:
            yield self.maps
        finally:
            self.wanted, self.maps = outer

    # Traced, the note would be lost where a stop ends the pass (torch 2.14).
    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def begin(self, image_size: Size) -> None:
        """Start the notes of a new pass; nothing of an earlier or failed one remains."""
        self.image_size = image_size
        self.maps.clear()

    def wants(self, site: Site) -> bool:
        """Whether passes of this thread collect the map of ``site``."""
        return site.name in self.wanted

    def arrive(self, site: Site, patch_map: Tensor) -> None:
        """Note that a site has run, and stop the pass if it was the last one wanted."""
        if self.wants(site):
            self.maps[site.name] = patch_map
            if len(self.maps) == len(self.wanted):
                raise StopForward(patch_map)

    def __reduce__(self) -> tuple[type[ForwardPass], tuple[()]]:
        # Copies and pickles start without notes; without this, copy and pickle refuse thread-local objects.
        return ForwardPass, ()


# The hooks are objects and not closures: `copy.deepcopy` and `pickle` then take them along with the model, and the
# copy's hooks feed the copy's probes.


class ImageSizeHook:
    """Forward pre-hook on the module that first receives the image."""

    def __init__(self, forward_pass: ForwardPass) -> None:
        self.forward_pass = forward_pass

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        """Note the size of the image that enters."""
        height, width = args[0].shape[-2:]
        self.forward_pass.begin((height, width))


class SiteHook:
    """Forward pre-hook on the module that reads the hidden tokens: routes them through the probes as maps."""

    def __init__(
        self, forward_pass: ForwardPass, probes: nn.ModuleDict, prefix_probes: nn.ModuleDict, model_name: str
    ) -> None:
        self.forward_pass = forward_pass
        self.probes = probes
        self.prefix_probes = prefix_probes
        self.model_name = model_name
        self.sites: list[Site] = []

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """Take the tokens apart, pass them through the probes, and put them together again."""
        # Taking tokens apart copies them. An identity that nobody watches can do without, and needs no grid.
        if not any(self._watches(site) for site in self.sites):
            return None
        tokens: Tensor = args[0]
        site, (rows, columns) = self._arrived(tokens)
        probe = self.probes[site.key]
        prefix, patches = tokens[:, : site.prefix_tokens], tokens[:, site.prefix_tokens :]
        given = patches.unflatten(1, (rows, columns)).permute(0, 3, 1, 2)
        patch_map = probe(given)
        untouched = patch_map is given and not patch_map.requires_grad
        if site.prefix_tokens:
            given = prefix.transpose(1, 2).unsqueeze(2)
            prefix_map = self.prefix_probes[site.key](given)
            untouched = untouched and prefix_map is given and not prefix_map.requires_grad
            prefix = prefix_map.squeeze(2).transpose(1, 2)
        self.forward_pass.arrive(site, patch_map)
        # Views of the tokens came back, and no gradient will be asked of them: they need not be put together again.
        if untouched:
            return None
        patches = patch_map.flatten(2).transpose(1, 2)
        return (torch.cat((prefix, patches), dim=1) if site.prefix_tokens else patches, *args[1:])

    def _watches(self, site: Site) -> bool:
        """Whether anything can tell that the site's probes run."""
        probes = [self.probes[site.key]] + ([self.prefix_probes[site.key]] if site.prefix_tokens else [])
        return self.forward_pass.wants(site) or any(map(_is_watched, probes))

    def _arrived(self, tokens: Tensor) -> tuple[Site, Size]:
        """The site whose tokens these are: a shared block is told apart by its number of tokens."""
        image_size = self.forward_pass.image_size
        if image_size is None:
            raise GridError(
                f"{self.model_name} received tokens in a thread in which no image entered it, so the patch grid is "
                "unknown; pass images through the model's own forward, and if gradient checkpointing recomputes "
                "blocks in another thread, switch it off with model.set_grad_checkpointing(False)"
            )
        for site in self.sites:
            rows, columns = site.grid(image_size)
            if tuple(tokens.shape[1:]) == (site.prefix_tokens + rows * columns, site.units):
                return site, (rows, columns)
        height, width = image_size
        expected = " or ".join(_describe(site, image_size) for site in self.sites)
        raise GridError(
            f"a {height}x{width} image should give {expected}, but {self.model_name} computes on "
            f"{tuple(tokens.shape)}; the adapter's grid does not fit this model, or tokens were dropped"
        )


def _is_watched(probe: nn.Module) -> bool:
    """Whether anything can tell that a probe runs: a hook on it or on all modules, or something in its place."""
    return (
        type(probe) is not Probe
        or "forward" in probe.__dict__
        or bool(probe._forward_hooks or probe._forward_pre_hooks or probe._backward_hooks or probe._backward_pre_hooks)
        or _has_any_global_hook()
    )


def _describe(site: Site, image_size: Size) -> str:
    rows, columns = site.grid(image_size)
    prefix = f"{site.prefix_tokens} prefix + " if site.prefix_tokens else ""
    return f"(B, {prefix}{rows}x{columns} tokens, {site.units} units) at {site.name}"


def install(
    stem: nn.Module,
    sites: Sequence[Site],
    probes: nn.ModuleDict,
    prefix_probes: nn.ModuleDict,
    model_name: str,
) -> ForwardPass:
    """Hook the probes onto the path, for the sites of one model, and return what its passes will note."""
    forward_pass = ForwardPass()
    stem.register_forward_pre_hook(ImageSizeHook(forward_pass))
    hooks: dict[nn.Module, SiteHook] = {}
    for site in sites:
        if site.reads not in hooks:
            hooks[site.reads] = SiteHook(forward_pass, probes, prefix_probes, model_name)
            site.reads.register_forward_pre_hook(hooks[site.reads])
        hooks[site.reads].sites.append(site)
    return forward_pass


def is_installed(model: nn.Module, forward_pass: ForwardPass | None = None) -> bool:
    """Whether any module of ``model`` carries a hook of this package, or of one adapted model with its notes."""
    return any(True for _ in _hooks(model, forward_pass))


def remove(model: nn.Module, forward_pass: ForwardPass | None = None) -> None:
    """Take every hook of this package off ``model``, or those of one adapted model with its notes."""
    for module, key in list(_hooks(model, forward_pass)):
        del module._forward_pre_hooks[key]


def _hooks(model: nn.Module, forward_pass: ForwardPass | None) -> Iterator[tuple[nn.Module, int]]:
    for module in model.modules():
        for key, hook in module._forward_pre_hooks.items():
            if isinstance(hook, ImageSizeHook | SiteHook) and forward_pass in (None, hook.forward_pass):
                yield module, key
