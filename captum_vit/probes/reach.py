"""Whether a model's output depends on what passes a probe, found by a gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from captum_vit.probes.output import taken, tensors
from captum_vit.probes.probe import Probe

if TYPE_CHECKING:
    from captum_vit.probes.adapted import AdaptedModel


def reaches_output(vit: AdaptedModel, probe: Probe) -> bool:
    """Whether the output has a gradient at a probe, on one random image.

    An adapter says it of its architecture; in a wrapper, or with another classifier, it may be otherwise.
    """
    if vit.device.type == "meta":
        return False
    preprocessing = vit.preprocessing
    images = torch.rand(1, len(preprocessing.mean), *preprocessing.size).to(vit.device, vit.dtype)
    maps: list[Tensor] = []
    hook = probe.register_forward_hook(lambda module, inputs, output: maps.append(output))
    try:
        with torch.inference_mode(False), torch.enable_grad():
            output = vit.model(images.requires_grad_())
            meant = output if vit.takes is None else taken(output, vit.takes)
            total = torch.stack([part.sum() for part in tensors(meant) if part.requires_grad]).sum()
            (gradient,) = torch.autograd.grad(total, maps, allow_unused=True)
    # A model that does not take an image alone is as its adapter says.
    except Exception:
        return False
    finally:
        hook.remove()
    return gradient is not None and bool(gradient.any())
