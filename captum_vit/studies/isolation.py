"""The class token cut off from the patches in some blocks: attention that is masked as it is computed."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from captum_vit.errors import StudyError
from captum_vit.probes.adapted import AdaptedModel
from captum_vit.probes.site import Site
from captum_vit.studies.heads import features

# Second heads, which read the distillation token as the first reads the class token.
_SECOND_HEADS = ("head_dist", "distillation_classifier")
_SOFTMAX = (torch.softmax, torch.Tensor.softmax, functional.softmax)
_SDPA = ("query", "key", "value", "attn_mask")
_IN_ONE_FUNCTION = functional.multi_head_attention_forward

# From the number of tokens to whether each (row) sees each other (column), (N, N).
Sees = Callable[[int, torch.device], Tensor]


class Isolation:
    """The class token of a model and the blocks that it passes.

    A distillation token that a second head reads is a class token too; the two do not see each other where they are
    cut off. Register tokens go with the patches.

    Parameters
    ----------
    vit
        The adapted model.

    Attributes
    ----------
    blocks
        The sites of the blocks that the class token passes, in order.
    tokens
        How many tokens heads read.

    Raises
    ------
    StudyError
        The model has no class token, or what it gives hangs on the patches in other ways too.
    """

    def __init__(self, vit: AdaptedModel) -> None:
        self._vit = vit
        self.blocks: tuple[Site, ...] = tuple(site for site in vit.sites if site.prefix_tokens)
        model_parts = list(vit.model.modules())
        self.tokens = 1 + any(getattr(part, head, None) is not None for part in model_parts for head in _SECOND_HEADS)
        if not self.blocks or any(hasattr(part, "reg_token") and part.cls_token is None for part in model_parts):
            raise StudyError(f"{vit.model_name} has no class token that its blocks pass on")
        self._check_alone()

    def cut_off(self, until: int) -> AbstractContextManager[None]:
        """Context in which class tokens do not attend, nor are attended to, before block number ``until``."""
        return self._masked(self.blocks[:until], self._neither)

    def alone(self, since: int) -> AbstractContextManager[None]:
        """Context in which class tokens see themselves only, from block number ``since`` on."""
        return self._masked(self.blocks[since:], self._itself)

    def _itself(self, count: int, device: torch.device) -> Tensor:
        sees = torch.ones(count, count, dtype=torch.bool, device=device)
        sees[: self.tokens] = torch.eye(self.tokens, count, dtype=torch.bool, device=device)
        return sees

    def _neither(self, count: int, device: torch.device) -> Tensor:
        sees = self._itself(count, device)
        return sees & sees.T

    def _masked(self, blocks: Sequence[Site], sees: Sees) -> AbstractContextManager[None]:
        return _cut(self._vit, blocks, sees)

    def _check_alone(self) -> None:
        """What a class token gives that never saw a patch is the same for all images."""
        vit = self._vit
        generator = torch.Generator().manual_seed(0)
        images = torch.rand(2, 3, *vit.preprocessing.size, generator=generator).to(vit.device, vit.dtype)
        with torch.inference_mode(), self.alone(0):
            first, second = features(vit, images)
        if not torch.allclose(first, second, rtol=1e-3, atol=1e-5):
            raise StudyError(
                f"{vit.model_name} does not classify by its class token alone: cut off from all patches in all blocks, "
                "what its head reads still differs from image to image"
            )


@contextmanager
def _cut(vit: AdaptedModel, blocks: Sequence[Site], sees: Sees) -> Iterator[None]:
    if not blocks:  # and the model is as it is
        yield
        return
    mode = _Masked(vit, sees)
    handles = []
    for site in blocks:
        module = _block(vit, site)
        handles.append(module.register_forward_pre_hook(_Enter(mode, site)))
        handles.append(module.register_forward_hook(_Leave(mode), always_call=True))
    try:
        with mode:
            yield
    finally:
        for handle in handles:
            handle.remove()


def _block(vit: AdaptedModel, site: Site) -> nn.Module:
    """The module of a site's block. Sites are named as in the model itself, which a wrapper may hold."""
    for module in vit.model.modules():
        try:
            return module.get_submodule(site.block)
        except AttributeError:
            continue
    raise StudyError(f"{vit.model_name} has no module {site.block} any more; adapt it again")


class _Masked(TorchFunctionMode):
    """Context in which attention inside some blocks is masked, whatever function computes it."""

    def __init__(self, vit: AdaptedModel, sees: Sees) -> None:
        super().__init__()
        self._vit, self._sees = vit, sees
        self.site: Site | None = None
        self.masked = 0

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self.site is None:
            return func(*args, **kwargs)
        if func is functional.scaled_dot_product_attention:
            given = {**dict(zip(_SDPA, args, strict=False)), **kwargs}
            if self._is_over_all(given["query"].shape[-2], given["key"].shape[-2]):
                given["attn_mask"] = self._with(given.get("attn_mask"), given["query"])
                rest = args[len(_SDPA) :]
                first = [given.pop(name) for name in _SDPA]
                return func(*first, *rest, **given)
        elif func in _SOFTMAX:
            scores, dim = args[0], (args[1] if len(args) > 1 else kwargs.get("dim"))
            if scores.dim() > 2 and dim in (-1, scores.dim() - 1) and self._is_over_all(*scores.shape[-2:]):
                sees = self._sees(scores.shape[-1], scores.device)
                return func(scores.masked_fill(~sees, float("-inf")), *args[1:], **kwargs)
        elif func is _IN_ONE_FUNCTION:
            given = inspect.signature(func).bind(*args, **kwargs).arguments
            query, key = given["query"], given["key"]  # tokens first
            if self._is_over_all(query.shape[0], key.shape[0]):
                given["attn_mask"] = self._with(given.get("attn_mask"), query, hides=True)
                return func(**given)
        return func(*args, **kwargs)

    def _is_over_all(self, queries: int, keys: int) -> bool:
        """Whether all of a block's tokens attend to all of them."""
        assert self.site is not None
        site = self.site
        rows, columns = site.grid(self._vit.preprocessing.size)
        found = queries == keys == site.prefix_tokens + rows * columns + site.suffix_tokens
        self.masked += found
        return found

    def _with(self, mask: Tensor | None, query: Tensor, *, hides: bool = False) -> Tensor:
        """A mask of attention that hides what another one hides too; of booleans, True sees, or hides."""
        count = query.shape[0] if hides else query.shape[-2]
        sees = self._sees(count, query.device)
        if mask is None:
            return ~sees if hides else sees
        if mask.dtype != torch.bool:
            return mask.masked_fill(~sees, float("-inf"))
        return mask | ~sees if hides else mask & sees


class _Enter:
    """A hook that is an object, as hooks that are functions are not copied with the model."""

    def __init__(self, mode: _Masked, site: Site) -> None:
        self.mode, self.site = mode, site

    def __call__(self, module: nn.Module, inputs: Any) -> None:
        self.mode.site, self.mode.masked = self.site, 0


class _Leave:
    def __init__(self, mode: _Masked) -> None:
        self.mode = mode

    def __call__(self, module: nn.Module, inputs: Any, output: Any) -> None:
        site, self.mode.site = self.mode.site, None
        if site is not None and not self.mode.masked:
            raise StudyError(
                f"{site.block} has no attention that weighs all tokens against one another and could be masked, so "
                "that its class token cannot be cut off"
            )
