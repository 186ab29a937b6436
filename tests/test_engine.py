"""What a step of a render asks of the device and of the model: little, the same for any number of neurons, no reads."""

from __future__ import annotations

import threading
import warnings
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from families import SIX_FAMILIES, TINY_MODELS
from operations import Operations
from torch._subclasses import FakeTensorMode

import captum_vit
from captum_vit.optvis.loop import RenderLoop
from captum_vit.optvis.losses import Target
from captum_vit.optvis.parametrizations import Phases
from captum_vit.optvis.plan import RenderPlan
from captum_vit.optvis.recipes import RECIPES
from captum_vit.probes.twin import frozen_twin

QUICK = {"steps": 4, "progress": False}


def adapted(family="deit"):
    return captum_vit.adapt(SIX_FAMILIES[family].build())


def stepping(vit, recipe, neurons, *, site=1, steps=4, dtype=None):
    """A render in its middle, and what takes its next step."""
    plan = RenderPlan.of(vit, recipe=recipe, steps=steps, dtype=dtype)
    targets = [Target.of(vit, f"{vit.sites[site].name}:{unit}") for unit in range(neurons)]
    loop = RenderLoop(vit, targets, plan)
    steps_of = loop.steps()
    next(steps_of)
    return loop, steps_of


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_number_of_operations_does_not_grow_with_the_neurons(recipe):
    counts = []
    for neurons in (2, 8, 32):
        _, steps = stepping(frozen_twin(adapted()), recipe, neurons)
        with Operations() as operations:
            next(steps)
        counts.append(operations.count)
        assert not operations.reads
    assert counts[2] <= 1.05 * counts[0]


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_step_of_eight_neurons_takes_few_operations(recipe):
    vit = frozen_twin(captum_vit.adapt(captum_vit.load("deit_micro")))
    _, steps = stepping(vit, recipe, 8, site=-1)
    with Operations() as operations:
        next(steps)
    assert operations.count <= 350, operations.kernels.most_common(20)


def moved(model, device, dtype):
    """The model with weights of no values on a device."""
    for module in model.modules():
        for name, parameter in list(module._parameters.items()):
            if parameter is not None:
                empty = torch.empty(parameter.shape, dtype=dtype, device=device)
                module._parameters[name] = torch.nn.Parameter(empty)
        for name, buffer in list(module._buffers.items()):
            if buffer is not None:
                module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype, device=device)
    return model


def planned(recipe, dtype):
    """A model, its weights in a number format, and the plan of a render of it."""
    model = SIX_FAMILIES["deit"].build().to(getattr(torch, dtype))
    with captum_vit.adapt(model) as vit:
        return model, RenderPlan.of(vit, recipe=recipe, steps=4, dtype=dtype)


def whole_render(model, plan, device):
    """All steps of a render on a device whose tensors have no values."""
    # All weights in the number format of the plan, as autocast is off where there is no such device.
    twin = frozen_twin(captum_vit.adapt(moved(model, device, plan.torch_dtype)))
    loop = RenderLoop(twin, [Target.of(twin, f"blocks.1:{unit}") for unit in range(3)], plan)
    for _ in loop.steps():
        pass
    assert loop.history.device.type == device
    with pytest.raises(Exception, match=r"_local_scalar_dense|meta tensor"):
        loop.history.sum().item()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_no_step_reads_a_value(recipe, dtype, monkeypatch):
    """Tensors without values raise an error wherever the host would look at one, gradients included."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # which knows no such device
    whole_render(*planned(recipe, dtype), "meta")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_no_step_reads_a_value_of_an_accelerator_or_brings_one_there(recipe, dtype, monkeypatch):
    """Fake tensors do not mix with those of another device; only autograd's own part needs a driver."""
    Phases().decoder((32, 32), torch.device("cpu"))  # reads photos, and is no part of a step
    monkeypatch.setattr(torch.autograd, "grad", lambda output, inputs: (torch.zeros_like(inputs),))
    model, plan = planned(recipe, dtype)
    with FakeTensorMode():
        whole_render(model, plan, "cuda")


@pytest.mark.parametrize("family", SIX_FAMILIES)
def test_no_weights_flag_or_gradient_changes(family):
    vit = captum_vit.adapt(SIX_FAMILIES[family].build())
    flags = {}
    for number, (name, parameter) in enumerate(vit.named_parameters()):
        parameter.requires_grad_(number % 2 == 0)
        parameter.grad = torch.full_like(parameter, 3.0) if parameter.requires_grad else None
        flags[name] = parameter.requires_grad
    seen = []

    def look(done, total):
        seen.append({name: parameter.requires_grad for name, parameter in vit.named_parameters()})

    captum_vit.render(vit, f"{vit.sites[0].name}:1", callback=look, **QUICK)
    captum_vit.render_vis(vit, f"{vit.sites[0].name}:1", thresholds=(2,), show_image=False, progress=False)
    assert all(each == flags for each in seen)
    for name, parameter in vit.named_parameters():
        assert parameter.requires_grad == flags[name]
        assert parameter.grad is None or (parameter.grad == 3.0).all()


