"""The penalties and their gradients."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from captum_vit.optvis import penalties


def by_autograd(images: Tensor) -> Tensor:
    """Total variation as autograd would differentiate it."""
    directions = (
        images[..., :, 1:] - images[..., :, :-1],
        images[..., 1:, :] - images[..., :-1, :],
        images[..., 1:, 1:] - images[..., :-1, :-1],
        images[..., 1:, :-1] - images[..., :-1, 1:],
    )
    return torch.stack([differences.square().sum((2, 3)).sqrt().mean() for differences in directions]).sum()


@given(st.integers(1, 3), st.integers(2, 6), st.integers(2, 6), st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_total_variation_and_its_gradient_are_those_of_the_formula(batch: int, height: int, width: int, seed: int):
    images = torch.rand(batch, 3, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    values, gradients = [], []
    for penalty in (penalties.total_variation, by_autograd):
        leaf = images.clone().requires_grad_()
        value = 0.3 * penalty(leaf)
        value.backward()
        values.append(value.detach())
        gradients.append(leaf.grad)
    torch.testing.assert_close(*values)
    torch.testing.assert_close(*gradients)


def test_a_flat_image_has_no_total_variation_and_no_gradient():
    flat = torch.full((2, 3, 5, 7), 0.4, requires_grad=True)
    value = penalties.total_variation(flat)
    value.backward()
    assert value == 0
    assert torch.equal(flat.grad, torch.zeros_like(flat))


def test_an_image_of_one_column_varies_only_downwards():
    image = torch.tensor([0.0, 1.0, 0.0]).expand(1, 3, 3).reshape(1, 3, 3, 1).clone().requires_grad_()
    value = penalties.total_variation(image)
    value.backward()
    torch.testing.assert_close(value.detach(), torch.tensor(2.0).sqrt())
    assert image.grad.isfinite().all()
