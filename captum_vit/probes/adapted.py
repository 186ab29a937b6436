"""The adapted model: the user's model with its neurons on the path as feature maps."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from captum_vit.checks import image_batch, place_in_grid, some
from captum_vit.errors import (
    AddressError,
    CaptumViTError,
    ChannelsError,
    ImageSizeError,
    RecomputationError,
    ZeroAttributionWarning,
)
from captum_vit.probes import hooks
from captum_vit.probes.address import Address
from captum_vit.probes.devices import input_of
from captum_vit.probes.entrance import Entrance
from captum_vit.probes.forward_pass import StopForward, image_of
from captum_vit.probes.hooks import Path
from captum_vit.probes.lookup import Lookup
from captum_vit.probes.neuron import Neuron
from captum_vit.probes.output import taken
from captum_vit.probes.preprocessing import Preprocessing
from captum_vit.probes.probe import Probe
from captum_vit.probes.reach import reaches_output
from captum_vit.probes.redirect import Redirect
from captum_vit.probes.site import Site

# Of a list of addresses, for messages.
EXAMPLE = '["blocks.5:42"]'


class AdaptedModel(nn.Module):
    """A model whose neurons are feature maps; made by :func:`adapt`.

    Calling it gives the model's own output, bit for bit. Leaving its ``with`` block restores the model.

    Attributes
    ----------
    model
        The user's model.
    sites
        Its sites, in the order of the forward pass.
    family
        Family of the adapter that serves it.
    takes
        Which tensor of the model's output is given; None: the output as it is.
    ffn, attn, prefix
        The probes of the patch tokens, at sites of feed-forward blocks and at those of attention, and of the prefix
        tokens at both, by site name with dots as underscores; Lucent calls them ``"ffn_blocks_5"``,
        ``"attn_blocks_5_query"`` and ``"prefix_blocks_5"``.
    """

    def __init__(
        self,
        model: nn.Module,
        supported: nn.Module,
        sites: tuple[Site, ...],
        stem: nn.Module,
        entrance: Entrance,
        *,
        inner: tuple[Site, ...] | None = None,
        takes: str | int | None = None,
    ) -> None:
        super().__init__()
        self.sites = sites
        self.family = entrance.adapter.family
        self.takes = takes
        self.model_name = type(supported).__name__
        self.ffn, self.attn = (
            nn.ModuleDict({site.key: Probe() for site in sites if site.home == home}) for home in ("ffn", "attn")
        )
        self.prefix = nn.ModuleDict({site.key: Probe() for site in sites if site.prefix_tokens})
        self.model = model
        # Lucent takes the last module for "labels". In a model that is often not the classifier, so give it one that
        # always is: the output itself.
        self.output = nn.Identity()
        self._lookup = Lookup(sites, self.model_name)
        probes = {"ffn": self.ffn, "attn": self.attn}
        self._path = Path(supported, stem, inner or sites, probes, self.prefix, self.model_name)
        self._pass = self._path.forward_pass
        self._entrance = entrance
        for part in (self.ffn, self.attn, self.prefix, self.output):
            part.train(model.training)
        self.training = model.training

    @property
    def preprocessing(self) -> Preprocessing:
        """The input size, mean and standard deviation that :attr:`model` expects now."""
        return self._entrance.preprocessing(self._path.model, self._path.stem)

    @property
    def channels(self) -> int:
        """Number of channels of the images that the model takes."""
        first = (module.in_channels for module in self._path.stem.modules() if isinstance(module, nn.Conv2d))
        return next(first, len(self.preprocessing.mean))

    def check_takes_photos(self) -> None:
        """Make sure that the model takes images of three channels, red, green and blue.

        Raises
        ------
        ChannelsError
            It takes others.
        """
        if self.channels != 3:
            counted = "1 channel" if self.channels == 1 else f"{self.channels} channels"
            raise ChannelsError(
                f"{self.model_name} takes images of {counted}, and photos and renders have three; maps, neurons, "
                "Captum and rankings of your own tensors work"
            )

    @property
    def device(self) -> torch.device:
        """Where the model takes its images."""
        return input_of(self.model, self._path.stem)[0]

    @property
    def dtype(self) -> torch.dtype:
        """Number format in which the model takes its images."""
        return input_of(self.model, self._path.stem)[1]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The model's own output, or the tensor of it that was asked for; inside :meth:`until`, a site's map.

        Raises
        ------
        ImageSizeError
            The model fails on an image of another size than its own.
        ArgumentError
            The model's output does not hold what :attr:`takes` names.
        """
        self._path.follow()
        args, kwargs = self._entrance.admit(args, kwargs)
        try:
            output = self.model(*args, **kwargs)
            output = self.output(output if self.takes is None else taken(output, self.takes))
        except StopForward as stop:
            return stop.output
        except (AssertionError, RuntimeError, ValueError) as error:
            self._explain(error, args, kwargs)
            raise
        if missed := ", ".join(sorted(self._pass.missed)):
            raise CaptumViTError(
                f"the forward pass of {self.model_name} ended without reaching {missed}; if the model was changed "
                "after adapt(), restore it and adapt it again"
            )
        return self._pass.last if self._pass.wanted else output

    def _explain(self, error: Exception, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Say so where a model fails because its image has another size than it takes."""
        if isinstance(error, CaptumViTError) or self._path.model is not self.model:
            return
        height, width = image_of(args, kwargs).shape[-2:]
        wanted = self._entrance.refuses((height, width), self._path.model, self._path.stem)
        if wanted is not None:
            raise ImageSizeError(
                f"{self.model_name} takes images of {wanted[0]}x{wanted[1]} pixels, and this is {height}x{width} "
                f"({error}); resize it, or adapt the model with adapt(model, any_size=True), which does"
            ) from error

    def site(self, name: str) -> Site:
        """The site of that name (``"blocks.5"``, or Lucent's ``"ffn_blocks_5"``).

        Raises
        ------
        AddressError
            There is no such site.
        """
        return self._lookup.site(name)

    def address(self, address: str) -> tuple[Site, int]:
        """The site and unit that an address such as ``"blocks.5:42"`` names.

        Raises
        ------
        AddressError
            The address is malformed, or the model has no such site or unit.
        """
        return self._lookup.address(address)

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
        if not site.reaches_output and not reaches_output(self, self.probe(site.name)):
            warnings.warn(
                f"{self.model_name} never reads the patch tokens of {site.name} again (it classifies by its prefix "
                "tokens), so attributions of the model's output are exactly zero there. Attribute at an earlier site, "
                f'at the prefix tokens with vit.prefix_layer("{site.name}"), or attribute a neuron of this site',
                ZeroAttributionWarning,
                stacklevel=2,
            )
        return self.probe(site.name)

    def probe(self, name: str) -> Probe:
        """The probe of a site's patch tokens, as :meth:`layer` gives it, whether or not the output depends on them.

        Raises
        ------
        AddressError
            There is no such site.
        """
        site = self.site(name)
        return getattr(self, site.home)[site.key]  # type: ignore[no-any-return]

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
        return Neuron(self, site, unit, None if patch is None else place_in_grid("patch", patch, AddressError))

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
        # A wrapper may take images of another kind; the model itself does not.
        if self._path.model is self.model or not isinstance(images, Tensor):
            image_batch("images", images)
        if isinstance(addresses, list | tuple) and not addresses:
            raise AddressError('no neuron to map; give at least one address, such as "blocks.5:42"')
        asked = [addresses] if isinstance(addresses, str) else some("addresses", addresses, EXAMPLE, AddressError)
        neurons = [self.address(address) for address in asked]
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

    def collector(
        self, names: Iterable[str], listener: Callable[[str, Tensor], None] | None = None
    ) -> Callable[[], AbstractContextManager[dict[str, Tensor]]]:
        """What opens :meth:`collect` again and again: looks at the model once, and not every time.

        Parameters
        ----------
        names
            Names of the sites.
        listener
            What gets each site's name and map as soon as it is there, instead of their being collected.

        Raises
        ------
        AddressError
            There is no such site.
        CaptumViTError
            Gradient checkpointing is on, or the model was restored.
        """
        asked = [names] if isinstance(names, str) else some("names", names, '["blocks.5"]', AddressError)
        wanted = frozenset(self.site(name).name for name in asked)
        if any(getattr(module, "grad_checkpointing", False) for module in self.model.modules()):
            raise RecomputationError(
                "a pass cannot stop early inside gradient checkpointing; switch it off with "
                "model.set_grad_checkpointing(False)"
            )
        if not hooks.is_installed(self.model, self._pass):
            raise CaptumViTError(f"{self.model_name} was restored and has no probes; adapt it again")
        return partial(self._pass.until, wanted, listener)

    @contextmanager
    def redirected(self, names: str | Iterable[str]) -> Iterator[None]:
        """Context in which gradients at some sites pass by the activation function of neurons that it silences.

        What a pass gives is exact. A neuron whose input is negative wherever the loss looks in an image gets a gradient
        that leads out of silence, in any loop: Lucent's own, or another. One that speaks anywhere keeps its own.

        Parameters
        ----------
        names
            Name of a site, or several.

        Raises
        ------
        AddressError
            There is no such site.
        RedirectError
            A site has no activation function that is known.

        Examples
        --------
        >>> import timm, torch
        >>> vit = adapt(timm.create_model("deit_tiny_patch16_224").eval())
        >>> images = torch.rand(1, 3, 224, 224, requires_grad=True)
        >>> with vit.redirected("blocks.5"):
        ...     vit.neuron("blocks.5:42")(images).sum().backward()
        """
        with self.redirect(names) as redirect:
            yield
            redirect.check()

    def redirect(self, names: str | Iterable[str], rows: Mapping[str, Tensor] | None = None) -> Redirect:
        """What :meth:`redirected` enters, for a loop that switches it on and off, and for some images of a batch only.

        Parameters
        ----------
        names
            Name of a site, or several.
        rows
            By site, which images of a batch it is for, ``(B,)`` of booleans on their device; all when not given.

        Raises
        ------
        AddressError, RedirectError
            As for :meth:`redirected`.
        """
        asked = [names] if isinstance(names, str) else some("names", names, '["blocks.5"]', AddressError)
        wanted = {self.site(name).name for name in asked}
        inner = [site for site in self._path.sites if site.name in wanted]
        return Redirect(inner, self._pass, self.model_name, rows)

    def restore(self) -> None:
        """Take the probes off the model's path; the model is then as it was before :func:`adapt`."""
        hooks.remove(self.model, self._pass)

    def __enter__(self) -> AdaptedModel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.restore()

    def extra_repr(self) -> str:
        """Family and number of sites, for ``print(vit)``."""
        return f"family={self.family!r}, sites={len(self.sites)}"
