"""The hooks that lead a model's tokens through probes: put on, kept where they belong, and taken off again.

They are objects and not closures: `copy.deepcopy` and `pickle` then take them along with the model, and the copy's
hooks feed the copy's probes.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from captum_vit.errors import GridError
from captum_vit.probes.forward_pass import ForwardPass, image_of
from captum_vit.probes.grid import Size
from captum_vit.probes.probe import is_watched, shown
from captum_vit.probes.site import Site


class ImageSizeHook:
    """Forward pre-hook on the module that first receives the image."""

    def __init__(self, forward_pass: ForwardPass, path: Path) -> None:
        self.forward_pass = forward_pass
        self.path = path

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Note the size of the image that enters."""
        self.path.follow()
        height, width = _sides(image_of(args, kwargs))[-2:]
        self.forward_pass.begin((height, width))

    def put_on(self, module: nn.Module) -> None:
        """Have it called before ``module`` runs."""
        module.register_forward_pre_hook(self, with_kwargs=True)


class SiteHook:
    """Routes an activation through the probes of its site, as maps."""

    def __init__(
        self, forward_pass: ForwardPass, probes: nn.ModuleDict, prefix_probes: nn.ModuleDict, model_name: str
    ) -> None:
        self.forward_pass = forward_pass
        self.probes = probes
        self.prefix_probes = prefix_probes
        self.model_name = model_name
        self.sites: list[Site] = []

    def route(self, activation: Tensor) -> Tensor | None:
        """Take the activation apart, pass it through the probes, and put it together again; None: it stays as it is."""
        call = self.forward_pass.call(self) if len(self.sites) > 1 else 0
        # An identity that nobody watches can be left out, and needs no grid.
        if not any(self.forward_pass.wants(site) or self._is_watched(site) for site in self.sites):
            return None
        site, grid = self._arrived(activation, call)
        layout, units = site.layout, site.units
        prefix, patches, suffix = layout.split(layout.own(activation))
        patch_map = layout.to_map(patches, units, grid)
        if not self._is_watched(site):
            self.forward_pass.arrive(site, patch_map)
            return None
        patch_map = shown(self.probes[site.key], patch_map)
        if prefix is not None:
            prefix_map = shown(self.prefix_probes[site.key], layout.prefix_to_map(prefix, units))
            prefix = layout.prefix_from_map(prefix_map, units)
        self.forward_pass.arrive(site, patch_map)
        patches = layout.from_map(patch_map, units, grid, patches)
        parts = [part for part in (prefix, patches, suffix) if part is not None]
        if len(parts) > 1:
            assert layout.token_axis is not None
            patches = torch.cat(parts, dim=layout.token_axis)
        return _laid_out_as(activation, layout.among_others(patches, activation))

    def _is_watched(self, site: Site) -> bool:
        """Whether anything can tell that the site's probes run."""
        return is_watched(self.probes[site.key]) or (
            site.prefix_tokens > 0 and is_watched(self.prefix_probes[site.key])
        )

    def _arrived(self, activation: Tensor, call: int) -> tuple[Site, Size]:
        """The site whose activation this is.

        Sites that share a block are told apart by their number of tokens, and where that is the same by the order in
        which the block is called.
        """
        image_size = self.forward_pass.image_size
        if image_size is None:
            raise GridError(
                f"{self.model_name} received tokens in a thread in which no image entered it, so the patch grid is "
                "unknown; pass images through the model's own forward, and if gradient checkpointing recomputes "
                "blocks in another thread, switch it off with model.set_grad_checkpointing(False)"
            )
        grids = [site.grid(image_size) for site in self.sites]
        fitting = [
            (site, (rows, columns))
            for site, (rows, columns) in zip(self.sites, grids, strict=True)
            if site.layout.fits(_sides(activation), site.units, (rows, columns))
        ]
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            if len(fitting) == len(self.sites) and call < len(fitting):
                return fitting[call]
            names = ", ".join(site.name for site, _ in fitting)
            raise GridError(
                f"{names} share one module in {self.model_name}, which ran {call + 1} times in a pass, so that they "
                "cannot be told apart; if activation checkpointing recomputes it, switch that off"
            )
        height, width = image_size
        expected = " or ".join(
            f"{site.layout.describe(site.units, grid)} at {site.name}"
            for site, grid in zip(self.sites, grids, strict=True)
        )
        raise GridError(
            f"a {height}x{width} image should give {expected}, but {self.model_name} computes on "
            f"{tuple(activation.shape)}; the adapter's grid does not fit this model, tokens were dropped, or the model "
            "was changed after adapt(): then restore it and adapt it again"
        )


class InputHook(SiteHook):
    """Forward pre-hook on the module that reads the activation."""

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """See :meth:`SiteHook.route`."""
        routed = self.route(args[0])
        return None if routed is None else (routed, *args[1:])

    def put_on(self, module: nn.Module) -> None:
        """Have it called before ``module`` runs."""
        module.register_forward_pre_hook(self)


