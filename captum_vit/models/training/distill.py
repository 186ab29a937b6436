"""Trains an embedded model: ``python -m captum_vit.models.training.distill NAME --photos FOLDER --out FILE``."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from enum import Enum
from hashlib import sha256
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from safetensors.torch import load_file, save
from timm.layers import set_fused_attn
from torch import Tensor, nn
from torch.nn import functional

from captum_vit.models.registry import MODELS
from captum_vit.models.training.features import STUDENT_SIZE, Crops, autocast, cached_crops, mirror, normalize
from captum_vit.models.training.labelled import category_of_each, labelled_photos
from captum_vit.models.training.photos import fewer_crops, training_photos
from captum_vit.models.training.students import features, on_grid

STEPS = 2400
_WARMUP = 100  # steps
_PEAK_LR = 1e-3
_WEIGHT_DECAY = 0.05
_HEAD_WEIGHT = 0.1
_TEMPERATURE = 0.1  # of the teacher's cosines with the categories
_CHECKPOINT_EVERY = 50  # steps


class Precision(str, Enum):
    """What passes through the networks are computed in; weights and losses are float32 always."""

    float32 = "float32"
    bfloat16 = "bfloat16"

    @property
    def dtype(self) -> torch.dtype:
        """As torch has it."""
        return torch.bfloat16 if self is Precision.bfloat16 else torch.float32


class Distillation(nn.Module):
    """A student with two linear maps to the teacher's tokens: from its pooled feature, and from its last map."""

    class_mean: Tensor
    class_std: Tensor
    patch_mean: Tensor
    patch_std: Tensor
    categories: Tensor

    def __init__(self, student: nn.Module, crops: Crops, category: Tensor, dtype: torch.dtype) -> None:
        """Take the moments of the teacher's tokens, and its mean class token of every category, from the crops.

        ``category`` ``(N,)`` is the category of each crop, or -1 where it has none.
        """
        super().__init__()
        self.student = student
        self.dtype = dtype
        with torch.no_grad():
            pooled, patches, logits = features(student, torch.zeros(1, 3, STUDENT_SIZE, STUDENT_SIZE))
        self.to_class = nn.Linear(pooled.shape[1], crops.features.shape[-1])
        self.to_patch = nn.Linear(patches.shape[1], crops.features.shape[-1])
        # The teacher's channels differ in scale a hundredfold; standardized, each counts.
        sample = crops.features[::8].float()
        moments = {"class": sample[:, :1], "patch": sample[:, 1:]}
        for name, tokens in moments.items():
            self.register_buffer(f"{name}_mean", tokens.mean((0, 1)))
            self.register_buffer(f"{name}_std", tokens.std((0, 1)))
        labelled = category >= 0
        tokens = functional.normalize((crops.features[labelled, 0] - self.class_mean) / self.class_std, dim=1)
        sums = torch.zeros(logits.shape[1], tokens.shape[1]).index_add(0, category[labelled], tokens)
        self.register_buffer("categories", functional.normalize(sums, dim=1))

    def forward(self, images: Tensor, teacher: Tensor) -> dict[str, Tensor]:
        """Give the losses on images ``(B, 3, 64, 64)`` with the teacher's tokens ``(B, 65, 384)``.

        Cosine distance plus smooth L1 to the teacher's standardized tokens, and the head's cross-entropy with what the
        teacher takes the crop for: the softmax of its cosines with the categories. So a crop that misses the thing is
        not called by its name, and a photo without a label teaches too.
        """
        with autocast(images.device.type, self.dtype):
            pooled, patches, logits = features(self.student, images)
            of_class, of_patches = self.to_class(pooled), self.to_patch(patches.flatten(2).transpose(1, 2))
        class_token = (teacher[:, 0] - self.class_mean) / self.class_std
        patch_tokens = on_grid(
            (teacher[:, 1:] - self.patch_mean) / self.patch_std, (patches.shape[2], patches.shape[3])
        )
        taken_for = (functional.normalize(class_token, dim=1) @ self.categories.T / _TEMPERATURE).softmax(1)
        return {
            "class": _distance(of_class.float(), class_token),
            "patch": _distance(of_patches.float(), patch_tokens),
            "head": _HEAD_WEIGHT * functional.cross_entropy(logits.float(), taken_for),
        }


def _distance(tokens: Tensor, target: Tensor) -> Tensor:
    return (1 - functional.cosine_similarity(tokens, target, dim=-1)).mean() + functional.smooth_l1_loss(tokens, target)


