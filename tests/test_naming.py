"""Names of neurons: right where a CLIP's answers are known, silent where there is nothing to say, whatever the CLIP."""

from __future__ import annotations

import colorsys
import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from torch.nn import functional
from transformers import CLIPConfig, CLIPModel, PreTrainedTokenizerFast, SiglipConfig, SiglipModel

import captum_vit
from captum_vit.atlas.engines.processes import Processes
from captum_vit.atlas.estimate import estimate
from captum_vit.atlas.making import name_with, undertake
from captum_vit.atlas.naming.clip import OpenClip, TransformersClip, load_clip
from captum_vit.atlas.naming.crops import WHOLE, Area, areas, cut, random_crops
from captum_vit.atlas.naming.lexicon import Lexicon
from captum_vit.atlas.naming.naming import Name, names
from captum_vit.atlas.naming.neurons import extent_of
from captum_vit.atlas.naming.words import read_words
from captum_vit.errors import AtlasError, NamingError, RankingError
from captum_vit.models import default_photos
from captum_vit.probes.grid import PatchGrid
from captum_vit.storage.part import parts as photo_parts

# Twelve hues around the circle: the words of a CLIP that sees nothing but colour.
HUES = ("red", "orange", "yellow", "lime", "green", "mint", "cyan", "azure", "blue", "violet", "magenta", "rose")


class ColourClip:
    """A CLIP whose answers are known: a text is the hue that is named in it, and an image the mean of its pixels."""

    name, size, sha256, device = "colours", (8, 8), "0" * 64, torch.device("cpu")

    def encode_images(self, pixels):
        self.largest_batch = max(getattr(self, "largest_batch", 0), len(pixels))
        return functional.normalize(pixels.mean((2, 3)) - pixels.mean((1, 2, 3))[:, None] + 1e-4, dim=1)

    def encode_texts(self, texts):
        return torch.stack([colour(next(hue for hue in HUES if hue in text)) for text in texts])


def colour(hue: str) -> torch.Tensor:
    rgb = torch.tensor(colorsys.hsv_to_rgb(HUES.index(hue) / len(HUES), 1, 1))
    return functional.normalize(rgb - rgb.mean(), dim=0)


def patches(hues, seed=0) -> list[torch.Tensor]:
    """Crops of colours that are not quite pure."""
    generator = torch.Generator().manual_seed(seed)
    found = [torch.tensor(colorsys.hsv_to_rgb(HUES.index(hue) / len(HUES), 0.8, 0.9)) for hue in hues]
    return [
        (rgb.view(3, 1, 1).expand(3, 8, 8) + 0.1 * torch.rand(3, 8, 8, generator=generator)).clamp(0, 1)
        for rgb in found
    ]


def at_random(number: int, seed: int) -> list[str]:
    return np.random.default_rng(seed).choice(HUES, number).tolist()


@pytest.fixture(scope="module")
def lexicon() -> Lexicon:
    photos = ([crop] for crop in patches(at_random(400, 1)))
    return Lexicon.of(ColourClip(), HUES, photos, k=10)


def named(lexicon, *neurons, **settings):
    return list(names(ColourClip(), lexicon, neurons, **settings))


@pytest.mark.parametrize("hue", HUES)
def test_a_neuron_is_named_by_what_its_crops_have_in_common(lexicon, hue):
    (name,) = named(lexicon, [(crop, 1.0) for crop in patches([hue] * 10)])
    assert name.word == hue
    assert name.score > name.threshold
    assert all(score > name.threshold for _, score in name.words)
    assert [score for _, score in name.words] == sorted((score for _, score in name.words), reverse=True)


def test_neurons_without_anything_in_common_stay_without_a_name(lexicon):
    neurons = [[(crop, 1.0) for crop in patches(at_random(10, 100 + n), n)] for n in range(300)]
    found = Counter(name.word for name in named(lexicon, *neurons))
    # One in a hundred by the threshold; eleven in three hundred have a probability of 0.0003.
    assert sum(times for word, times in found.items() if word) <= 10


