"""States that an adapted model can be in: training, compiled, checkpointed, copied, shared, failed, restored."""

from __future__ import annotations

import copy
import io
import pickle
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from families import SIX_FAMILIES, TINY_MODELS
from oracle import Oracle
from torch import Tensor, nn

import captum_vit
from captum_vit.errors import (
    CaptumViTError,
    GridError,
    TrainingModeWarning,
    UnsupportedModelError,
)

every_model = pytest.mark.parametrize("name", TINY_MODELS)
WITH_CHECKPOINTING = ["deit", "vit_with_registers", "vit_parallel_things", "swin", "swin_v2", "swin_v2_cr"]


def images_for(name: str, seed: int = 0) -> Tensor:
    return torch.randn(2, 3, *TINY_MODELS[name].image_size, generator=torch.Generator().manual_seed(seed))


def full_state(model: nn.Module) -> dict[str, Any]:
    """Everything that adapting could leave behind: attributes, hooks and flags of each module, and the weights."""
    state: dict[str, Any] = {"state_dict": list(model.state_dict())}
    for path, module in model.named_modules(remove_duplicate=False):
        state[path] = {
            key: [*value] if isinstance(value, dict) else id(value) if isinstance(value, Tensor) else repr(value)
            for key, value in vars(module).items()
        }
    for name, parameter in model.named_parameters():
        state[name] = (parameter.requires_grad, id(parameter), parameter.detach().clone().tolist(), parameter.grad)
    return state


@contextmanager
def recorded(vit: captum_vit.AdaptedModel, name: str) -> Iterator[list[Tensor]]:
    """The maps that a hook on one probe sees."""
    seen: list[Tensor] = []
    handle = vit.ffn[vit.site(name).key].register_forward_hook(lambda probe, args, output: seen.append(output))
    yield seen
    handle.remove()


# Restore


@every_model
def test_nothing_of_an_adapted_model_remains_after_restore(name):
    model, images = TINY_MODELS[name].build(), images_for(name)
    next(model.parameters()).requires_grad_(False)
    next(model.children()).train()  # flags that differ between modules must come back as they were
    before = full_state(model)
    vit = captum_vit.adapt(model)
    assert [*model.state_dict()] == before["state_dict"]
    assert {n: (p.requires_grad, id(p)) for n, p in model.named_parameters()} == {
        n: before[n][:2] for n, _ in model.named_parameters()
    }
    address = f"{vit.sites[-1].name}:0"
    with recorded(vit, vit.sites[0].name):
        vit(images)
        vit.patch_map(images, address)
        vit.neuron(address)(images)
        with vit.until(vit.sites[0].name):
            vit(images)
    vit.restore()
    assert full_state(model) == before
    vit.restore()  # a second time does nothing
    assert full_state(model) == before
    assert captum_vit.adapt(model).sites == vit.sites