def draw_batch(crops: Crops, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw crops at random, mirror half of them with their features, and vary the colours that the student sees."""
    chosen = torch.randint(len(crops.photo), (size,), generator=generator)
    pixels, teacher = crops.pixels[chosen].float(), crops.features[chosen].float()
    half = size // 2
    pixels[:half] = pixels[:half].flip(-1)
    teacher[:half] = mirror(teacher[:half])
    gain = 1 + 0.2 * (torch.rand(size, 3, 1, 1, generator=generator) - 0.5)
    contrast = 1 + 0.4 * (torch.rand(size, 1, 1, 1, generator=generator) - 0.5)
    offset = 40 * (torch.rand(size, 1, 1, 1, generator=generator) - 0.5)
    centre = pixels.mean((1, 2, 3), keepdim=True)
    pixels = ((pixels * gain - centre) * contrast + centre + offset).clamp(0, 255)
    return normalize(pixels), teacher


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


def new_run(name: str, crops: Crops, category: Tensor, seed: int, dtype: torch.dtype) -> Run:
    """Make the student at random weights, and its optimizer; weights with one dimension do not decay."""
    torch.manual_seed(seed)
    model = Distillation(MODELS[name].build(), crops, category, dtype)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": _WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}]
    return Run(model, torch.optim.AdamW(groups, lr=_PEAK_LR, betas=(0.9, 0.98)))


def start_from(student: nn.Module, file: Path) -> None:
    """Give a student the weights of an earlier one of its architecture, but for a head over other categories."""
    own = student.state_dict()
    earlier = {name: value.float() for name, value in load_file(file).items() if value.shape == own[name].shape}
    student.load_state_dict(own | earlier)


def train(run: Run, crops: Crops, *, steps: int, batch: int, seed: int, checkpoint: Path) -> None:
    """Train up to ``steps`` steps; each step's random numbers depend on the seed and the step alone."""
    run.model.train()
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, TimeRemainingColumn(), console=Console(width=120)) as progress:
        task = progress.add_task("distilling", total=steps, completed=run.step)
        while run.step < steps:
            # The global generator, as the student draws from it too: Swin drops paths at random.
            generator = torch.manual_seed(seed * 1_000_003 + run.step)
            images, teacher = draw_batch(crops, batch, generator)
            terms = run.model(images, teacher)
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
    weights = {name: value.detach().contiguous() for name, value in student.state_dict().items()}
    # Batch normalization counts its batches in whole numbers.
    content = save({name: value.half() if value.is_floating_point() else value for name, value in weights.items()})
    part = out.with_suffix(".part")
    part.write_bytes(content)
    os.replace(part, out)
    return sha256(content).hexdigest()


def main(
    name: Annotated[str, typer.Argument(help="Which embedded model.")],
    photos: Annotated[Path, typer.Option(help="Folder of labelled photos, named like n02084071_dog.")],
    out: Annotated[Path, typer.Option(help="Where to write the weights (safetensors, float16).")],
    cache: Annotated[Path, typer.Option(help="Folder for crops, features and the checkpoint.")] = Path("distill-cache"),
    start: Annotated[Path | None, typer.Option(help="Weights to start from, instead of random ones.")] = None,
    steps: Annotated[int, typer.Option(min=1)] = STEPS,
    batch: Annotated[int, typer.Option(min=2, help="Crops per step.")] = 128,
    seed: Annotated[int, typer.Option()] = 0,
    share: Annotated[float, typer.Option(min=0.01, max=1, help="Share of each photo's crops to train on.")] = 1.0,
    threads: Annotated[
        int, typer.Option(min=1, help="Two models at a time, on a thread each, use two cores best.")
    ] = 1,
    precision: Annotated[
        Precision, typer.Option(help="bfloat16 is fast on processors with instructions for it, very slow on others.")
    ] = Precision.float32,
    compile: Annotated[bool, typer.Option("--compile", help="Compile the student, which takes a minute.")] = False,
) -> None:
    """Train an embedded model against the teacher; the same command again resumes an interrupted run."""
    torch.set_num_threads(threads)
    set_fused_attn(enable=False)  # with so few tokens, spelled out takes half the time in bfloat16
    labelled = labelled_photos(photos)
    if labelled.categories != MODELS[name].classes:
        raise typer.BadParameter(f"the categories in {photos} are not those declared for {name} in the registry")
    trained = fewer_crops(training_photos() + labelled.training, share)
    crops = cached_crops(trained, seed, cache / "training", precision.dtype)
    category = torch.tensor(category_of_each(trained, labelled.categories))[crops.photo]
    run = new_run(name, crops, category, seed, precision.dtype)
    if start is not None:
        start_from(run.model.student, start)
    if compile:
        run.model.compile()
    checkpoint = cache / f"{name}-{steps}-{batch}-{seed}-{share:g}.ckpt"
    if checkpoint.exists():
        run.resume(checkpoint)
    train(run, crops, steps=steps, batch=batch, seed=seed, checkpoint=checkpoint)
    typer.echo(f"{out}: sha256 {export(run.model.student, out)}")


if __name__ == "__main__":
    typer.run(main)
