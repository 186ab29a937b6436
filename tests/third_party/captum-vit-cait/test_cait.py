"""CaiT through captum-vit, with the package installed; the model is small and has random weights."""

import pytest
import timm
import torch

import captum_vit

SIZE = (48, 80)  # not square, so that rows and columns cannot be confused


@pytest.fixture
def model():
    torch.manual_seed(0)
    return timm.create_model("cait_xxs24_224", img_size=SIZE, depth=3, embed_dim=32, num_classes=7).eval()


@torch.no_grad()
def test_maps_are_the_hidden_activation_and_outputs_stay_as_they_were(model):
    images, hidden = torch.randn(2, 3, *SIZE), []
    hooks = [block.mlp.act.register_forward_hook(lambda *call: hidden.append(call[-1])) for block in model.blocks]
    expected = model(images)
    for hook in hooks:
        hook.remove()

    with captum_vit.adapt(model) as vit:
        assert vit.family == "cait"
        assert torch.equal(vit(images), expected)
        for i, tokens in enumerate(hidden):
            every_unit = [f"blocks.{i}:{unit}" for unit in range(128)]
            assert torch.equal(vit.patch_map(images, every_unit), tokens.mT.reshape(2, 128, 3, 5))


@pytest.mark.parametrize("patch", [(0, 0), (1, 3), (2, 4)])
def test_a_cell_looks_at_the_pixels_of_its_patch(model, patch):
    images = torch.randn(1, 3, *SIZE, requires_grad=True)
    vit = captum_vit.adapt(model)
    vit.neuron("blocks.1:0", patch)(images).backward()
    row, column = divmod(images.grad.abs().sum(dim=(0, 1)).argmax().item(), SIZE[1])
    assert (row // 16, column // 16) == patch


def test_the_last_blocks_patch_tokens_reach_the_output(model):
    vit = captum_vit.adapt(model)
    maps = []
    vit.layer("blocks.2").register_forward_hook(lambda *call: maps.append(call[-1]))
    (gradient,) = torch.autograd.grad(vit(torch.randn(1, 3, *SIZE)).sum(), maps)
    assert gradient.abs().sum() > 0
