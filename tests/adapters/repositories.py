"""Stand-ins for models in the code of their authors' repositories: the same classes, modules and order of tokens."""

from __future__ import annotations

import timm
import torch
from timm.layers import PatchEmbed as TimmPatchEmbed
from torch import Tensor, nn
from torch.nn import functional


class PatchEmbed(nn.Module):
    def __init__(self, img_size: int, patch_size: int, width: int) -> None:
        super().__init__()
        self.img_size, self.patch_size = img_size, patch_size
        self.num_patches = (img_size // patch_size) ** 2
        self.proj = nn.Conv2d(3, width, patch_size, patch_size)

    def forward(self, images: Tensor) -> Tensor:
        return self.proj(images).flatten(2).mT


class Mlp(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.act, self.fc2 = nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(tokens)))


class SwiGLUFFN(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.w12, self.w3 = nn.Linear(width, 2 * hidden), nn.Linear(hidden, width)

    def forward(self, tokens: Tensor) -> Tensor:
        gate, value = self.w12(tokens).chunk(2, dim=-1)
        return self.w3(functional.silu(gate) * value)


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        query, key, value = self.qkv(tokens).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        weights = (query @ key.mT / query.shape[-1] ** 0.5).softmax(dim=-1)
        return self.proj((weights @ value).transpose(1, 2).flatten(2))


class Block(nn.Module):
    def __init__(self, width: int, mlp: type[nn.Module] = Mlp) -> None:
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(width), Attention(width, 2)
        self.norm2, self.mlp = nn.LayerNorm(width), mlp(width, 3 * width)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.attn(self.norm1(tokens))
        return tokens + self.mlp(self.norm2(tokens))


class VisionTransformer(nn.Module):
    """facebookresearch/dino."""

    def __init__(self, img_size: int = 32, patch_size: int = 8, width: int = 16, depth: int = 3) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(img_size, patch_size, width)
        self.cls_token = nn.Parameter(torch.randn(1, 1, width))
        self.pos_embed = nn.Parameter(torch.randn(1, self.patch_embed.num_patches + 1, width))
        self.blocks = nn.ModuleList([Block(width) for _ in range(depth)])
        self.norm, self.head = nn.LayerNorm(width), nn.Identity()

    def interpolate_pos_encoding(self, rows: int, columns: int) -> Tensor:
        of_class, of_patches = self.pos_embed[:, :1], self.pos_embed[:, 1:]
        side = int(of_patches.shape[1] ** 0.5)
        of_patches = of_patches.unflatten(1, (side, side)).permute(0, 3, 1, 2)
        return torch.cat((of_class, functional.interpolate(of_patches, (rows, columns)).flatten(2).mT), dim=1)

    def prepare_tokens(self, images: Tensor) -> Tensor:
        rows, columns = (pixels // self.patch_embed.patch_size for pixels in images.shape[-2:])
        tokens = torch.cat((self.cls_token.expand(len(images), -1, -1), self.patch_embed(images)), dim=1)
        return tokens + self.interpolate_pos_encoding(rows, columns)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.prepare_tokens(images)
        for block in self.blocks:
            tokens = block(tokens)
        return self.norm(tokens)[:, 0]


class BlockChunk(nn.ModuleList):
    def forward(self, tokens: Tensor) -> Tensor:
        for block in self:
            tokens = block(tokens)
        return tokens


class DinoVisionTransformer(nn.Module):
    """facebookresearch/dinov2; ``chunks`` of blocks keep the numbers of blocks by identities before them."""

    def __init__(
        self,
        img_size: int = 28,
        width: int = 16,
        depth: int = 4,
        registers: int = 0,
        chunks: int = 0,
        gated: bool = False,
    ) -> None:
        super().__init__()
        self.patch_size, self.num_register_tokens = 7, registers
        self.patch_embed = PatchEmbed(img_size, self.patch_size, width)
        self.patch_embed.img_size = (img_size, img_size)
        self.cls_token = nn.Parameter(torch.randn(1, 1, width))
        self.pos_embed = nn.Parameter(torch.randn(1, self.patch_embed.num_patches + 1, width))
        self.register_tokens = nn.Parameter(torch.randn(1, registers, width)) if registers else None
        blocks: list[nn.Module] = [Block(width, SwiGLUFFN if gated else Mlp) for _ in range(depth)]
        if chunks:
            size = depth // chunks
            starts = range(0, depth, size)
            blocks = [BlockChunk([nn.Identity()] * start + blocks[start : start + size]) for start in starts]
        self.chunked_blocks, self.blocks = bool(chunks), nn.ModuleList(blocks)
        self.norm, self.head = nn.LayerNorm(width), nn.Identity()
        self.mask_token = nn.Parameter(torch.zeros(1, width))

    interpolate_pos_encoding = VisionTransformer.interpolate_pos_encoding

    def prepare_tokens_with_masks(self, images: Tensor, masks: Tensor | None = None) -> Tensor:
        tokens = self.patch_embed(images)
        if masks is not None:
            tokens = torch.where(masks[..., None], self.mask_token, tokens)
        tokens = torch.cat((self.cls_token.expand(len(tokens), -1, -1), tokens), dim=1)
        tokens = tokens + self.interpolate_pos_encoding(*(pixels // self.patch_size for pixels in images.shape[-2:]))
        if self.register_tokens is None:
            return tokens
        return torch.cat((tokens[:, :1], self.register_tokens.expand(len(tokens), -1, -1), tokens[:, 1:]), dim=1)

    def forward_features(self, images: Tensor, masks: Tensor | None = None) -> dict[str, Tensor]:
        tokens = self.prepare_tokens_with_masks(images, masks)
        for block in self.blocks:
            tokens = block(tokens)
        tokens, first = self.norm(tokens), self.num_register_tokens + 1
        return {"x_norm_clstoken": tokens[:, 0], "x_norm_patchtokens": tokens[:, first:]}

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.forward_features(images)["x_norm_clstoken"])


class vit_models(nn.Module):  # noqa: N801
    """facebookresearch/deit, DeiT III: the class token joins behind the positions."""

    def __init__(self, width: int = 16, depth: int = 2) -> None:
        super().__init__()
        self.patch_embed = TimmPatchEmbed((32, 48), 8, 3, width)
        self.cls_token = nn.Parameter(torch.randn(1, 1, width))
        self.pos_embed = nn.Parameter(torch.randn(1, self.patch_embed.num_patches, width))
        self.blocks = nn.ModuleList([Block(width) for _ in range(depth)])
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 5)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patch_embed(images) + self.pos_embed
        tokens = torch.cat((self.cls_token.expand(len(tokens), -1, -1), tokens), dim=1)
        for block in self.blocks:
            tokens = block(tokens)
        return self.head(self.norm(tokens)[:, 0])


class DistilledVisionTransformer(timm.models.vision_transformer.VisionTransformer):
    """facebookresearch/deit, DeiT: timm's class and a second token."""

    def __init__(self, **settings: object) -> None:
        super().__init__(**settings)
        self.dist_token = nn.Parameter(torch.randn(1, 1, self.embed_dim))
        self.pos_embed = nn.Parameter(torch.randn(1, self.patch_embed.num_patches + 2, self.embed_dim))
        self.head_dist = nn.Linear(self.embed_dim, self.num_classes)

    def forward(self, images: Tensor) -> Tensor:
        tokens, first = self.patch_embed(images), (self.cls_token, self.dist_token)
        tokens = torch.cat((*(token.expand(len(tokens), -1, -1) for token in first), tokens), dim=1)
        tokens = self.pos_drop(tokens + self.pos_embed)
        for block in self.blocks:
            tokens = block(tokens)
        tokens = self.norm(tokens)
        return (self.head(tokens[:, 0]) + self.head_dist(tokens[:, 1])) / 2


class FinetunedMAE(timm.models.vision_transformer.VisionTransformer):
    """facebookresearch/mae, ``models_vit``: timm's class, whose ``global_pool`` says whether patches are averaged."""

    def __init__(self, global_pool: bool = False, **settings: object) -> None:
        super().__init__(**settings)
        self.global_pool = global_pool

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patch_embed(images)
        tokens = torch.cat((self.cls_token.expand(len(tokens), -1, -1), tokens), dim=1)
        tokens = self.pos_drop(tokens + self.pos_embed)
        for block in self.blocks:
            tokens = block(tokens)
        return self.head(tokens[:, 1:].mean(dim=1) if self.global_pool else self.norm(tokens)[:, 0])


class MaskedAutoencoderViT(nn.Module):
    """facebookresearch/mae, ``models_mae``: the encoder gets patches in a random order."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.patch_embed = TimmPatchEmbed(32, 8, 3, width)
        self.blocks, self.decoder_blocks = nn.ModuleList([Block(width)]), nn.ModuleList([Block(width)])

    def random_masking(self, tokens: Tensor, mask_ratio: float) -> Tensor:
        kept = int(tokens.shape[1] * (1 - mask_ratio))
        return tokens[:, torch.randperm(tokens.shape[1])[:kept]]

    def forward(self, images: Tensor, mask_ratio: float = 0.75) -> Tensor:
        return self.blocks[0](self.random_masking(self.patch_embed(images), mask_ratio))


class PatchMerging(nn.Module):
    def __init__(self, input_resolution: tuple[int, int], width: int) -> None:
        super().__init__()
        self.input_resolution = input_resolution
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens.unflatten(1, self.input_resolution)
        corners = [tokens[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.reduction(torch.cat(corners, dim=-1).flatten(1, 2))


class BasicLayer(nn.Module):
    def __init__(self, input_resolution: tuple[int, int], width: int, depth: int, merges: bool) -> None:
        super().__init__()
        self.input_resolution = input_resolution
        self.blocks = nn.ModuleList([Block(width) for _ in range(depth)])
        self.downsample = PatchMerging(input_resolution, width) if merges else None

    def forward(self, tokens: Tensor) -> Tensor:
        for block in self.blocks:
            tokens = block(tokens)
        return tokens if self.downsample is None else self.downsample(tokens)


class SwinTransformer(nn.Module):
    """microsoft/Swin-Transformer; attention is over all tokens here, as windows are undone before MLPs anyway."""

    def __init__(self, img_size: tuple[int, int] = (32, 48), width: int = 8, depths: tuple[int, ...] = (2, 1)) -> None:
        super().__init__()
        self.patch_embed = TimmPatchEmbed(img_size, 4, 3, width)
        self.patches_resolution = self.patch_embed.grid_size
        self.layers = nn.ModuleList()
        for i, depth in enumerate(depths):
            resolution = tuple(side // 2**i for side in self.patches_resolution)
            self.layers.append(BasicLayer(resolution, width * 2**i, depth, merges=i < len(depths) - 1))
        self.norm = nn.LayerNorm(width * 2 ** (len(depths) - 1))

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patch_embed(images)
        for layer in self.layers:
            tokens = layer(tokens)
        return self.norm(tokens).mean(dim=1)
