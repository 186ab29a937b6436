"""How long a command takes to refuse a wrong word: whole processes, from the start of Python to its end.

Prints a Markdown table of medians. ``python tests/benchmarks/refusals.py --repeats 9``
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from statistics import median

from captum_vit.models import default_photos

FOLDER, PHOTO = str(default_photos()[0].parent), str(default_photos()[0])
PROGRAM = "from captum_vit.cli import main; main()"
# By what is wrong: a command, which would work but for its last word.
WRONG = {
    "suffix of a card": ["card", "--out", "card.xyz"],
    "suffix of a gallery": ["gallery", "--out", "gallery.xyz"],
    "suffix of a ranking": ["top-images", "deit_micro", "--images", FOLDER, "--out", "top.xyz"],
    "recipe": ["card", "--recipe", "cake"],
    "kind of device": ["patch-map", "deit_micro", "blocks.1:1", PHOTO, "--out", "maps", "--device", "gpu"],
    "number format": ["render", "deit_micro", "blocks.1:1", "--out", "renders", "--dtype", "int8"],
    "reduction": ["top-images", "deit_micro", "--images", FOLDER, "--out", "t.safetensors", "--reduction", "sum"],
    "model (needs timm)": ["card", "deit_mikro"],
}


def seconds(command: list[str]) -> float:
    """Time of one process, which must refuse."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", PROGRAM, *command], capture_output=True, text=True)
    took = time.perf_counter() - start
    if done.returncode != 2:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}: {done.stderr}")
    return took


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5, help="processes of each command")
    repeats = parser.parse_args().repeats
    print("| what is wrong | command | seconds |\n|---|---|---|")
    for what, command in WRONG.items():
        shown = " ".join(word.rpartition("/")[2] for word in command)
        print(f"| {what} | `captum-vit {shown}` | {median(seconds(command) for _ in range(repeats)):.2f} |", flush=True)


if __name__ == "__main__":
    main()
