"""Files of weights: what is read, under which names, and that nothing in a file is ever run."""

from __future__ import annotations

import argparse
import json
import os
import re
from collections import OrderedDict
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from captum_vit.errors import WeightsError
from captum_vit.loading.build import build
from captum_vit.loading.checkpoint import fitted, read_checkpoint

WEIGHTS = {"norm.weight": torch.arange(3.0), "blocks.0.fc2.weight": torch.ones(2, 3), "head.bias": torch.zeros(2)}
MOMENTS = {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 0.1}]}


class Outside:
    """A class of somebody's training code."""

    def __init__(self, **settings: object) -> None:
        vars(self).update(settings)


class Exploit:
    """An object whose unpickling would make a folder."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("pwned",)


def same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


def prefixed(prefix: str, weights: dict[str, torch.Tensor] = WEIGHTS) -> dict[str, torch.Tensor]:
    return {prefix + name: tensor for name, tensor in weights.items()}


@pytest.mark.parametrize(
    "content",
    {
        "bare": WEIGHTS,
        "ordered": OrderedDict(WEIGHTS),
        "parameters": {name: nn.Parameter(tensor) for name, tensor in WEIGHTS.items()},
        "state_dict": {"epoch": 3, "state_dict": WEIGHTS, "optimizer": MOMENTS},
        "model": {"model": WEIGHTS, "args": argparse.Namespace(lr=0.1)},
        "net": {"net": WEIGHTS, "acc": 0.9},
        "model_state_dict": {"model_state_dict": WEIGHTS, "optimizer_state_dict": MOMENTS},
        "nested": {"model": {"state_dict": WEIGHTS}},
        "a key of one's own": {"encoder": WEIGHTS, "step": 7},
        "averaged": {"state_dict": prefixed("", {"norm.weight": torch.zeros(3)}), "state_dict_ema": WEIGHTS},
        "teacher": {"student": {"norm.weight": torch.zeros(3)}, "teacher": WEIGHTS},
        "Lightning": {
            "pytorch-lightning_version": "2.4.0",
            "state_dict": WEIGHTS,
            "callbacks": {"early": Outside(patience=3)},
            "hyper_parameters": Outside(lr=0.1),
        },
    }.items(),
    ids=lambda item: item[0],
)
def test_weights_are_found_wherever_a_training_program_puts_them(content, tmp_path):
    torch.save(content[1], tmp_path / "w.ckpt")
    assert same(read_checkpoint(tmp_path / "w.ckpt"), WEIGHTS)


def test_a_file_is_what_it_holds_and_not_what_it_is_called(tmp_path):
    save_file(WEIGHTS, tmp_path / "w.bin")
    torch.save(WEIGHTS, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert same(read_checkpoint(tmp_path / "w.bin"), WEIGHTS)
    assert same(read_checkpoint(tmp_path / "old.pth"), WEIGHTS)


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """A folder of two shards and their index."""
    names = dict.fromkeys(WEIGHTS, "model-1.safetensors") | {"head.bias": "model-2.safetensors"}
    for file in set(names.values()):
        save_file({name: WEIGHTS[name] for name in WEIGHTS if names[name] == file}, tmp_path / file)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))
    return tmp_path


def test_shards_are_read_by_their_index_or_the_folder_that_holds_it(shards):
    assert same(read_checkpoint(shards / "model.safetensors.index.json"), WEIGHTS)
    assert same(read_checkpoint(shards), WEIGHTS)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_folder_with_one_file_of_weights_is_that_file(name, tmp_path):
    (save_file if name.endswith("safetensors") else torch.save)(WEIGHTS, tmp_path / name)
    (tmp_path / "config.json").write_text("{}")
    assert same(read_checkpoint(tmp_path), WEIGHTS)


def test_a_missing_shard_is_named(shards):
    (shards / "model-2.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"names 2 files of weights, and model-2\.safetensors is not beside it"):
        read_checkpoint(shards)


@pytest.mark.parametrize(
    "index",
    ["", "[]", "{}", '{"weight_map": {}}', '{"weight_map": {"a": "../w.safetensors"}}', '{"weight_map": {"a": 1}}'],
)
def test_an_index_that_names_no_files_beside_it_is_refused(index, tmp_path):
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(WeightsError, match="cannot be read as an index of shards"):
        read_checkpoint(tmp_path)


def test_a_folder_without_weights_or_with_several_files_of_them_is_refused(tmp_path):
    with pytest.raises(WeightsError, match="is a folder without weights"):
        read_checkpoint(tmp_path)
    for name in ("a.pth", "b.pth"):
        torch.save(WEIGHTS, tmp_path / name)
    with pytest.raises(WeightsError, match=r"give one of them: a\.pth, b\.pth"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ([1, 2], "it holds no table of weights"),
        ({"epoch": 3, "optimizer": MOMENTS}, "it holds epoch, optimizer, no table"),
        ({"actor": WEIGHTS, "critic": WEIGHTS}, "it holds actor, critic, no table"),
        ({}, "it holds nothing, no table"),
    ],
)
def test_a_file_without_a_table_of_weights_tells_what_it_holds(content, told, tmp_path):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=told):
        read_checkpoint(tmp_path / "w.pth")


@pytest.mark.parametrize("wrap", [lambda model: model, lambda model: {"model": model}], ids=["bare", "under model"])
def test_a_whole_pickled_model_is_refused_with_what_to_save_instead(wrap, tmp_path):
    torch.save(wrap(nn.Linear(2, 3)), tmp_path / "w.pth")
    with pytest.raises(WeightsError) as error:
        read_checkpoint(tmp_path / "w.pth")
    assert "holds a whole torch.nn.modules.linear.Linear, not its weights" in str(error.value)
    assert "torch.save(model.state_dict(), FILE)" in str(error.value)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("content", [Exploit(), {"state_dict": WEIGHTS, "x": Exploit()}, {"state_dict": Exploit()}])
def test_no_code_of_a_file_is_run(content, zipped, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(content, "w.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsError, match="cannot be read as weights"):
        read_checkpoint(Path("w.pth"))
    assert not Path("pwned").exists()


@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "module.",
        "model.",
        "backbone.",
        "_orig_mod.",
        "model._orig_mod.module.",
        "net.encoder.",
        "teacher.backbone.",
    ],
)
def test_what_wrappers_put_before_the_names_is_taken_off(prefix):
    assert same(fitted(prefixed(prefix), WEIGHTS), WEIGHTS)


@pytest.mark.parametrize("prefix", ["model.", "backbone.", "net.encoder."])
def test_what_a_wrapper_has_beside_the_model_is_left_out(prefix):
    beside = {"criterion.weight": torch.ones(1), "projector.0.weight": torch.ones(3)}
    assert same(fitted(prefixed(prefix) | beside, WEIGHTS), WEIGHTS)


def test_a_models_own_names_are_left_alone_although_they_begin_like_a_wrappers():
    own = prefixed("model.")
    assert same(fitted(own, own), own)
    assert same(fitted(prefixed("module.", own), own), own)


def test_parts_that_were_compiled_or_sharded_by_themselves_have_their_own_names():
    weights = {name.replace("blocks.0.", "blocks._fsdp_wrapped_module.0._orig_mod."): w for name, w in WEIGHTS.items()}
    assert same(fitted(weights, WEIGHTS), WEIGHTS)


def test_weights_of_another_implementation_keep_their_names_but_for_a_wrappers_around_all():
    foreign = {"encoder.layer.0.weight": torch.ones(1), "encoder.norm.weight": torch.ones(3)}
    assert same(fitted(foreign, WEIGHTS), foreign)
    assert same(fitted(prefixed("module.model.", foreign), WEIGHTS), foreign)


def test_of_a_student_and_a_teacher_the_teacher_is_taken_and_other_twins_are_refused():
    teacher = {name: tensor + 1 for name, tensor in WEIGHTS.items()}
    assert same(fitted(prefixed("student.") | prefixed("teacher.", teacher), WEIGHTS), teacher)
    with pytest.raises(WeightsError, match="fit the model more than once, as query and key"):
        fitted(prefixed("query.") | prefixed("key."), WEIGHTS)


@pytest.mark.parametrize("prefix", ["", "module.", "model._orig_mod."])
def test_a_wrapped_checkpoint_gives_the_model_that_was_trained(prefix, tmp_path):
    model = timm.create_model("test_vit", num_classes=7).eval()
    torch.save({"state_dict": prefixed(prefix, model.state_dict()), "args": Outside(lr=1)}, tmp_path / "last.ckpt")
    images = torch.rand(2, 3, 160, 160)
    with torch.no_grad():
        assert torch.equal(build("test_vit", tmp_path / "last.ckpt").model(images), model(images))


def test_weights_that_are_missing_or_left_over_are_an_error_that_names_one(tmp_path):
    weights = timm.create_model("test_vit").state_dict()
    del weights["blocks.3.mlp.fc2.bias"]
    torch.save(weights, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=re.escape("blocks.3.mlp.fc2.bias")):
        build("test_vit", tmp_path / "w.pth")