@pytest.mark.parametrize("k", [1, 3, 7])
def test_few_crops_must_agree_more(lexicon, k):
    neurons = [[(crop, 1.0) for crop in patches(at_random(k, 100 + n), n)] for n in range(300)]
    assert sum(name.word is not None for name in named(lexicon, *neurons)) <= 10


def test_crops_count_by_activation(lexicon):
    crops = patches(["blue"] * 5 + ["red"] * 5)
    (name,) = named(lexicon, list(zip(crops, [10.0] * 5 + [0.5] * 5, strict=True)))
    assert name.word == "blue"
    (name,) = named(lexicon, list(zip(crops, [-1.0] * 5 + [0.5] * 5, strict=True)))
    assert name.word == "red"


def test_a_neuron_that_nothing_excites_has_no_name_and_no_threshold(lexicon):
    silent, dead, red = named(
        lexicon, [(crop, 0.0) for crop in patches(["red"] * 10)], [], [(crop, 2.0) for crop in patches(["red"] * 10)]
    )
    assert silent == dead == Name((), None)
    assert (dead.word, dead.score) == (None, None)
    assert red.word == "red"


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_names_do_not_depend_on_batches_and_no_more_is_in_memory(lexicon, batch_size):
    hues = ["red", "cyan", "violet", "lime"]
    neurons = [[(crop, 1.0) for crop in patches([hue] * (3 + n))] for n, hue in enumerate(hues)]
    clip, asked = ColourClip(), []

    def all_of_them():
        for number, neuron in enumerate(neurons):
            asked.append(number)
            yield neuron

    found = []
    for name in names(clip, lexicon, all_of_them(), batch_size=batch_size):
        found.append((name.word, len(asked)))
    assert [word for word, _ in found] == hues
    assert clip.largest_batch <= batch_size
    if batch_size == 1:
        assert [ahead for _, ahead in found] == [2, 3, 4, 4]  # the next neuron is asked for, and no other


def test_no_word_is_near_to_everything():
    class Shared(ColourClip):
        """All images share a direction, as a real CLIP's do, and one word lies in it."""

        def encode_images(self, pixels):
            return functional.pad(super().encode_images(pixels), (0, 1), value=2.0)

        def encode_texts(self, texts):
            shared = torch.tensor([[8.0 if "mint" in text else 0.5] for text in texts])
            return torch.cat([super().encode_texts(texts), shared], dim=1)

    clip = Shared()
    lexicon = Lexicon.of(clip, HUES, ([crop] for crop in patches(at_random(400, 1))), k=10)
    neurons = [[(crop, 1.0) for crop in patches([hue] * 10)] for hue in HUES]
    alike = clip.encode_images(torch.stack(patches(HUES))) @ functional.normalize(clip.encode_texts(HUES), dim=1).T
    assert set(alike.argmax(1).tolist()) == {HUES.index("mint")}
    assert [name.word for name in names(clip, lexicon, neurons)] == list(HUES)


def test_a_lexicon_comes_back_from_its_file(lexicon, tmp_path):
    path = lexicon.save(tmp_path / "lexicon.safetensors")
    found = Lexicon.load(path)
    assert (found.words, found.quantile, found.clip) == (HUES, 0.99, "colours")
    neuron = [(crop, 1.0) for crop in patches(["mint"] * 4)]
    assert named(found, neuron) == named(lexicon, neuron)
    first = path.read_bytes()
    assert found.save(path).read_bytes() == first
    path.write_bytes(first[:100])
    with pytest.raises(NamingError, match="no lexicon"):
        Lexicon.load(path)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"words": HUES[:5]}, "has 5 words"),
        ({"words": (*HUES, "red")}, 'has "red" twice'),
        ({"quantile": 1.0}, "quantile is 1.0"),
        ({"templates": ["a photo"]}, "has no {} where the word goes"),
        ({"crops": [patches(["red"])]}, "two or more photos"),
    ],
)
def test_what_tells_no_chance_is_refused(changed, told):
    settings = {"words": HUES, "crops": [[crop] for crop in patches(HUES)], "k": 3} | changed
    with pytest.raises(NamingError, match=told):
        Lexicon.of(ColourClip(), **settings)


