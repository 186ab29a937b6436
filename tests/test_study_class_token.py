"""The class token is cut off exactly where it is said to be, in whatever attention a model has."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torchvision
import transformers
from families import TINY_MODELS
from study_images import two_classes
from timm.models.beit import Beit
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

import captum_vit
from captum_vit.errors import StudyError
from captum_vit.studies import Study, class_token
from captum_vit.studies.class_token import ALONE, CUT_OFF, draw
from captum_vit.studies.isolation import Isolation

TINY = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 3, "num_heads": 3, "num_classes": 5}
OURS = {
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "intermediate_size": 48,
    "image_size": 32,
    "patch_size": 8,
}


def hugging(attention: str) -> nn.Module:
    return transformers.ViTForImageClassification(transformers.ViTConfig(**OURS, attn_implementation=attention))


def unfused(model: nn.Module) -> nn.Module:
    for block in model.blocks:
        block.attn.fused_attn = False
    return model


# Models by how they attend: fused, by a softmax, with a bias, with rotary positions, in one function of torch.
KINDS = {
    **{name: TINY_MODELS[name].build for name in ("deit", "deit_distilled", "vit_with_registers", "convit", "pit")},
    "vit_unfused": lambda: unfused(TINY_MODELS["deit"].build()),
    "vit_parallel": TINY_MODELS["vit_parallel_scaling_fused"].build,
    "vit_differential": TINY_MODELS["vit_parallel_differential"].build,
    "eva": lambda: Eva(**TINY, global_pool="token", use_rot_pos_emb=True),
    "beit": lambda: Beit(**TINY, global_pool="token", use_rel_pos_bias=True),
    "beit_unfused": lambda: unfused(Beit(**TINY, global_pool="token", use_rel_pos_bias=True)),
    "dinov2_transformers": lambda: transformers.Dinov2Model(transformers.Dinov2Config(**OURS)),
    "vit_transformers": lambda: hugging("sdpa"),
    "vit_transformers_eager": lambda: hugging("eager"),
    "vit_torchvision": lambda: torchvision.models.VisionTransformer(32, 8, 3, 3, 24, 48, num_classes=5),
}


def images(vit: captum_vit.AdaptedModel) -> Tensor:
    return torch.rand(3, 3, *vit.preprocessing.size, generator=torch.Generator().manual_seed(0))


def answers(vit: captum_vit.AdaptedModel) -> Tensor:
    """What a model gives of images: scores, or an embedding."""
    output = vit(images(vit))
    return output if isinstance(output, Tensor) else getattr(output, "logits", getattr(output, "pooler_output", None))


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_a_token_that_never_sees_a_patch_knows_nothing_of_the_image_and_one_that_is_not_cut_off_all(kind: str) -> None:
    torch.manual_seed(0)
    model = KINDS[kind]().eval()
    for parameter in model.parameters():  # so that attention tells: libraries start close to zero
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.3)
    with captum_vit.adapt(model) as vit:
        isolation, own = Isolation(vit), answers(vit)
        depth = len(isolation.blocks)
        with isolation.cut_off(0):
            assert torch.equal(answers(vit), own)
        with isolation.alone(depth):
            assert torch.equal(answers(vit), own)
        for never in (isolation.cut_off(depth), isolation.alone(0)):
            with never:
                given = answers(vit)
            torch.testing.assert_close(given, given[:1].expand_as(given))
        for masked in (isolation.cut_off(1), isolation.alone(depth - 1)):
            with masked:
                assert not torch.allclose(answers(vit), own)
        assert torch.equal(answers(vit), own)  # nothing is left behind
    assert all(not module._forward_hooks for module in model.modules())


def by_parts(model: VisionTransformer, pixels: Tensor, until: int, since: int, alone: int) -> Tensor:
    """The same without masks: tokens that do not see each other are passed on apart, as in the paper's code."""
    tokens = model._pos_embed(model.patch_embed(pixels))
    apart = [*tokens[:, :alone].split(1, dim=1), tokens[:, alone:]]
    for block in model.blocks[:until]:
        apart = [block(part) for part in apart]
    tokens = torch.cat(apart, dim=1)
    for block in model.blocks[until:since]:
        tokens = block(tokens)
    apart = list(tokens[:, :alone].split(1, dim=1))
    for block in model.blocks[since:]:
        apart = [block(part) for part in apart]
    # Of patches behind that, the head reads nothing.
    read = torch.cat([*apart, tokens[:, alone:]], dim=1)
    return model.forward_head(model.norm(read))


@pytest.mark.parametrize("name", ["deit", "deit_distilled", "vit_with_registers", "vit_swiglu", "vit_parallel_scaling"])
@pytest.mark.parametrize("is_fused", [True, False])
@torch.no_grad()
def test_masks_do_what_passing_the_parts_on_by_themselves_does(name: str, is_fused: bool) -> None:
    model, bare = TINY_MODELS[name].build(), TINY_MODELS[name].build()
    for block in model.blocks:
        getattr(block, "attn", block).fused_attn = is_fused
    with captum_vit.adapt(model) as vit:
        isolation, pixels = Isolation(vit), images(vit)
        for until in range(4):
            with isolation.cut_off(until):
                torch.testing.assert_close(vit(pixels), by_parts(bare, pixels, until, 3, isolation.tokens))
        for since in range(4):
            with isolation.alone(since):
                torch.testing.assert_close(vit(pixels), by_parts(bare, pixels, 0, since, isolation.tokens))