def test_leaving_the_with_block_by_an_exception_restores_the_model():
    model, images = TINY_MODELS["deit"].build(), images_for("deit")
    before = full_state(model)

    def interrupted() -> None:
        with captum_vit.adapt(model) as vit, vit.until("blocks.2"):
            vit.ffn["blocks_1"].register_forward_hook(lambda probe, args, output: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                vit(images)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert full_state(model) == before


def test_a_restored_model_has_no_maps_to_read():
    with captum_vit.adapt(TINY_MODELS["deit"].build()) as vit:
        neuron = vit.neuron("blocks.1:3")
    images = images_for("deit")
    for read in (
        neuron,
        lambda images: vit.patch_map(images, "blocks.1:3"),
        lambda _: vit.until("blocks.1").__enter__(),
    ):
        with pytest.raises(CaptumViTError, match="restored and has no probes; adapt it again"):
            read(images)


def test_an_adapted_model_that_was_restored_lets_the_next_one_alone():
    model, images = TINY_MODELS["deit"].build(), images_for("deit")
    with captum_vit.adapt(model) as first:
        captum_vit.restore(model)
        second = captum_vit.adapt(model)
        with pytest.raises(CaptumViTError, match="restored and has no probes"):
            first.patch_map(images, "blocks.1:3")
    assert second.patch_map(images, "blocks.1:3").shape == (2, 4, 4)


# Adapting twice, training, compiling


def test_an_adapted_model_is_adapted_already():
    model = TINY_MODELS["deit"].build()
    vit = captum_vit.adapt(model)
    assert not any(module.training for module in vit.modules())
    assert captum_vit.adapt(vit) is vit
    for again in (model, nn.Sequential(nn.Identity(), model), nn.Sequential(vit)):
        with pytest.raises(UnsupportedModelError, match=r"adapted already; use .* captum_vit\.restore\(model\)"):
            captum_vit.adapt(again)
    images = images_for("deit")
    with recorded(vit, "blocks.1") as seen:
        vit(images)
    assert len(seen) == 1, "the refused attempts must not have hooked a second time"
    captum_vit.restore(model)
    captum_vit.adapt(model)


def test_a_model_in_training_mode_is_a_warning_and_draws_the_same_random_numbers():
    settings = {"drop_path_rate": 0.3, "proj_drop_rate": 0.3, "patch_drop_rate": 0.5}
    model, images = TINY_MODELS["deit"].build(**settings).train(), images_for("deit")
    torch.manual_seed(3)
    expected = model(images)
    with pytest.warns(TrainingModeWarning, match=r"VisionTransformer is in training mode: .* call model\.eval\(\)"):
        vit = captum_vit.adapt(model)
    assert vit.training
    assert model.training
    torch.manual_seed(3)
    assert torch.equal(vit(images), expected)
    with pytest.raises(GridError, match="tokens were dropped"):
        vit.patch_map(images, "blocks.1:0")
    vit.eval()
    assert vit.patch_map(images, "blocks.1:0").shape == (2, 4, 4)


def test_a_compiled_model_is_an_error_that_says_to_adapt_first():
    inside = TINY_MODELS["deit"].build()
    inside.compile(backend="eager")
    block = TINY_MODELS["deit"].build()
    block.blocks[1] = torch.compile(block.blocks[1], backend="eager")
    for compiled in (
        torch.compile(TINY_MODELS["deit"].build(), backend="eager"),
        nn.Sequential(torch.compile(TINY_MODELS["deit"].build(), backend="eager")),
        inside,
        block,
    ):
        before = full_state(compiled)
        with pytest.raises(UnsupportedModelError, match=r"is compiled.*torch\.compile\(captum_vit\.adapt\(model\)\)"):
            captum_vit.adapt(compiled)
        assert full_state(compiled) == before


@pytest.mark.parametrize("name", ["deit", "twins_pcpvt"])
def test_a_compiled_adapted_model_gives_the_same_outputs_and_maps(name):
    torch.compiler.reset()
    plain, images = TINY_MODELS[name].build(), images_for(name)
    vit = captum_vit.adapt(TINY_MODELS[name].build())
    site = vit.sites[1]
    expected = Oracle(name, plain).split(site.name, Oracle(name, plain).read(images)[site.name])[1]
    compiled = torch.compile(vit, backend="eager")
    with torch.no_grad():
        with recorded(vit, site.name) as seen:  # a hook from before the first pass, which compiles
            assert torch.equal(compiled(images), plain(images))
        assert torch.equal(seen[0], expected)
        assert torch.equal(compiled(images), plain(images))
        assert len(seen) == 1, "a hook that was removed runs no more"
        with recorded(vit, site.name) as seen:
            compiled(images)
        assert torch.equal(seen[0], expected), "a hook from after the first pass"
        with vit.until(site.name):
            assert torch.equal(compiled(images), expected)
        assert torch.equal(compiled(images), plain(images))
        vit.restore()
        assert torch.equal(compiled(images), plain(images))
    torch.compiler.reset()


# Gradient checkpointing


@pytest.mark.parametrize("name", WITH_CHECKPOINTING)
def test_with_gradient_checkpointing_outputs_gradients_and_maps_are_the_same(name):
    images, results = images_for(name), []
    for checkpointing in (False, True):
        model = TINY_MODELS[name].build()
        model.set_grad_checkpointing(checkpointing)
        vit = captum_vit.adapt(model)
        site = vit.sites[1]
        with recorded(vit, site.name) as seen:
            output = vit(images)
            (by_map,) = torch.autograd.grad(output.square().sum(), seen[0], retain_graph=True)
            output.square().sum().backward()
            weights = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        results.append([output, by_map, seen[0], seen[-1], *weights])
    for without, with_checkpointing in zip(*results, strict=True):
        torch.testing.assert_close(with_checkpointing, without)


@pytest.mark.parametrize("name", WITH_CHECKPOINTING)
def test_a_pass_does_not_stop_early_inside_gradient_checkpointing(name):
    model, images = TINY_MODELS[name].build(), images_for(name)
    model.set_grad_checkpointing(True)
    vit = captum_vit.adapt(model)
    address = f"{vit.sites[1].name}:0"
    for stop in (vit.neuron(address), lambda images: vit.patch_map(images, address)):
        with pytest.raises(CaptumViTError, match=r"switch it off with model\.set_grad_checkpointing\(False\)"):
            stop(images)
    model.set_grad_checkpointing(False)
    assert vit.neuron(address)(images).shape == (2,)


def test_checkpointed_passes_of_several_sizes_can_wait_for_one_backward_pass():
    plain, model = (TINY_MODELS["vit_with_registers"].build() for _ in range(2))
    model.set_grad_checkpointing(True)
    vit = captum_vit.adapt(model)
    crops = [torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(side)) for side in (32, 16)]
    for network in (plain, vit):
        sum(network(crop).square().sum() for crop in crops).backward()
    for parameter, expected in zip(model.parameters(), plain.parameters(), strict=True):
        assert (parameter.grad is None) == (expected.grad is None)
        torch.testing.assert_close(parameter.grad, expected.grad)