# --- crops


def test_a_crop_is_where_the_neuron_is_excited_and_as_large():
    maps = torch.zeros(4, 9, 9)
    maps[0, 4, 4] = 2.0  # a point
    maps[1, 1:8, :5] = 1.0  # seven by five cells at the left edge
    maps[1, 4, 2] = 1.1
    maps[2, 0, 8] = 3.0  # in the corner
    maps[3] = -1.0
    found, weights = areas(maps)
    ninth = 1 / 9
    assert found[0] == pytest.approx((3 * ninth, 3 * ninth, 6 * ninth, 6 * ninth))
    assert found[1] == pytest.approx((1 * ninth, 0, 8 * ninth, 6 * ninth))
    assert found[2] == pytest.approx((0, 6 * ninth, 3 * ninth, 1))
    assert weights.tolist() == pytest.approx([2.0, 1.1, 3.0, 0.0])


def test_areas_follow_the_extent_of_the_cells():
    maps = torch.zeros(1, 3, 5)
    maps[0, 0, 0] = 1
    (area,), _ = areas(maps, extent_of(PatchGrid.patches(16, stride=8), (32, 48)))
    # Three cells of 8 pixels, whose first centre is at 8.
    assert area == pytest.approx((4 / 32, 4 / 48, 28 / 32, 28 / 48))
    assert extent_of(PatchGrid.patches(8), (32, 48)) == pytest.approx(WHOLE)


def test_a_cut_is_those_pixels():
    pixels = torch.zeros(3, 40, 60)
    pixels[0, 10:20, 30:45] = 1
    crop = cut(pixels, Area(0.25, 0.5, 0.5, 0.75), (8, 8))
    torch.testing.assert_close(crop, torch.tensor([1.0, 0, 0]).view(3, 1, 1).expand(3, 8, 8))
    assert cut(pixels, Area(0.99, 0.99, 1.0, 1.0), (8, 8)).shape == (3, 8, 8)


def test_random_crops_are_of_different_photos_where_neurons_look(monkeypatch):
    monkeypatch.setattr("captum_vit.atlas.naming.crops.CROPS", 128)
    asked = []

    def read(numbers):
        asked.extend(numbers)
        return (torch.full((3, 20, 20), number / 5000) for number in numbers)

    photos = list(random_crops(read, 5000, [Area(0, 0, 0.5, 0.5)], (4, 4)))
    assert len(photos) == len(set(asked)) == 128
    assert {len(crops) for crops in photos} == {1}
    few = list(random_crops(read, 8, [Area(0, 0, 0.5, 0.5)], (4, 4)))
    assert [len(crops) for crops in few] == [16] * 8


# --- words


def test_the_bundled_words_are_thousands_of_different_things():
    words = read_words()
    assert len(words) > 1500
    assert {"dog", "brick", "stripes", "red", "wheel", "beach"} <= set(words)
    assert all(word == word.strip() and "#" not in word for word in words)


def test_words_are_read_from_a_file(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("# animals\n" + "\n".join(f"animal {n}" for n in range(10)) + "\n\n  a café  \n", encoding="utf-8")
    assert read_words(path) == (*(f"animal {n}" for n in range(10)), "a café")
    path.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(NamingError, match="UTF-8"):
        read_words(path)
    with pytest.raises(NamingError, match="cannot be read"):
        read_words(tmp_path / "none.txt")


# --- the two libraries


VISION = {"layers": 1, "width": 32, "image_size": 32, "patch_size": 8, "head_width": 16}
TEXT = {"layers": 1, "width": 32, "heads": 2, "context_length": 77, "vocab_size": 49408}


@pytest.fixture(scope="module")
def of_open_clip() -> OpenClip:
    torch.manual_seed(0)
    model = open_clip.CLIP(16, VISION, TEXT)
    return OpenClip(model.eval(), open_clip.get_tokenizer("ViT-B-32"), "tiny")


def tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = {word: n for n, word in enumerate(["<pad>", "<end>", "<unknown>", "a", "photo", "of", *HUES])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unknown>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="<end>", model_max_length=12)


def of_transformers(kind: str) -> nn.Module:
    torch.manual_seed(0)
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**tower, "vocab_size": 18, "max_position_embeddings": 12, "eos_token_id": 1, "bos_token_id": 1}
    vision = {**tower, "image_size": 32, "patch_size": 8}
    if kind == "clip":
        return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)).eval()
    return SiglipModel(SiglipConfig(text_config={**text, "projection_size": 32}, vision_config=vision)).eval()