def adding_up() -> VisionTransformer:
    """A model of two blocks that add the mean, and twice the mean, of the tokens that a token sees; it gives the first.

    Tokens are one number each: the class token is 3, a patch is the red of its pixel.
    """
    model = VisionTransformer(
        img_size=2,
        patch_size=1,
        embed_dim=1,
        depth=2,
        num_heads=1,
        num_classes=0,
        mlp_ratio=2,
        qkv_bias=False,
        norm_layer=nn.Identity,
    ).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.cls_token.fill_(3)
        model.patch_embed.proj.weight[0, 0] = 1
        for block, weight in zip(model.blocks, (1, 2), strict=True):
            block.attn.qkv.weight[2] = 1  # values; queries and keys are zero, and attention the mean
            block.attn.proj.weight.fill_(weight)
    return model


def test_the_arithmetic_is_as_it_is_worked_out_by_hand() -> None:
    pixels = torch.zeros(1, 3, 2, 2)
    pixels[0, 0] = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    with captum_vit.adapt(adding_up()) as vit, torch.no_grad():
        isolation = Isolation(vit)

        def given() -> float:
            return round(vit(pixels).item(), 5)

        # 3 + (3 + 10) / 5 = 5.6, patches 10 + 4 · 2.6 = 20.4; 5.6 + 2 · (5.6 + 20.4) / 5 = 16
        assert given() == 16.0
        with isolation.cut_off(1):  # 3 + 3 = 6, patches 10 + 4 · 2.5 = 20; 6 + 2 · (6 + 20) / 5 = 16.4
            assert given() == 16.4
        with isolation.cut_off(2):  # 3 + 3 = 6; 6 + 2 · 6 = 18
            assert given() == 18.0
        with isolation.alone(1):  # 5.6; 5.6 + 2 · 5.6 = 16.8
            assert given() == 16.8
        with isolation.alone(0):
            assert given() == 18.0


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (TINY_MODELS["swin"].build, "no class token"),
        (TINY_MODELS["vit_without_class_token"].build, "no class token"),
        (lambda: VisionTransformer(**TINY, class_token=False, reg_tokens=2, global_pool="avg"), "no class token"),
        (lambda: VisionTransformer(**TINY, global_pool="avg"), "does not classify by its class token alone"),
        (TINY_MODELS["coat_lite"].build, "has no attention that weighs all tokens against one another"),
    ],
)
def test_a_model_whose_class_token_cannot_be_cut_off_says_why(make: object, reason: str) -> None:
    with captum_vit.adapt(make().eval()) as vit, pytest.raises(StudyError, match=reason):
        Isolation(vit)


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return two_classes(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def vit() -> Iterator[captum_vit.AdaptedModel]:
    with captum_vit.adapt(captum_vit.load("deit_micro")) as adapted:
        yield adapted


@pytest.fixture(scope="module")
def study(vit: captum_vit.AdaptedModel, labels: dict[str, str]) -> Study:
    return class_token(vit, labels, name="micro", classifier="probe", progress=False)


def test_the_table_begins_with_the_model_as_it_is_and_ends_where_it_is_again(study: Study) -> None:
    rows = {(row["class token"], row["block"]): row for row in study.rows}
    assert list(rows) == [("as it is", None), *((condition, n) for condition in (CUT_OFF, ALONE) for n in range(7))]
    own = [rows[each]["top-1"] for each in (("as it is", None), (CUT_OFF, 0), (ALONE, 6))]
    assert own == [own[0]] * 3 == [study.models["micro"]["top-1"]] * 3
    assert rows[CUT_OFF, 6]["top-1"] == rows[ALONE, 0]["top-1"] == 0.5  # the same answer for each image of two classes
    assert rows[CUT_OFF, 2]["site"] == "blocks.2"


def test_blocks_are_chosen_by_their_numbers(vit: captum_vit.AdaptedModel, labels: dict[str, str], study: Study) -> None:
    some = class_token(vit, labels, name="micro", blocks=[4], classifier="probe", progress=False)
    assert [row["block"] for row in some.rows] == [None, 4, 4]
    assert some.rows[1] == next(row for row in study.rows if (row["class token"], row["block"]) == (CUT_OFF, 4))
    with pytest.raises(StudyError, match="passes 6: give 0 to 6"):
        class_token(vit, labels, blocks=[7], progress=False)


def test_the_picture_has_both_conditions(study: Study) -> None:
    labels = [ax.get_xlabel() for ax in draw(study).axes]
    assert labels == ["class token cut off until block", "class token alone from block"]