@pytest.mark.parametrize("recipe", RECIPES)
def test_threads_render_side_by_side_as_one_after_the_other(recipe):
    vit = adapted()
    neurons = ["blocks.1:7", "blocks.2:3", "blocks.0:5"]
    alone = [captum_vit.render(vit, neuron, recipe=recipe, **QUICK).images for neuron in neurons]
    found = [None] * len(neurons)

    def work(index):
        found[index] = captum_vit.render(vit, neurons[index], recipe=recipe, **QUICK).images

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(neurons))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, other in zip(alone, found, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("dtype", ["bfloat16", torch.float16])  # by name, and as PyTorch has it
@pytest.mark.parametrize("recipe", ["fourier", "ghiasi2022"])
def test_half_precision_excites_the_neuron_too(dtype, recipe):
    vit = captum_vit.adapt(captum_vit.load("deit_micro"))
    single = captum_vit.render(vit, "blocks.4:307", recipe=recipe, steps=6, progress=False)[0]
    half = captum_vit.render(vit, "blocks.4:307", recipe=recipe, steps=6, dtype=dtype, progress=False)[0]
    assert half.problem is None
    assert single.problem is None
    assert np.isfinite(half.image).all()
    assert half.activation - half.start == pytest.approx(single.activation - single.start, rel=0.2, abs=0.02)
    assert half.settings["dtype"] == str(dtype).removeprefix("torch.")


def test_float16_keeps_gradients_that_would_underflow():
    """A loss scaled down so far that half precision would lose its gradient altogether."""
    vit = adapted()
    for parameter in vit.model.blocks[1].mlp.fc1.parameters():
        parameter.data.mul_(1e-4)
    half, single = (
        captum_vit.render(vit, "blocks.1:7", recipe="fourier", dtype=dtype, **QUICK)[0] for dtype in ("float16", None)
    )
    assert half.problem is None or "silenced" in half.problem
    np.testing.assert_allclose(half.image, single.image, atol=0.02)


@pytest.mark.parametrize("name", TINY_MODELS)
def test_a_twin_gives_the_same_and_asks_no_gradient_of_weights(name):
    tiny = TINY_MODELS[name]
    vit = captum_vit.adapt(tiny.build())
    twin = frozen_twin(vit)
    images = torch.rand(2, 3, *tiny.image_size)
    with torch.no_grad():
        torch.testing.assert_close(twin(images), vit(images))  # torch.matmul folds batches by what asks for gradients
    assert not any(parameter.requires_grad for parameter in twin.parameters())
    storages = {parameter.data_ptr() for parameter in vit.parameters()}
    assert all(parameter.data_ptr() in storages for parameter in twin.parameters()), "a weight was copied"
    neuron = f"{vit.sites[-1].name}:3"
    with torch.no_grad():
        torch.testing.assert_close(twin.neuron(neuron)(images), vit.neuron(neuron)(images))
    assert list(twin.state_dict()) == list(vit.state_dict())


def test_a_model_that_cannot_be_copied_renders_the_same():
    vit = adapted()
    expected = captum_vit.render(vit, "blocks.1:7", **QUICK).images
    vit.model.lock = threading.Lock()
    with pytest.warns(UserWarning, match="cannot be copied"):
        found = captum_vit.render(vit, "blocks.1:7", **QUICK).images
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert all(parameter.requires_grad and parameter.grad is None for parameter in vit.parameters())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_render_on_cuda_is_that_on_the_cpu_and_never_waits(recipe, dtype):
    vit = captum_vit.adapt(captum_vit.load("deit_micro"))
    expected = captum_vit.render(vit, ["blocks.2:45", "blocks.4:307"], recipe=recipe, **QUICK)
    vit.to("cuda")
    plan = RenderPlan.of(vit, recipe=recipe, steps=4, dtype=dtype)
    twin = frozen_twin(vit, plan.torch_dtype if dtype != "float32" else None)
    loop = RenderLoop(twin, [Target.of(twin, neuron) for neuron in ("blocks.2:45", "blocks.4:307")], plan)
    steps = loop.steps()
    next(steps)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in steps:
            pass
    finally:
        torch.cuda.set_sync_debug_mode("default")
    tolerance = 0.02 if dtype == "float32" else 0.2
    for found, wanted in zip(loop.finish(), expected, strict=True):
        assert np.abs(found.image - wanted.image).mean() < tolerance


def test_hooks_that_lucent_leaves_behind_do_not_keep_a_model_from_being_copied():
    from lucent.optvis import param
    from lucent.optvis.render import render_vis

    vit = adapted()
    render_vis(vit, "ffn_blocks_1:7", lambda: param.image(32), thresholds=(1,), fixed_image_size=32, show_image=False,
               progress=False)  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        twin = frozen_twin(vit)
    assert twin is not vit
