"""The class token's classifier reads patches as the paper's code does, and accuracies are those counted by hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import transformers
from families import TINY_MODELS
from study_images import BLUE, GREEN, RED, quarters, two_classes
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from typer.testing import CliRunner

import captum_vit
from captum_vit import Preprocessing, cli
from captum_vit.errors import StudyError
from captum_vit.probes.adapted import AdaptedModel
from captum_vit.studies import Classifier, Study, pooling
from captum_vit.studies.pooling import draw
from captum_vit.studies.tokens import TokenReader

OWN = Classifier(lambda images: images, {}, {}, {}, "its own head")


def colours() -> VisionTransformer:
    """A model whose tokens are colours: of a patch its own, of the class token blue; its head says which."""
    model = VisionTransformer(
        img_size=32, patch_size=16, embed_dim=3, depth=1, num_heads=1, num_classes=3, norm_layer=nn.Identity
    ).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        for channel in range(3):
            model.patch_embed.proj.weight[channel, channel] = 1 / 16**2
            model.head.weight[channel, channel] = 1
        model.cls_token[..., 2] = 1
    model.pretrained_cfg = {"label_names": ["red", "green", "blue"]}
    return model


@pytest.fixture(scope="module")
def of_colours(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A red image with two red patches, and a blue one with three blue patches."""
    folder = tmp_path_factory.mktemp("images")
    quarters(folder / "red" / "1.png", (RED, RED, GREEN, BLUE))
    quarters(folder / "blue" / "2.png", (BLUE, GREEN, BLUE, BLUE))
    plain = Preprocessing((32, 32), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    with captum_vit.adapt(colours(), preprocessing=plain) as vit:
        return pooling(vit, folder, name="colours", classifier="own", progress=False)


def test_accuracies_are_those_that_are_counted_by_hand(of_colours: Study) -> None:
    top1 = {row["classifier on"]: row["top-1"] for row in of_colours.rows}
    assert top1 == {
        "class token": 0.5,  # always blue
        "mean of patches": 1.0,  # the colour that most patches have
        "single patches": 0.625,  # five of eight
        "patch in the middle": 0.5,  # the lower right one, which is blue twice
        "best patch": 1.0,  # the upper left one
        "any patch": 1.0,
    }
    share = {row["classifier on"]: row["top-1 of class token"] for row in of_colours.rows}
    assert share["single patches"] == 1.25


def test_the_record_has_the_accuracy_by_position(of_colours: Study) -> None:
    assert of_colours.models["colours"]["top-1 by position"] == [[1.0, 0.5], [0.5, 0.5]]
    assert {row["classifier on"]: row["position"] for row in of_colours.rows if row["position"]} == {
        "patch in the middle": "1,1",
        "best patch": "0,0",
    }


def test_the_picture_has_a_map_for_each_model(of_colours: Study) -> None:
    figure = draw(of_colours)
    maps = [ax.images[0].get_array().tolist() for ax in figure.axes if ax.images]
    assert maps == [[[100.0, 50.0], [50.0, 50.0]]]


def read_by_hand(model: nn.Module, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Scores of the class token, of the mean of the patches and of the seventh patch, as in the paper's code."""
    if isinstance(model, VisionTransformer):
        tokens = model.norm(model.blocks(model._pos_embed(model.patch_embed(images))))
        count = model.num_prefix_tokens
        heads = [model.head] + ([model.head_dist] if hasattr(model, "head_dist") else [])
    else:
        tokens, count, heads = model.vit(images).last_hidden_state, 1, [model.classifier]
    patches = tokens[:, count:]
    own = torch.stack([head(tokens[:, place]) for place, head in enumerate(heads)]).mean(0)
    of_mean, of_one = (torch.stack([head(each) for head in heads]).mean(0) for each in (patches.mean(1), patches[:, 6]))
    return own, of_mean, of_one


HUGGING = transformers.ViTConfig(
    hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=48, image_size=32, patch_size=8
)


@pytest.mark.parametrize(
    "make",
    [
        *(TINY_MODELS[name].build for name in ("deit", "deit_distilled", "vit_with_registers")),
        lambda: transformers.ViTForImageClassification(HUGGING),
    ],
)
@pytest.mark.filterwarnings("ignore::captum_vit.errors.PreprocessingWarning")
@torch.no_grad()
def test_heads_read_patches_as_they_read_the_class_token(make: object) -> None:
    model = make().eval()
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    expected = read_by_hand(model, images)
    with captum_vit.adapt(model) as vit:
        reader = TokenReader(vit)
        tokens = reader.read(images)
        given = [
            reader.scores(tokens.heads, OWN),
            reader.scores(tokens.patches.mean((1, 2))[:, None], OWN),
            reader.scores(tokens.patches[:, 1, 2][:, None], OWN),  # of four columns
        ]
        output = vit(images)
    assert reader.grid == (4, 4)
    torch.testing.assert_close(given[0], output if isinstance(output, Tensor) else output.logits)
    for each, by_hand in zip(given, expected, strict=True):
        torch.testing.assert_close(each, by_hand)


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("swin", {}, "no class token"),
        ("deit", {"global_pool": "avg"}, "does not classify by its class token alone"),
        ("pit", {}, "does not give its last patches in one row with the class token"),
        ("coat", {}, "does not give its last patches in one row with the class token"),
    ],
)
def test_a_model_whose_head_cannot_read_a_patch_says_why(name: str, changes: dict[str, str], reason: str) -> None:
    with captum_vit.adapt(TINY_MODELS[name].build(**changes)) as vit, pytest.raises(StudyError, match=reason):
        TokenReader(vit)


@pytest.fixture(scope="module")
def vit() -> Iterator[AdaptedModel]:
    with captum_vit.adapt(captum_vit.load("deit_micro")) as adapted:
        yield adapted


def test_a_probe_is_fitted_on_the_class_token_and_reads_patches_too(vit: AdaptedModel, tmp_path: Path) -> None:
    study = pooling(vit, two_classes(tmp_path), name="micro", classifier="probe", progress=False)
    top1 = {row["classifier on"]: row["top-1"] for row in study.rows}
    assert study.models["micro"]["classifier"].startswith("linear probe")
    assert top1["class token"] == study.models["micro"]["top-1"] == 1.0  # red and blue lie apart
    by_position = torch.tensor(study.models["micro"]["top-1 by position"])
    assert tuple(by_position.shape) == (8, 8)
    assert top1["best patch"] == by_position.max() > 0.5
    assert top1["single patches"] == pytest.approx(by_position.mean().item())


def test_of_several_models_the_command_measures_those_that_it_can(folder: Path) -> None:
    two_classes(folder / "images", 2)
    arguments = ["study", "pooling", "swin_micro", "deit_micro", "--images", "images", "--out", "out"]
    result = CliRunner().invoke(cli.app, arguments)
    assert result.exit_code == 0, result.output
    assert "swin_micro is left out: SwinTransformer has no class token" in result.output
    assert list(Study.load(folder / "out" / "pooling.json").models) == ["deit_micro"]