class OutputHook(SiteHook):
    """Forward hook on the module that gives the activation, perhaps as the first of several things."""

    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        """See :meth:`SiteHook.route`."""
        several = isinstance(output, tuple | list)
        routed = self.route(output[0] if several else output)
        if routed is None or not several:
            return routed
        return type(output)((routed, *output[1:]))

    def put_on(self, module: nn.Module) -> None:
        """Have it called after ``module`` has run."""
        module.register_forward_hook(self)


Hook = ImageSizeHook | InputHook | OutputHook


class Path:
    """The hooks of one adapted model, each on the module that stands at its place in the model now.

    A layer that is replaced after ``adapt`` (by LoRA, quantization or one's own hands) takes its hook over to the layer
    in its place, which reads the same tokens.

    Parameters
    ----------
    model
        The supported model.
    stem
        The module that receives its image.
    sites
        Its sites, with the grids of the image that the stem gets.
    probes
        Their probes, by the home of the site, and by its key there.
    prefix_probes
        Those of prefix tokens, by key.
    model_name
        What messages call it.
    """

    def __init__(
        self,
        model: nn.Module,
        stem: nn.Module,
        sites: Sequence[Site],
        probes: Mapping[str, nn.ModuleDict],
        prefix_probes: nn.ModuleDict,
        model_name: str,
    ) -> None:
        self.model = model
        self.stem_place = next(path for path, module in model.named_modules() if module is stem)
        self.model_name = model_name
        self.forward_pass = ForwardPass()
        self.sites = tuple(sites)
        hooks: dict[tuple[nn.Module, type, int], InputHook | OutputHook] = {}
        for site in sites:
            kind: type[InputHook | OutputHook] = InputHook if site.writes is None else OutputHook
            # Sites that are the same channels of one module are its calls; other channels have a hook of their own.
            place = site.at, kind, site.layout.channels_before
            if place not in hooks:
                hooks[place] = kind(self.forward_pass, probes[site.home], prefix_probes, model_name)
            hooks[place].sites.append(site)
        paths = {module: path for path, module in model.named_modules(remove_duplicate=True)}
        placed: list[tuple[nn.Module, Hook]] = [(stem, ImageSizeHook(self.forward_pass, self))]
        placed += [(module, hook) for (module, *_), hook in hooks.items()]
        self._places: list[tuple[list[str], Hook]] = [(paths[module].split("."), hook) for module, hook in placed]
        self._modules = [module for module, _ in placed]
        for module, hook in placed:
            hook.put_on(module)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def follow(self) -> None:
        """Move hooks to the modules that have taken the place of those that they are on.

        One whose module is gone stays where it is: what it stands for is then not reached.
        """
        for number, (place, hook) in enumerate(self._places):
            module, now = self._modules[number], self._at(place)
            if now is module or now is None:
                continue
            _take_off(module, partial(operator.is_, hook))
            hook.put_on(now)
            self._modules[number] = now

    @property
    def stem(self) -> nn.Module:
        """The module that receives the image now."""
        return self.model.get_submodule(self.stem_place)

    def _at(self, place: Sequence[str]) -> nn.Module | None:
        module: nn.Module | None = self.model
        for name in place:
            module = module._modules.get(name) if module is not None else None
        return module


def _sides(tensor: Tensor) -> tuple[int, ...]:
    """A tensor's shape as numbers, which torch.jit.trace gives as tensors."""
    return tuple(int(side) if isinstance(side, Tensor) else side for side in tensor.shape)


def _laid_out_as(activation: Tensor, values: Tensor) -> Tensor:
    """Values in memory as an activation is, since products of matrices are rounded by how those lie there."""
    if activation.is_contiguous():
        return values.contiguous()
    strides = activation.stride()
    order = sorted(range(values.ndim), key=lambda axis: -strides[axis])
    return values.permute(order).contiguous().permute([order.index(axis) for axis in range(values.ndim)])


def is_installed(model: nn.Module, forward_pass: ForwardPass | None = None) -> bool:
    """Whether any module of ``model`` carries a hook of this package, or of one adapted model with its notes."""
    return any(
        _is_ours(hook, forward_pass)
        for module in model.modules()
        for hook in (*module._forward_pre_hooks.values(), *module._forward_hooks.values())
    )


def remove(model: nn.Module, forward_pass: ForwardPass | None = None) -> None:
    """Take every hook of this package off ``model``, or those of one adapted model with its notes."""
    for module in model.modules():
        _take_off(module, lambda hook: _is_ours(hook, forward_pass))


def _is_ours(hook: object, forward_pass: ForwardPass | None) -> bool:
    return isinstance(hook, ImageSizeHook | SiteHook) and forward_pass in (None, hook.forward_pass)


def _take_off(module: nn.Module, chosen: Callable[[object], bool]) -> None:
    for hooks, flags in (
        (module._forward_pre_hooks, module._forward_pre_hooks_with_kwargs),
        (module._forward_hooks, module._forward_hooks_with_kwargs),
    ):
        for key, hook in list(hooks.items()):
            if chosen(hook):
                del hooks[key]
                flags.pop(key, None)
