"""Trains ``deit_micro``: ``python -m captum_vit.models.training.distill --out deit_micro.safetensors``."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional

from captum_vit.models.registry import MODELS
from captum_vit.models.training.features import Crops, cached_crops, mirror, normalize
from captum_vit.models.training.photos import training_photos

CROPS_PER_PHOTO = 480
_WARMUP = 300  # steps
_PEAK_LR = 1e-3
_WEIGHT_DECAY = 0.05
_EXEMPLAR_WEIGHT = 0.1
_CHECKPOINT_EVERY = 50  # steps


class Distillation(nn.Module):
    """A student with two linear maps from its tokens to the teacher's, one for the class token, one for patches."""

    class_mean: Tensor
    class_std: Tensor
    patch_mean: Tensor
    patch_std: Tensor

    def __init__(self, student: nn.Module, teacher: Tensor) -> None:
        super().__init__()
        self.student = student
        width = int(student.num_features)  # type: ignore[arg-type]
        self.to_class = nn.Linear(width, teacher.shape[-1])
        self.to_patch = nn.Linear(width, teacher.shape[-1])
        # The teacher's channels differ in scale a hundredfold; standardized, each counts.
        sample = teacher[::8].float()
        moments = {"class": sample[:, :1], "patch": sample[:, 1:]}
        for name, tokens in moments.items():
            self.register_buffer(f"{name}_mean", tokens.mean((0, 1)))
            self.register_buffer(f"{name}_std", tokens.std((0, 1)))

    def standardize(self, features: Tensor) -> Tensor:
        """Standardize the teacher's tokens, channel by channel, ``(B, 65, 384)``."""
        first = (features[:, :1] - self.class_mean) / self.class_std
        rest = (features[:, 1:] - self.patch_mean) / self.patch_std
        return torch.cat([first, rest], dim=1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the projected tokens ``(B, 65, 384)`` and the logits over the photos."""
        tokens = self.student.forward_features(images)  # type: ignore[operator]
        logits = self.student.forward_head(tokens)  # type: ignore[operator]
        return torch.cat([self.to_class(tokens[:, :1]), self.to_patch(tokens[:, 1:])], dim=1), logits


def losses(projected: Tensor, target: Tensor, logits: Tensor, photo: Tensor) -> dict[str, Tensor]:
    """Cosine distance plus smooth L1 to the teacher's standardized tokens, and the exemplar head's cross-entropy."""
    distance = 1 - functional.cosine_similarity(projected, target, dim=-1)
    error = functional.smooth_l1_loss(projected, target, reduction="none").mean(-1)
    per_token = distance + error
    return {
        "class": per_token[:, 0].mean(),
        "patch": per_token[:, 1:].mean(),
        "exemplar": _EXEMPLAR_WEIGHT * functional.cross_entropy(logits, photo, label_smoothing=0.1),
    }


def draw_batch(crops: Crops, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Draw crops at random, mirror half of them with their features, and vary the colours that the student sees."""
    chosen = torch.randint(len(crops.photo), (size,), generator=generator)
    pixels, features = crops.pixels[chosen].float(), crops.features[chosen].float()
    half = size // 2
    pixels[:half] = pixels[:half].flip(-1)
    features[:half] = mirror(features[:half])
    gain = 1 + 0.2 * (torch.rand(size, 3, 1, 1, generator=generator) - 0.5)
    contrast = 1 + 0.4 * (torch.rand(size, 1, 1, 1, generator=generator) - 0.5)
    offset = 40 * (torch.rand(size, 1, 1, 1, generator=generator) - 0.5)
    centre = pixels.mean((1, 2, 3), keepdim=True)
    pixels = ((pixels * gain - centre) * contrast + centre + offset).clamp(0, 255)
    return normalize(pixels), features, crops.photo[chosen]


def learning_rate(step: int, steps: int) -> float:
    """Linear warm-up, then a cosine to zero."""
    if step < _WARMUP:
        return _PEAK_LR * (step + 1) / _WARMUP
    return _PEAK_LR * 0.5 * (1 + math.cos(math.pi * (step - _WARMUP) / max(1, steps - _WARMUP)))


@dataclass
class Run:
    """A training run that can be stopped and resumed: everything that changes from step to step."""

    model: Distillation
    optimizer: torch.optim.Optimizer
    step: int = 0

    def save(self, file: Path) -> None:
        """Write a checkpoint."""
        part = file.with_suffix(".part")
        state = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(), "step": self.step}
        torch.save(state, part)
        os.replace(part, file)

    def resume(self, file: Path) -> None:
        """Go back to a checkpoint."""
        saved = torch.load(file)
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.step = saved["step"]


