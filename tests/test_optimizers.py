"""The optimizers of renders: PyTorch's steps, image by image."""

from __future__ import annotations

import pytest
import torch

from captum_vit.optvis.optimizers import Adam, NAdam, TorchOptimizer

PAIRS = {
    "adam": (Adam(lr=0.1, betas=(0.5, 0.99)), lambda p: torch.optim.Adam(p, lr=0.1, betas=(0.5, 0.99))),
    "adam, its defaults": (Adam(lr=0.05), lambda p: torch.optim.Adam(p, lr=0.05)),
    "nadam": (NAdam(lr=1.0), lambda p: torch.optim.NAdam(p, lr=1.0)),
    "sgd": (TorchOptimizer(torch.optim.SGD, {"lr": 0.3, "momentum": 0.9}), lambda p: torch.optim.SGD(p, 0.3, 0.9)),
}


@pytest.fixture
def gradients():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(3, 2, 5, generator=generator, dtype=torch.float64) for _ in range(12)]


@pytest.mark.parametrize(("ours", "pytorchs"), PAIRS.values(), ids=PAIRS)
def test_the_steps_are_pytorchs_and_follow_the_schedule(ours, pytorchs, gradients):
    mine = torch.zeros(3, 2, 5, dtype=torch.float64)
    theirs = torch.zeros(3, 2, 5, dtype=torch.float64, requires_grad=True)
    descent, optimizer = ours.descent(mine), pytorchs([theirs])
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / 12)
    nobody = torch.zeros(3, 1, 1, dtype=torch.bool)
    for step, gradient in enumerate(gradients):
        descent.step(gradient.clone(), nobody, 1 - step / 12)
        theirs.grad = gradient.clone()
        optimizer.step()
        schedule.step()
        torch.testing.assert_close(mine, theirs.detach())


@pytest.mark.parametrize("ours", [pair[0] for pair in PAIRS.values()], ids=PAIRS)
def test_an_image_that_stays_does_not_move_and_holds_up_no_other(ours, gradients):
    held, free = torch.zeros(3, 2, 5, dtype=torch.float64), torch.zeros(3, 2, 5, dtype=torch.float64)
    one, other = ours.descent(held), ours.descent(free)
    stays, nobody = torch.tensor([False, True, False])[:, None, None], torch.zeros(3, 1, 1, dtype=torch.bool)
    for number, gradient in enumerate(gradients):
        before = held.clone()
        broken = number in (2, 3)
        one.step(gradient.masked_fill(stays, 0) if broken else gradient, stays if broken else nobody, 1.0)
        other.step(gradient, nobody, 1.0)
        assert torch.equal(held[1], before[1]) == broken
        torch.testing.assert_close(held[[0, 2]], free[[0, 2]])
