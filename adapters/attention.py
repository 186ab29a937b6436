"""What adapters share of attention: what its layers are called, and where no layer gives queries, keys and values."""

from __future__ import annotations

from typing import Any

from torch import nn

from captum_vit import Attention, Channels

# Three layers, by what libraries call them.
SEPARATE = (("q_proj", "k_proj", "v_proj"), ("query", "key", "value"), ("q", "k", "v"))
# Layers that give several of them, one letter for each.
FUSED = (("qkv",), ("q", "kv"), ("qk", "v"))
IN_ONE_FUNCTION = (
    "its attention, like torch.nn.MultiheadAttention, computes them inside of one function, so that no module gives "
    "them; timm and transformers have the same architectures with layers for them"
)
NOT_CALLED = (
    "its attention multiplies by the weights of its layer qkv and does not call the layer, so that no module gives them"
)


def attention_of(attn: nn.Module | None, **described: Any) -> Attention | str | None:
    """Where the queries, keys and values of an attention module are, as far as its layers are called as most are.

    Parameters
    ----------
    attn
        The attention module, if there is one. A fused layer should give queries, keys and values one after another,
        all heads of each together.
    described
        What else is known of them, as :class:`captum_vit.Attention` takes it.

    Returns
    -------
    Attention, str or None
        Where they are; or why they cannot be had; None where nothing is known of the module.
    """
    if getattr(attn, "in_proj_weight", None) is not None:
        return IN_ONE_FUNCTION
    layers = dict(attn.named_children()) if attn is not None else {}
    for names in SEPARATE:
        if layers.keys() >= {*names}:
            return Attention(*(layers[name] for name in names), **described)
    if "qkv" in layers and getattr(attn, "q_bias", None) is not None:
        return NOT_CALLED
    for names in FUSED:
        if layers.keys() >= {*names}:
            try:
                parts = [part for name in names for part in Channels.split(layers[name], len(name))]
            except TypeError as error:  # of a layer that was put in the place of the model's own
                return str(error)
            return Attention(*parts, **described)
    return None