def test_open_clip_encodes_images_and_texts_as_the_library_does(of_open_clip):
    pixels = torch.rand(3, 3, 32, 32)
    usual = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in usual)
    with torch.no_grad():
        images = of_open_clip.model.encode_image((pixels - mean) / std)
        texts = of_open_clip.model.encode_text(open_clip.get_tokenizer("ViT-B-32")(["a photo of a dog", "red"]))
    torch.testing.assert_close(of_open_clip.encode_images(pixels), images)
    torch.testing.assert_close(of_open_clip.encode_texts(["a photo of a dog", "red"]), texts)
    assert (of_open_clip.size, of_open_clip.device.type) == ((32, 32), "cpu")


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_transformers_encodes_images_and_texts_as_the_library_does(kind):
    model = of_transformers(kind)
    clip = TransformersClip(model, tokenizer(), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    pixels = torch.rand(3, 3, 32, 32)
    padding = True if kind == "clip" else "max_length"
    tokens = tokenizer()(["a photo of red", "red"], padding=padding, return_tensors="pt")
    with torch.no_grad():
        output = model(tokens["input_ids"], pixel_values=pixels * 2 - 1, attention_mask=tokens["attention_mask"])
    for found, expected in (
        (clip.encode_images(pixels), output.image_embeds),
        (clip.encode_texts(["a photo of red", "red"]), output.text_embeds),
    ):
        torch.testing.assert_close(functional.normalize(found, dim=1), functional.normalize(expected, dim=1))
    assert clip.size == (32, 32)


def test_a_clip_with_random_weights_names_at_chance(of_open_clip):
    random = np.random.default_rng(0)
    photos = [torch.from_numpy(random.random((3, 32, 32), dtype=np.float32)) for _ in range(230)]
    lexicon = Lexicon.of(of_open_clip, HUES, ([photo] for photo in photos[:150]), k=2)
    neurons = [[(one, 1.0), (other, 1.0)] for one, other in zip(photos[150::2], photos[151::2], strict=True)]
    assert sum(name.word is not None for name in names(of_open_clip, lexicon, neurons)) <= 5


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("ViT-B-32", "write open_clip:MODEL/WEIGHTS"),
        ("open_clip:ViT-B-32", "names no weights"),
        ("open_clip:ViT-X-99/none", "open_clip cannot load ViT-X-99/none"),
        ("transformers:/nowhere/at/all", "transformers cannot load /nowhere/at/all"),
    ],
)
@pytest.mark.usefixtures("no_network")
def test_a_clip_that_cannot_be_had_is_told_in_one_line(name, told):
    with pytest.raises(NamingError, match=told) as error:
        load_clip(name)
    assert "\n" not in str(error.value)


def test_a_clip_is_loaded_by_name(of_open_clip, tmp_path):
    config = {"embed_dim": 16, "vision_cfg": VISION, "text_cfg": TEXT}
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    torch.save(of_open_clip.model.state_dict(), tmp_path / "open_clip_pytorch_model.bin")
    found = load_clip(f"open_clip:local-dir:{tmp_path}")
    torch.testing.assert_close(found.encode_texts(["red"]), of_open_clip.encode_texts(["red"]))
    assert found.sha256 == of_open_clip.sha256


def test_what_is_no_clip_or_trains_is_refused(of_open_clip):
    with pytest.raises(NamingError, match="is no CLIP of open_clip"):
        OpenClip(nn.Linear(2, 2), of_open_clip.tokenizer)
    model = of_transformers("clip").train()
    with pytest.raises(NamingError, match=r"model\.eval\(\)"):
        TransformersClip(model, tokenizer())