# Copies


def by_pickle(module: nn.Module) -> nn.Module:
    return pickle.loads(pickle.dumps(module))


def by_torch_save(module: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


copied = pytest.mark.parametrize("duplicate", [copy.deepcopy, by_pickle, by_torch_save])


@copied
@pytest.mark.parametrize("family", SIX_FAMILIES)
def test_a_copys_probes_are_its_own(family, duplicate):
    images = torch.randn(2, 3, *SIX_FAMILIES[family].image_size, generator=torch.Generator().manual_seed(0))
    vit = captum_vit.adapt(SIX_FAMILIES[family].build())
    vit(images)
    expected = {site.name: vit.patch_map(images, f"{site.name}:1") for site in vit.sites}
    twin = duplicate(vit)
    assert all(mine.reads is not theirs.reads for mine, theirs in zip(vit.sites, twin.sites, strict=True))
    with torch.no_grad():
        for parameter in twin.model.parameters():
            parameter.mul_(1.5)  # the copy computes something else, so that maps of the wrong one would show
    for site in vit.sites:
        with recorded(vit, site.name) as mine, recorded(twin, site.name) as theirs:
            twin(images)
            assert (len(mine), len(theirs)) == (0, 1)
            vit(images)
            assert (len(mine), len(theirs)) == (1, 1)
        assert torch.equal(mine[0][:, 1], expected[site.name])
        assert not torch.allclose(theirs[0], mine[0])
        assert torch.equal(twin.patch_map(images, f"{site.name}:1"), theirs[0][:, 1])
    with vit.until(vit.sites[0].name):
        assert twin(images).shape == (2, 5), "an early stop of the one is not the other's"
    twin.restore()
    with pytest.raises(CaptumViTError, match="restored"):
        twin.patch_map(images, f"{site.name}:1")
    assert torch.equal(vit.patch_map(images, f"{site.name}:1"), expected[site.name])


@copied
def test_a_copy_of_the_bare_model_is_adapted_too_and_can_be_restored(duplicate):
    model, images = TINY_MODELS["coat"].build(), images_for("coat")
    before = full_state(model).keys()
    vit = captum_vit.adapt(model)
    twin = duplicate(model)
    with recorded(vit, "serial_blocks1.0") as seen:
        assert torch.equal(twin(images), model(images))
    assert len(seen) == 1, "the copy feeds no probe of the original"
    with pytest.raises(UnsupportedModelError, match="adapted already"):
        captum_vit.adapt(twin)
    captum_vit.restore(twin)
    assert full_state(twin).keys() == before
    assert not any(module._forward_pre_hooks for module in twin.modules())
    assert len(captum_vit.adapt(twin).sites) == len(vit.sites)


@copied
def test_a_restored_model_copies_as_the_plain_model_that_it_is(duplicate):
    model = TINY_MODELS["deit"].build()
    captum_vit.adapt(model).restore()
    images = images_for("deit")
    assert torch.equal(duplicate(model)(images), model(images))


# Threads


def test_threads_with_images_of_different_sizes_get_their_own_maps():
    plain = TINY_MODELS["vit_with_registers"].build()
    vit = captum_vit.adapt(TINY_MODELS["vit_with_registers"].build())
    jobs = []
    for rows, columns in ((2, 8), (8, 2), (4, 4), (1, 16)):  # the same number of tokens: a mix-up would raise no error
        images = torch.randn(1, 3, 8 * rows, 8 * columns, generator=torch.Generator().manual_seed(rows))
        oracle = Oracle("vit_with_registers", plain, {(4, 4): (rows, columns)})
        maps = {site: oracle.split(site, tokens)[1] for site, tokens in oracle.read(images).items()}
        jobs.append((images, maps, plain(images).detach()))
    together = threading.Barrier(len(jobs))

    def work(job: tuple[Tensor, dict[str, Tensor], Tensor]) -> int:
        images, maps, output = job
        right = 0
        for i in range(40):
            site = f"blocks.{i % 3}"
            together.wait(timeout=600)
            with torch.no_grad():
                right += torch.equal(vit.patch_map(images, f"{site}:7"), maps[site][:, 7])
                with vit.until(site):
                    right += torch.equal(vit(images), maps[site])
                right += torch.equal(vit(images), output)
        return right

    with ThreadPoolExecutor(len(jobs)) as threads:
        assert list(threads.map(work, jobs)) == [120] * len(jobs)


def test_an_early_stop_in_one_thread_does_not_stop_another():
    vit, images = captum_vit.adapt(TINY_MODELS["deit"].build()), images_for("deit")
    output = vit(images)
    with vit.until("blocks.0"), ThreadPoolExecutor(1) as other:
        assert torch.equal(other.submit(vit, images).result(), output)
        assert vit(images).shape == (2, 96, 4, 4)
        assert torch.equal(other.submit(vit, images).result(), output)
    assert torch.equal(vit(images), output)


def test_tokens_that_come_without_an_image_are_an_error():
    vit = captum_vit.adapt(TINY_MODELS["deit"].build())
    tokens = torch.randn(1, 17, 24)
    assert vit.model.blocks[0](tokens).shape == tokens.shape  # nobody watches, so nobody needs to know the grid
    with recorded(vit, "blocks.0"), pytest.raises(GridError, match="no image entered"):
        vit.model.blocks[0](tokens)


# Failed and stopped passes


def test_a_failed_pass_leaves_no_state_behind():
    vit, images = captum_vit.adapt(TINY_MODELS["vit_with_registers"].build()), images_for("vit_with_registers")
    output, expected = vit(images), vit.patch_map(images, "blocks.2:1")
    failing = vit.ffn["blocks_1"].register_forward_hook(lambda probe, args, output: 1 / 0)
    wide = torch.zeros(1, 3, 16, 64)  # of as many patches
    for attempt in (vit, vit.neuron("blocks.2:1"), lambda images: vit.patch_map(images, "blocks.2:1")):
        with pytest.raises(ZeroDivisionError):
            attempt(wide)
    failing.remove()
    assert torch.equal(vit(images), output)
    assert torch.equal(vit.patch_map(images, "blocks.2:1"), expected)


def test_early_stops_nest_and_end():
    vit, images = captum_vit.adapt(TINY_MODELS["swin"].build()), images_for("swin")
    output = vit(images)
    with vit.until("layers.2.blocks.0"):
        assert vit(images).shape == (2, 384, 3, 3)
        with vit.until("layers.0.blocks.1"):
            assert vit(images).shape == (2, 96, 11, 11)
            assert vit.patch_map(images, "layers.1.blocks.0:3").shape == (2, 6, 6)
            assert vit(images).shape == (2, 96, 11, 11)
        assert vit(images).shape == (2, 384, 3, 3)
    assert torch.equal(vit(images), output)


@every_model
def test_an_early_stop_runs_nothing_behind_the_site(name):
    model, images = TINY_MODELS[name].build(), images_for(name)
    vit = captum_vit.adapt(model)
    ran = []
    for reads in {site.reads for site in vit.sites}:
        reads.register_forward_hook(lambda layer, args, output: ran.append(layer))
    for i, site in enumerate(vit.sites):
        ran.clear()
        with vit.until(site.name), torch.no_grad():
            vit(images)
        assert len(ran) == i


def test_a_pass_that_never_reaches_the_site_is_an_error():
    vit, images = captum_vit.adapt(TINY_MODELS["deit"].build()), images_for("deit")
    with vit.until("blocks.2"):
        assert vit(images).shape == (2, 96, 4, 4)
        vit.model.blocks = vit.model.blocks[:2]
        with pytest.raises(CaptumViTError, match=r"ended without reaching blocks\.2"):
            vit(images)