def new_run(name: str, crops: Crops, seed: int) -> Run:
    """Make the student at random weights, and its optimizer; weights with one dimension do not decay."""
    torch.manual_seed(seed)
    model = Distillation(MODELS[name].build(), crops.features)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": _WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}]
    return Run(model, torch.optim.AdamW(groups, lr=_PEAK_LR, betas=(0.9, 0.98)))


def train(run: Run, crops: Crops, *, steps: int, batch: int, seed: int, checkpoint: Path) -> None:
    """Train up to ``steps`` steps; each step's random numbers depend on the seed and the step alone."""
    run.model.train()
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, TimeRemainingColumn(), console=Console(width=120)) as progress:
        task = progress.add_task("distilling", total=steps, completed=run.step)
        while run.step < steps:
            generator = torch.Generator().manual_seed(seed * 1_000_003 + run.step)
            images, features, photo = draw_batch(crops, batch, generator)
            projected, logits = run.model(images)
            terms = losses(projected, run.model.standardize(features), logits, photo)
            run.optimizer.zero_grad()
            torch.stack(list(terms.values())).sum().backward()
            nn.utils.clip_grad_norm_(run.model.parameters(), 1.0)
            for group in run.optimizer.param_groups:
                group["lr"] = learning_rate(run.step, steps)
            run.optimizer.step()
            run.step += 1
            progress.advance(task)
            if run.step % 50 == 0:
                shown = "  ".join(f"{name} {float(value.detach()):.3f}" for name, value in terms.items())
                progress.console.print(f"step {run.step}: {shown}")
            if run.step % _CHECKPOINT_EVERY == 0 or run.step == steps:
                run.save(checkpoint)
    run.model.eval()


def export(student: nn.Module, out: Path) -> str:
    """Write the student's weights in float16 and return the file's SHA-256 for the registry."""
    content = save({name: value.detach().half().contiguous() for name, value in student.state_dict().items()})
    part = out.with_suffix(".part")
    part.write_bytes(content)
    os.replace(part, out)
    return sha256(content).hexdigest()


def main(
    out: Annotated[Path, typer.Option(help="Where to write the weights (safetensors, float16).")],
    cache: Annotated[Path, typer.Option(help="Folder for crops, features and the checkpoint.")] = Path("distill-cache"),
    name: Annotated[str, typer.Option(help="Which embedded model.")] = "deit_micro",
    steps: Annotated[int, typer.Option(min=1)] = 2400,
    batch: Annotated[int, typer.Option(min=2, help="Crops per step.")] = 128,
    seed: Annotated[int, typer.Option()] = 0,
    threads: Annotated[int, typer.Option(min=1)] = 2,
) -> None:
    """Train an embedded model against the teacher; the same command again resumes an interrupted run."""
    torch.set_num_threads(threads)
    photos = training_photos()
    if tuple(photo.name for photo in photos) != MODELS[name].classes:
        raise typer.BadParameter(f"the training photos are not the classes declared for {name} in the registry")
    crops = cached_crops(photos, CROPS_PER_PHOTO, seed, cache / "training")
    run = new_run(name, crops, seed)
    checkpoint = cache / f"{name}-{steps}-{batch}-{seed}.ckpt"
    if checkpoint.exists():
        run.resume(checkpoint)
    train(run, crops, steps=steps, batch=batch, seed=seed, checkpoint=checkpoint)
    typer.echo(f"{out}: sha256 {export(run.model.student, out)}")


if __name__ == "__main__":
    typer.run(main)
