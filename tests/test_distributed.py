"""Models that torch.distributed wraps or shards, in a group of one process."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from families import SIX_FAMILIES
from torch.nn.parallel import DistributedDataParallel

import captum_vit


@pytest.fixture(scope="module")
def _group():
    if not dist.is_available():
        pytest.skip("torch was built without distributed")
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def sharded(model):
    fsdp = pytest.importorskip("torch.distributed.fsdp")
    if not hasattr(fsdp, "fully_shard"):
        pytest.skip("fully_shard came with torch 2.6")
    from torch.distributed.device_mesh import init_device_mesh

    mesh = init_device_mesh("cpu", (1,))
    for block in model.blocks:
        fsdp.fully_shard(block, mesh=mesh)
    return fsdp.fully_shard(model, mesh=mesh)


WAYS = {"DistributedDataParallel": DistributedDataParallel, "fully_shard": sharded}


@pytest.mark.usefixtures("_group")
@pytest.mark.parametrize("way", WAYS)
def test_maps_rankings_and_renders_are_those_of_the_plain_model(way):
    plain = captum_vit.adapt(SIX_FAMILIES["deit"].build())
    vit = captum_vit.adapt(WAYS[way](SIX_FAMILIES["deit"].build()).eval())
    images = torch.rand(3, 3, 32, 32)
    torch.testing.assert_close(vit.patch_map(images, "blocks.1:7"), plain.patch_map(images, "blocks.1:7"))
    found, expected = (captum_vit.top_images(each, list(images), 2, progress=False) for each in (vit, plain))
    assert [image.index for image in found.best("blocks.2:5")] == [image.index for image in expected.best("blocks.2:5")]
    (render,) = captum_vit.render(vit, "blocks.1:7", recipe="fourier", steps=3, progress=False)
    (other,) = captum_vit.render(plain, "blocks.1:7", recipe="fourier", steps=3, progress=False)
    assert abs(render.image - other.image).max() < 1e-3
