"""What the commands print, and how one that fails ends: with one line on standard error."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from typer.core import TyperGroup

from captum_vit.errors import CaptumViTError, PluginWarning, StalePartialWarning

FAILURE, INTERRUPTED = 2, 130


class Commands(TyperGroup):
    """The commands; what goes wrong in one of them ends it with one line on standard error."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        try:
            with warnings.catch_warnings():
                quiet()
                return super().invoke(ctx)
        except CaptumViTError as error:
            raise failed(str(error)) from error
        except OSError as error:
            raise failed(f"{error.filename}: {error.strerror}" if error.filename else str(error)) from error
        except KeyboardInterrupt as error:
            stderr().print("Interrupted; what was finished is kept, and no file is half-written.")
            raise typer.Exit(INTERRUPTED) from error


def quiet() -> None:
    """Show warnings of this package as one line and others not at all, unless Python was asked to show them."""
    if sys.warnoptions:
        return
    warnings.simplefilter("ignore")
    warnings.simplefilter("always", PluginWarning)
    warnings.simplefilter("always", StalePartialWarning)
    warnings.showwarning = lambda message, *_: warn(str(message))


def failed(message: str) -> typer.Exit:
    """Print an error as one line; gives the exception that ends the command."""
    line = " ".join(message.split())
    stderr().print(f"[bold red]error:[/] {escape(line)}", soft_wrap=True)
    return typer.Exit(FAILURE)


def warn_of_skipped(reasons: Sequence[str]) -> None:
    """Print how many files were skipped, if any, and why each was."""
    if reasons:
        warn(f"{'1 file was' if len(reasons) == 1 else f'{len(reasons)} files were'} skipped:")
        for reason in reasons:
            stderr().print(f"  {escape(reason)}", soft_wrap=True)


def warn(message: str) -> None:
    """Print a warning as one line."""
    stderr().print(f"[yellow]warning:[/] {escape(message)}", soft_wrap=True)


def stderr() -> Console:
    """The console for errors, warnings and progress; made anew, as tests and callers redirect it."""
    return Console(stderr=True, highlight=False)


def stdout() -> Console:
    """The console for results."""
    return Console(highlight=False, soft_wrap=True)
