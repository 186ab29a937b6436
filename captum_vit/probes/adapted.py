"""The adapted model: the user's model with its feed-forward neurons on the path as feature maps."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from captum_vit.errors import (
    AddressError,
    CaptumViTError,
    PluginError,
    TrainingModeWarning,
    UnsupportedModelError,
    ZeroAttributionWarning,
)
from captum_vit.probes import probe
from captum_vit.probes.address import Address
from captum_vit.probes.neuron import Neuron
from captum_vit.probes.plugins import Registered, registry
from captum_vit.probes.preprocessing import Preprocessing
from captum_vit.probes.probe import Probe, StopForward
from captum_vit.probes.site import Site


def adapt(model: nn.Module, family: str | None = None) -> AdaptedModel:
    """Make a model's feed-forward neurons look like a ConvNet's feature maps.

    Parameters
    ----------
    model
        A supported model, or a wrapper that holds one (``nn.Sequential(normalize, vit)``). Its outputs, weights and
        flags stay as they are; :meth:`AdaptedModel.restore` takes the hooks off again.
    family
        The adapter to use where several would serve; found by the model's class when not given.

    Returns
    -------
    AdaptedModel
        A module with the same outputs, to pass to Lucent and Captum. An adapted model is returned as it is.

    Raises
    ------
    UnsupportedModelError
        No adapter serves the model, it holds several supported ones, it is compiled, or it is adapted already.
    PluginError
        Adapters of several distributions claim the model, ``family`` is not installed, or the adapter describes
        the model wrongly.

    Warns
    -----
    TrainingModeWarning
        The model is in training mode.

    Examples
    --------
    >>> import timm, torch
    >>> with adapt(timm.create_model("deit_tiny_patch16_224").eval()) as vit:
    ...     vit.patch_map(torch.zeros(1, 3, 224, 224), "blocks.5:42").shape
    torch.Size([1, 14, 14])
    """
    if isinstance(model, AdaptedModel):
        return model
    name = type(model).__name__
    if any(_is_compiled(module) for module in model.modules()):
        raise UnsupportedModelError(
            f"{name} is compiled, and compiled code ignores hooks that come later; adapt the model first and compile "
            "the result: torch.compile(captum_vit.adapt(model))"
        )
    if probe.is_installed(model):
        raise UnsupportedModelError(
            f"{name} is adapted already; use the adapted model that you have, or take its hooks off with "
            "captum_vit.restore(model)"
        )
    if model.training:
        warnings.warn(
            f"{name} is in training mode: dropout and drop path make every pass different; call model.eval()",
            TrainingModeWarning,
            stacklevel=2,
        )
    supported, registered = registry().find(model, family)
    sites, stem = _describe(registered, supported)
    return AdaptedModel(model, supported, sites, registered.adapter.family, stem)


def _describe(registered: Registered, model: nn.Module) -> tuple[tuple[Site, ...], nn.Module]:
    """The model's sites and the module that receives its image, as its adapter tells; a wrong tale is told apart."""
    adapter = registered.adapter
    blame = f'adapter "{adapter.family}" of distribution "{registered.distribution}"'
    sites = tuple(adapter.sites(model))
    if not sites:
        raise PluginError(f"{blame} lists no site in {type(model).__name__}; it should yield its feed-forward blocks")
    if twice := [name for name, count in Counter(site.key for site in sites).items() if count > 1]:
        raise PluginError(f"{blame} lists several sites under one name: {', '.join(twice)} (dots read as underscores)")
    try:
        return sites, model.get_submodule(adapter.stem)
    except AttributeError:
        raise PluginError(
            f'{blame} names "{adapter.stem}" as the module that receives the image, which {type(model).__name__} does '
            "not have; set stem to its module path"
        ) from None


def restore(model: nn.Module) -> None:
    """Take the package's hooks off a model; for a bare copy of an adapted model, whose adapted model is not at hand."""
    probe.remove(model)


