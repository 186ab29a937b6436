"""The hooks that lead a model's tokens through probes: put on, kept where they belong, and taken off again.

They are objects and not closures: `copy.deepcopy` and `pickle` then take them along with the model, and the copy's
hooks feed the copy's probes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from captum_vit.errors import GridError
from captum_vit.probes.forward_pass import ForwardPass
from captum_vit.probes.grid import Size
from captum_vit.probes.probe import is_watched, shown
from captum_vit.probes.site import Site


class ImageSizeHook:
    """Forward pre-hook on the module that first receives the image."""

    def __init__(self, forward_pass: ForwardPass, path: Path) -> None:
        self.forward_pass = forward_pass
        self.path = path

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        """Note the size of the image that enters."""
        self.path.follow()
        height, width = _sides(args[0])[-2:]
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
        call = self.forward_pass.call(self) if len(self.sites) > 1 else 0
        # An identity that nobody watches can be left out, and needs no grid.
        if not any(self.forward_pass.wants(site) or self._is_watched(site) for site in self.sites):
            return None
        tokens: Tensor = args[0]
        site, (rows, columns) = self._arrived(tokens, call)
        prefix, patches = tokens[:, : site.prefix_tokens], tokens[:, site.prefix_tokens :]
        patch_map = patches.unflatten(1, (rows, columns)).permute(0, 3, 1, 2)
        if not self._is_watched(site):
            self.forward_pass.arrive(site, patch_map)
            return None
        patch_map = shown(self.probes[site.key], patch_map)
        if site.prefix_tokens:
            prefix_map = shown(self.prefix_probes[site.key], prefix.transpose(1, 2).unsqueeze(2))
            prefix = prefix_map.squeeze(2).transpose(1, 2)
        self.forward_pass.arrive(site, patch_map)
        patches = patch_map.flatten(2).transpose(1, 2)
        # Laid out as they came, since products of matrices are rounded by how those lie in memory.
        tokens = torch.cat((prefix, patches), dim=1) if site.prefix_tokens else patches.contiguous()
        return (tokens, *args[1:])

    def _is_watched(self, site: Site) -> bool:
        """Whether anything can tell that the site's probes run."""
        return is_watched(self.probes[site.key]) or (
            site.prefix_tokens > 0 and is_watched(self.prefix_probes[site.key])
        )

    def _arrived(self, tokens: Tensor, call: int) -> tuple[Site, Size]:
        """The site whose tokens these are.

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
            if _sides(tokens)[1:] == (site.prefix_tokens + rows * columns, site.units)
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
        expected = " or ".join(_describe(site, image_size) for site in self.sites)
        raise GridError(
            f"a {height}x{width} image should give {expected}, but {self.model_name} computes on "
            f"{tuple(tokens.shape)}; the adapter's grid does not fit this model, tokens were dropped, or the model was "
            "changed after adapt(): then restore it and adapt it again"
        )


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
    probes, prefix_probes
        Their probes, by key.
    model_name
        What messages call it.
    """

    def __init__(
        self,
        model: nn.Module,
        stem: nn.Module,
        sites: Sequence[Site],
        probes: nn.ModuleDict,
        prefix_probes: nn.ModuleDict,
        model_name: str,
    ) -> None:
        self.model = model
        self.stem_place = next(path for path, module in model.named_modules() if module is stem)
        self.model_name = model_name
        self.forward_pass = ForwardPass()
        hooks: dict[nn.Module, SiteHook] = {}
        for site in sites:
            if site.reads not in hooks:
                hooks[site.reads] = SiteHook(self.forward_pass, probes, prefix_probes, model_name)
            hooks[site.reads].sites.append(site)
        paths = {module: path for path, module in model.named_modules(remove_duplicate=True)}
        hooked: dict[nn.Module, ImageSizeHook | SiteHook] = {stem: ImageSizeHook(self.forward_pass, self), **hooks}
        self._places = [(paths[module].split("."), hook) for module, hook in hooked.items()]
        self._modules = list(hooked)
        for module, hook in hooked.items():
            module.register_forward_pre_hook(hook)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def follow(self) -> None:
        """Move hooks to the modules that have taken the place of those that they are on.

        One whose module is gone stays where it is: what it stands for is then not reached.
        """
        for number, (place, hook) in enumerate(self._places):
            module, now = self._modules[number], self._at(place)
            if now is module or now is None:
                continue
            _take_off(module, hook)
            now.register_forward_pre_hook(hook)
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


def _take_off(module: nn.Module, hook: object) -> None:
    for key, found in list(module._forward_pre_hooks.items()):
        if found is hook:
            del module._forward_pre_hooks[key]


def _describe(site: Site, image_size: Size) -> str:
    rows, columns = site.grid(image_size)
    prefix = f"{site.prefix_tokens} prefix + " if site.prefix_tokens else ""
    return f"(B, {prefix}{rows}x{columns} tokens, {site.units} units) at {site.name}"


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