# --- neurons of a model


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> list[Path]:
    """Squares of two hues each."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(60):
        halves = patches(at_random(2, number), number)
        pixels = torch.cat([half.repeat(1, 8, 4) for half in halves], dim=2)
        Image.fromarray((pixels.permute(1, 2, 0) * 255).byte().numpy()).save(folder / f"{number}.png")
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def red_or_blue():
    """A model of whose neurons the first is excited by red and the second by blue, and the third by nothing."""
    vit = captum_vit.adapt(captum_vit.load("deit_micro"))

    class Colours(nn.Module):
        def forward(self, maps):
            rgb = self.pixels.unfold(2, 8, 8).unfold(3, 8, 8).mean((4, 5))
            redness = ((rgb - rgb.mean(1, keepdim=True))[:, [0, 2]] - 0.4).clamp(min=0)  # nothing of other hues
            others = torch.zeros_like(rgb[:, :1]), maps[:, 3:]
            return torch.cat([redness, *others], dim=1)  # of one image, where adapt() asks whether a size is taken

    seen = Colours()
    vit.ffn["blocks_0"] = seen

    def keep(module, images):
        mean, std = (torch.tensor(each).view(3, 1, 1) for each in (vit.preprocessing.mean, vit.preprocessing.std))
        seen.pixels = images[0].detach() * std + mean

    vit.model.patch_embed.register_forward_pre_hook(keep)
    return vit


def test_neurons_are_named_by_what_excites_them_where_it_does(red_or_blue, photos):
    top = captum_vit.top_images(red_or_blue, photos, sites=["blocks.0"], progress=False)
    addresses = ["blocks.0:0", "blocks.0:1", "blocks.0:2"]
    found = captum_vit.name_neurons(red_or_blue, addresses, top, ColourClip(), HUES, progress=False)
    assert list(found) == addresses
    assert [name.word for name in found.values()] == ["red", "blue", None]
    assert found["blocks.0:2"].threshold is None


def test_a_ranking_by_relevance_has_no_activations_to_name_by(photos):
    vit = captum_vit.adapt(captum_vit.load("deit_micro"))
    top = captum_vit.top_images(vit, photos[:10], sites=["blocks.0"], by="relevance", progress=False)
    with pytest.raises(RankingError, match="by relevance"):
        captum_vit.name_neurons(vit, ["blocks.0:0"], top, ColourClip(), HUES, progress=False)


# --- an atlas


class Tinted(ColourClip):
    """Sees the colour of photographs, which are seldom pure."""

    def encode_images(self, pixels):
        return functional.normalize(pixels.mean((2, 3)) - torch.tensor([0.45, 0.42, 0.4]), dim=1)


NEURONS = ["blocks.1:0-5", "blocks.4:304-309"]


def make(folder, photos=None, neurons=NEURONS, **settings):
    return captum_vit.make_atlas(
        folder,
        "deit_micro",
        photos or default_photos()[:20],
        neurons=neurons,
        device="cpu",
        progress=False,
        **{"steps": 1, "k": 4, "units_a_piece": 4, "images_a_piece": 8, **settings},
    )


def names_in(folder) -> dict[str, bytes]:
    files = (path for path in folder.rglob("names/**/*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def atlas(tmp_path_factory):
    return make(tmp_path_factory.mktemp("atlases") / "atlas", clip=Tinted(), words=HUES, quantile=0.2)


def test_an_atlas_tells_words_scores_and_thresholds(atlas):
    words = Counter(atlas[address].scores["word"] for address in atlas)
    assert sum(times for word, times in words.items() if word) > 3
    for address in atlas:
        scores = atlas[address].scores
        assert scores["word_threshold"] is not None
        assert (scores["word"] is None) == (scores["word_score"] is None)
        if scores["word"]:
            assert scores["word_score"] > scores["word_threshold"]
    assert atlas.table()["word"].to_pylist() == [atlas[address].scores["word"] for address in atlas]


def test_an_atlas_names_as_the_function_does(atlas):
    with captum_vit.load_model("deit_micro") as vit:
        top = captum_vit.top_images(vit, default_photos()[:20], 4, sites=["blocks.1", "blocks.4"], progress=False)
        found = captum_vit.name_neurons(vit, list(atlas), top, Tinted(), HUES, k=4, quantile=0.2, progress=False)
    # Random crops differ a little, as they are where other crops are; the nearest words of named neurons do not.
    both = [(atlas[address].scores, name) for address, name in found.items() if atlas[address].scores["word"]]
    assert sum(scores["word"] == name.word for scores, name in both) >= 0.8 * len(both)
    for scores, name in both:
        if scores["word"] == name.word:
            assert scores["word_score"] == pytest.approx(name.score, rel=0.25)


def test_parts_of_one_photo_count_once(tmp_path):
    class Counting(Tinted):
        crops = 0

        def encode_images(self, pixels):
            Counting.crops += len(pixels)
            return super().encode_images(pixels)

    one, other = default_photos()[:2]
    images = [*(part.path for part in photo_parts(one, wide=True)), other]
    make(tmp_path / "atlas", images, neurons=["blocks.1:0-3"], k=9, clip=Counting(), words=HUES)
    assert 2048 < Counting.crops <= 2048 + 4 * 2  # random ones, and two photos of each neuron
    assert len(Lexicon.load(tmp_path / "atlas" / "names" / "lexicon.safetensors").thresholds) == 2


def test_naming_goes_on_where_it_was_interrupted(atlas, tmp_path):
    folder = Path(shutil.copytree(atlas.folder, tmp_path / "atlas"))
    before = names_in(folder)
    assert len(before) == 5  # the lexicon, and two pieces of each site
    for path in list(folder.glob("names/blocks.4/*")):
        path.unlink()
    assert make(folder, clip=Tinted(), words=HUES, quantile=0.2).table().equals(atlas.table())
    assert names_in(folder) == before


def test_another_process_names_as_this_one_does(atlas, tmp_path):
    folder = Path(shutil.copytree(atlas.folder, tmp_path / "atlas"))
    before = names_in(folder)
    for path in list(folder.glob("names/blocks.4/*")):
        path.unlink()
    make(folder, engine=Processes(1), clip=Tinted(), words=HUES, quantile=0.2)
    assert names_in(folder) == before


def test_an_estimate_counts_the_names(tmp_path):
    settings = {"steps": 1, "k": 2}
    undertaking = undertake(
        tmp_path, "deit_micro", default_photos()[:4], neurons=["blocks.1:0-1"], device="cpu", settings=settings
    )
    assert estimate(undertaking, 1).names == 0
    told = estimate(undertaking.naming(name_with(Tinted(), HUES, 0.99, "cpu")), 1)
    assert told.names == 2
    others = told.ranking_seconds + told.photo_seconds + told.render_seconds
    assert told.seconds == pytest.approx(others + told.name_seconds)
    assert told.name_seconds > 0


def test_neurons_that_are_added_are_named_by_the_same_lexicon(atlas, tmp_path):
    folder = Path(shutil.copytree(atlas.folder, tmp_path / "atlas"))
    before = names_in(folder)
    more = make(folder, neurons=["blocks.2:7"], clip=Tinted(), words=HUES, quantile=0.2)
    assert more["blocks.2:7"].scores["word_threshold"] is not None
    after = names_in(folder)
    assert set(after) - set(before) == {"names/blocks.2/000007-000007.json"}
    assert {path: after[path] for path in before} == before


def test_an_atlas_that_is_named_otherwise_is_not_mixed_up(atlas):
    with pytest.raises(AtlasError, match=r"has names by colours of 12 words.* delete .*names to name anew"):
        make(atlas.folder, clip=Tinted(), words=HUES[:11])


def test_an_atlas_without_a_clip_has_no_words(tmp_path):
    found = make(tmp_path / "atlas", neurons=["blocks.1:0-1"])
    assert found.table()["word"].null_count == found.table()["word_threshold"].null_count == 2
    assert not (tmp_path / "atlas" / "names").exists()