class AdaptedModel(nn.Module):
    """A model whose feed-forward neurons are feature maps; made by :func:`adapt`.

    Calling it gives the model's own output, bit for bit. Leaving its ``with`` block restores the model.

    Attributes
    ----------
    model
        The user's model.
    sites
        Its sites, in the order of the forward pass.
    family
        Family of the adapter that serves it.
    ffn, prefix
        The probes of the patch tokens and of the prefix tokens, by site name with dots as underscores; Lucent calls
        them ``"ffn_blocks_5"`` and ``"prefix_blocks_5"``.
    preprocessing
        The input size, mean and standard deviation that the model expects.
    """

    def __init__(
        self, model: nn.Module, supported: nn.Module, sites: tuple[Site, ...], family: str, stem: nn.Module
    ) -> None:
        super().__init__()
        self.sites = sites
        self.family = family
        self.preprocessing = Preprocessing.of(supported, stem)
        self.model_name = type(supported).__name__
        self.ffn = nn.ModuleDict({site.key: Probe() for site in sites})
        self.prefix = nn.ModuleDict({site.key: Probe() for site in sites if site.prefix_tokens})
        self.model = model
        # Lucent takes the last module for "labels". In a model that is often not the classifier, so give it one that
        # always is: the output itself.
        self.output = nn.Identity()
        self._by_name = {site.name: site for site in sites} | {site.layer: site for site in sites}
        self._pass = probe.install(stem, sites, self.ffn, self.prefix, self.model_name)
        for module in (self, self.ffn, self.prefix, self.output, *self.ffn.values(), *self.prefix.values()):
            module.training = model.training

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The model's own output; inside :meth:`until`, the map of the site at which the pass stops."""
        try:
            output = self.output(self.model(*args, **kwargs))
        except StopForward as stop:
            return stop.output
        if self._pass.wanted:
            missed = ", ".join(sorted(self._pass.wanted - self._pass.maps.keys()))
            raise CaptumViTError(f"the forward pass of {self.model_name} ended without reaching {missed}")
        return output

    def site(self, name: str) -> Site:
        """The site of that name (``"blocks.5"``, or Lucent's ``"ffn_blocks_5"``).

        Raises
        ------
        AddressError
            There is no such site.
        """
        try:
            return self._by_name[name]
        except KeyError:
            raise AddressError(f'no site "{name}" in {self.model_name}; it has {self._sites_in_words()}') from None

    def address(self, address: str) -> tuple[Site, int]:
        """The site and unit that an address such as ``"blocks.5:42"`` names.

        Raises
        ------
        AddressError
            The address is malformed, or the model has no such site or unit.
        """
        parsed = Address.parse(address)
        site, unit = self.site(parsed.site), parsed.unit
        if unit >= site.units:
            raise AddressError(f'no unit {unit} at "{site.name}" in {self.model_name}; it has 0 … {site.units - 1}')
        return site, unit

    def canonical(self, address: str) -> Address:
        """The one spelling of a neuron's address: ``"blocks.5:42"`` for ``" ffn_blocks_5:042"``.

        Raises
        ------
        AddressError
            As for :meth:`address`.
        """
        site, unit = self.address(address)
        return site.address(unit)

    def layer(self, name: str) -> Probe:
        """The probe of a site's patch tokens: Captum's ``layer=``, grad-cam's ``target_layers=[...]``.

        Raises
        ------
        AddressError
            There is no such site.

        Warns
        -----
        ZeroAttributionWarning
            The model never reads this site's patch tokens again.
        """
        site = self.site(name)
        if not site.reaches_output:
            warnings.warn(
                f"{self.model_name} never reads the patch tokens of {site.name} again (it classifies by its prefix "
                "tokens), so attributions of the model's output are exactly zero there. Attribute at an earlier site, "
                f'at the prefix tokens with vit.prefix_layer("{site.name}"), or attribute a neuron of this site',
                ZeroAttributionWarning,
                stacklevel=2,
            )
        return self.ffn[site.key]  # type: ignore[return-value]

    def prefix_layer(self, name: str) -> Probe:
        """The probe of a site's prefix tokens, which passes ``(B, units, 1, prefix_tokens)``.

        Raises
        ------
        AddressError
            There is no such site, or it has no prefix tokens.
        """
        site = self.site(name)
        if not site.prefix_tokens:
            raise AddressError(f'"{site.name}" in {self.model_name} has no prefix tokens; its neurons are patches only')
        return self.prefix[site.key]  # type: ignore[return-value]

    def neuron(self, address: str, patch: tuple[int, int] | None = None) -> Neuron:
        """One neuron as a function of images ``(B, 3, H, W) -> (B,)``: Captum's ``forward_func``.

        Parameters
        ----------
        address
            ``"site:unit"``.
        patch
            ``(row, column)`` of one patch; the mean over all patches when not given, which is the objective of
            Ghiasi et al. (2022, section 3).

        Raises
        ------
        AddressError
            The address is malformed, or the model has no such site or unit.
        """
        site, unit = self.address(address)
        return Neuron(self, site, unit, patch)

    @torch.no_grad()
    def patch_map(self, images: Tensor, addresses: str | Sequence[str]) -> Tensor:
        """Activation of neurons over the patch grid.

        Parameters
        ----------
        images
            Shape ``(B, 3, H, W)``, as the model expects them (``vit.preprocessing.normalize(pixels)``).
        addresses
            One ``"site:unit"``, or several.

        Returns
        -------
        Tensor
            Activations ``(B, rows, columns)`` without gradient; for several addresses ``(B, N, rows, columns)``.

        Raises
        ------
        AddressError
            An address is malformed, the model has no such site or unit, or the sites' grids differ.
        """
        neurons = [self.address(address) for address in ([addresses] if isinstance(addresses, str) else addresses)]
        if not neurons:
            raise AddressError('no neuron to map; give at least one address, such as "blocks.5:42"')
        with self.collect([site.name for site, _ in neurons]) as maps:
            self(images)
        if len({site_maps.shape[2:] for site_maps in maps.values()}) > 1:
            raise AddressError(f"{', '.join(maps)} have patch grids of different shapes; ask for their maps one by one")
        patch_maps = torch.stack([maps[site.name][:, unit] for site, unit in neurons], dim=1)
        return patch_maps[:, 0] if isinstance(addresses, str) else patch_maps

    @contextmanager
    def until(self, name: str) -> Iterator[None]:
        """Context in which this thread's forward passes stop after a site.

        Inside it, calling the adapted model (not the bare one inside it) returns that site's map
        ``(B, units, rows, columns)``, so that any loop, stock Lucent's too, spends nothing on the layers behind.

        Raises
        ------
        AddressError
            There is no such site.
        CaptumViTError
            Gradient checkpointing is on: stopping inside a checkpoint would corrupt the backward pass.
        """
        with self.collect([name]):
            yield

    @contextmanager
    def collect(self, names: Iterable[str]) -> Iterator[dict[str, Tensor]]:
        """Context in which this thread's forward passes stop after the last of several sites.

        Yields
        ------
        dict
            Maps ``(B, units, rows, columns)`` of the latest pass, by site name.

        Raises
        ------
        AddressError
            There is no such site.
        CaptumViTError
            Gradient checkpointing is on, or the model was restored.
        """
        with self.collector(names)() as maps:
            yield maps

    def collector(self, names: Iterable[str]) -> Callable[[], AbstractContextManager[dict[str, Tensor]]]:
        """What opens :meth:`collect` again and again: looks at the model once, and not every time.

        Raises
        ------
        AddressError
            There is no such site.
        CaptumViTError
            Gradient checkpointing is on, or the model was restored.
        """
        wanted = frozenset(self.site(name).name for name in names)
        if any(getattr(module, "grad_checkpointing", False) for module in self.model.modules()):
            raise CaptumViTError(
                "a pass cannot stop early inside gradient checkpointing; switch it off with "
                "model.set_grad_checkpointing(False)"
            )
        if not probe.is_installed(self.model, self._pass):
            raise CaptumViTError(f"{self.model_name} was restored and has no probes; adapt it again")
        return partial(self._pass.until, wanted)

    def restore(self) -> None:
        """Take the probes off the model's path; the model is then as it was before :func:`adapt`."""
        probe.remove(self.model, self._pass)

    def __enter__(self) -> AdaptedModel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.restore()

    def extra_repr(self) -> str:
        """Family and number of sites, for ``print(vit)``."""
        return f"family={self.family!r}, sites={len(self.sites)}"

    def _sites_in_words(self) -> str:
        names = [site.name for site in self.sites]
        return ", ".join(names) if len(names) <= 4 else f"{names[0]}, {names[1]} … {names[-1]}"


def _is_compiled(module: nn.Module) -> bool:
    return hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None
