"""Sites: the places in a model where neurons live, as an adapter describes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from captum_vit.errors import LayoutError
from captum_vit.probes.address import Address
from captum_vit.probes.attention import WIDTHS_WRITTEN, Attention
from captum_vit.probes.grid import PatchGrid, Size
from captum_vit.probes.kinds import ATTENTION, FEED_FORWARD
from captum_vit.probes.layout import TOKENS, Layout

# What layers call the width of what they read.
_WIDTHS_READ = ("in_features", "in_channels")


@dataclass(frozen=True)
class Site:
    """One place where neurons live: a feed-forward block (for CoaT's shared one: one scale of it).

    Adapters make sites with :func:`feed_forward`; those of other kinds in the same block follow from them.

    Attributes
    ----------
    name
        The model's own module path of the block, ``"blocks.5"``; of another kind, what it is behind that:
        ``"blocks.5.query"``, ``"blocks.5.key"``, ``"blocks.5.value"``, ``"blocks.5.output"``.
    units
        Number of neurons: the channels that the block's second linear layer reads; of another kind, those of a query,
        a key or a value, or those that the second linear layer gives.
    grid
        ``site.grid((height, width))`` is the shape of the patch map for an image of that many pixels.
    layout
        How the activation lies in memory.
    reaches_output
        False where the model never reads this block's patch tokens again (the last block under token pooling).
    reads
        The module whose input is the activation; None where it is what ``writes`` gives.
    writes
        The module whose output is the activation; None where it is what ``reads`` gets.
    activation
        The module that computes the block's activation function (of the gate, in a gated block); None where none is
        known.
    kind
        ``"feed_forward"``, ``"attention"`` or ``"output"``.
    attention
        Where the queries, keys and values of the same block are, or why nothing tells them; None: that is not known.
    output
        The module that gives what the block makes of its hidden activation, or why none does; None: ``reads`` itself.
    """

    name: str
    units: int
    grid: PatchGrid = field(repr=False)
    layout: Layout = field(repr=False, default_factory=Layout)
    reaches_output: bool = field(repr=False, default=True)
    reads: nn.Module | None = field(repr=False, compare=False, default=None, kw_only=True)
    writes: nn.Module | None = field(repr=False, compare=False, default=None, kw_only=True)
    activation: nn.Module | None = field(repr=False, compare=False, default=None, kw_only=True)
    kind: str = field(repr=False, default=FEED_FORWARD, kw_only=True)
    attention: Attention | str | None = field(repr=False, compare=False, default=None, kw_only=True)
    output: nn.Module | str | None = field(repr=False, compare=False, default=None, kw_only=True)

    @property
    def prefix_tokens(self) -> int:
        """Class, distillation and register tokens before the patch tokens at this site."""
        return self.layout.prefix_tokens

    @property
    def suffix_tokens(self) -> int:
        """Tokens behind the patch tokens at this site, such as a detector's; they pass by untouched."""
        return self.layout.suffix_tokens

    @property
    def at(self) -> nn.Module:
        """The module at which the activation is, as its input or its output."""
        module = self.writes if self.reads is None else self.reads
        assert module is not None
        return module

    @property
    def key(self) -> str:
        """The site's key in the ``ModuleDict`` of probes, which admits no dots: ``"blocks_5"``."""
        return self.name.replace(".", "_")

    @property
    def block(self) -> str:
        """The module path of the block: the name, without the word behind it that tells a kind."""
        return self.name if self.kind == FEED_FORWARD else self.name.rpartition(".")[0]

    @property
    def home(self) -> str:
        """Which ``ModuleDict`` of an adapted model holds the probe: ``"attn"`` or ``"ffn"``."""
        return "attn" if self.kind == ATTENTION else "ffn"

    @property
    def layer(self) -> str:
        """Lucent's name for the probe: ``"ffn_blocks_5"``, ``"attn_blocks_5_query"``, ``"ffn_blocks_5_output"``."""
        return f"{self.home}_{self.key}"

    def address(self, unit: int) -> Address:
        """The address of one of the site's neurons; whether there is such a unit is not looked at."""
        return Address(f"{self.name}:{unit}")

    def to_image(self, patch_map: Tensor, image_size: Size) -> Tensor:
        """Resample a patch map ``(..., rows, columns)`` to pixels; see :meth:`PatchGrid.to_image`."""
        return self.grid.to_image(patch_map, image_size)

    def pool(self, pixel_attribution: Tensor) -> Tensor:
        """Average a pixel attribution ``(..., height, width)`` over each patch cell; see :meth:`PatchGrid.pool`."""
        return self.grid.pool(pixel_attribution)

    def feature_mask(self, image_size: Size) -> Tensor:
        """Captum's ``feature_mask``, one feature for each patch cell; see :meth:`PatchGrid.feature_mask`."""
        return self.grid.feature_mask(image_size)


def feed_forward(
    name: str,
    *,
    reads: nn.Module | None = None,
    writes: nn.Module | None = None,
    activation: nn.Module | None = None,
    grid: PatchGrid,
    layout: str = TOKENS,
    axes: Mapping[str, int] | None = None,
    prefix_tokens: int = 0,
    suffix_tokens: int = 0,
    units: int | None = None,
    reaches_output: bool = True,
    attention: Attention | str | None = None,
    output: nn.Module | str | None = None,
) -> Site:
    """Describe a feed-forward block as a site; what an adapter yields.

    Parameters
    ----------
    name
        The model's own module path of the block.
    reads
        The module that reads the hidden activation: the block's second linear layer. Several sites may share one module
        when their grids differ (CoaT).
    writes
        In its place, a module that gives the activation: what a ConvNet's block hands on.
    activation
        The module that computes the block's activation function, by which gradients are redirected (of the gate, in a
        gated block). Where it is not given, the last one that the block registers before ``reads`` is taken.
    grid
        From pixels to this block's cells.
    layout
        How the activation lies in memory, as einops writes it: tokens ``"b (h w) c"``, channels first ``"b c h w"``,
        channels last ``"b h w c"``; windows ``"(b y x) (h w) c -> b c (y h) (x w)"``. See :class:`Layout`.
    axes
        Lengths in the layout that the grid does not tell: ``{"h": 7, "w": 7}`` for windows of 7 × 7 cells.
    prefix_tokens, suffix_tokens
        Number of tokens before and after the patch tokens.
    units
        Width of the activation; the module's ``in_features``, ``in_channels`` (``reads``), ``out_features`` or
        ``out_channels`` (``writes``) when not given.
    reaches_output
        Whether the model's output depends on this block's patch tokens.
    attention
        Where the queries, keys and values of the same block are, for ``adapt(model, sites="attention")``; or a sentence
        that says why they cannot be had, as where no module gives them.
    output
        The module that gives what the block makes of the activation, in the same layout, for
        ``adapt(model, sites="output")``; or a sentence that says why none does. When not given, it is what ``reads``
        gives, if that is a linear layer or a convolution.

    Raises
    ------
    TypeError
        There is neither ``reads`` nor ``writes``, or both, or ``units`` is not given and the module does not tell it.
    LayoutError
        The layout leads to no map, or has no axis for prefix tokens.
    """
    module = writes if reads is None else reads
    if module is None or (reads is not None and writes is not None):
        raise TypeError(
            f'site "{name}": give reads=, the layer that reads the hidden activation (the second linear layer of the '
            "block), or else writes=, the module that gives it"
        )
    if units is None:
        widths = WIDTHS_WRITTEN if reads is None else _WIDTHS_READ
        units = next((width for w in widths if isinstance(width := getattr(module, w, None), int)), None)
        if units is None:
            raise TypeError(
                f'site "{name}": {type(module).__name__} has no {" or ".join(widths[:2])}; reads= should be the second '
                "linear layer of the block, or else tell the width of the hidden activation with units="
            )
    try:
        described = Layout(layout, tuple((axes or {}).items()), prefix_tokens, suffix_tokens)
    except LayoutError as error:
        raise LayoutError(f'site "{name}": {error}') from None
    return Site(
        name,
        units,
        grid,
        described,
        reaches_output,
        reads=reads,
        writes=writes,
        activation=activation,
        attention=attention,
        output=output,
    )
