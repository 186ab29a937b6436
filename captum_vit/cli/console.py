"""What the commands print, and how one that fails ends: with one line on standard error."""

from __future__ import annotations

import codecs
import logging
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape

from captum_vit.cli.usage import Group, UsageError, told
from captum_vit.errors import CaptumViTError, PluginWarning, PreprocessingWarning, StalePartialWarning
from captum_vit.storage.files import shown

# What stands for characters that an output's encoding lacks; others are written as their numbers.
IN_PLAIN_LETTERS = {
    **{"×": "x", "…": "...", "·": "*", "•": "*", "→": "->", "←": "<-", "−": "-", "–": "-", "—": "-", "\u00a0": " "},
    **{"“": '"', "”": '"', "„": '"', "‘": "'", "’": "'", "≤": "<=", "≥": ">="},
    **{chr(number): "*" for number in range(0x2800, 0x2900)},  # of spinners
}

FAILURE, INTERRUPTED = 2, 130


class Commands(Group):
    """The commands; what goes wrong in one of them ends it with one line on standard error."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run a command, or show help, on whatever kind of console."""
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="captum-vit.plain")
        try:
            code = super().main(*args, **{**kwargs, "standalone_mode": False})
        except UsageError as error:
            # A group without a command has shown its help.
            code = FAILURE if type(error).__name__ == "NoArgsIsHelpError" else failed(told(error)).exit_code
        sys.exit(code if isinstance(code, int) else 0)

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        try:
            with warnings.catch_warnings():
                quiet()
                return super().invoke(ctx)
        except CaptumViTError as error:
            raise failed(str(error), error.page) from error
        except BrokenPipeError:
            raise  # whoever reads the output has seen enough
        except OSError as error:
            raise failed(f"{error.filename}: {error.strerror}" if error.filename else str(error)) from error
        except KeyboardInterrupt as error:
            kept = f"; {error.args[0]}" if error.args else ""
            stderr().print(f"Interrupted{escape(shown(kept))}, and no file is half-written.", soft_wrap=True)
            raise typer.Exit(INTERRUPTED) from error


@contextmanager
def keeping(words: str) -> Iterator[None]:
    """Context of work of which something stays when it is interrupted; the words say what."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt(words) from error


def quiet() -> None:
    """Show warnings of this package as one line, others and logs not at all, unless Python was asked to show them."""
    if sys.warnoptions:
        return
    warnings.simplefilter("ignore")
    warnings.simplefilter("always", PluginWarning)
    warnings.simplefilter("always", PreprocessingWarning)
    warnings.simplefilter("always", StalePartialWarning)
    warnings.showwarning = lambda message, *_: warn(str(message))
    if not logging.getLogger().handlers:  # by which open_clip tells what it raises, and Python would print it
        logging.getLogger().addHandler(logging.NullHandler())


def failed(message: str, page: str = "") -> typer.Exit:
    """Print an error as one line, with the page of the documentation that helps; gives what ends the command."""
    more = f" [dim](docs: {page})[/]" if page else ""
    stderr().print(f"[bold red]error:[/] {escape(_line(message))}{more}", soft_wrap=True)
    return typer.Exit(FAILURE)


def warn_of_skipped(reasons: Sequence[str]) -> None:
    """Print how many files were skipped, if any, and why each was."""
    if reasons:
        warn(f"{'1 file was' if len(reasons) == 1 else f'{len(reasons)} files were'} skipped:")
        for reason in reasons:
            stderr().print(f"  {escape(_line(reason))}", soft_wrap=True)


def warn(message: str) -> None:
    """Print a warning as one line."""
    stderr().print(f"[yellow]warning:[/] {escape(_line(message))}", soft_wrap=True)


def stderr() -> Console:
    """The console for errors, warnings and progress; made anew, as tests and callers redirect it."""
    return Console(stderr=True, highlight=False)


def stdout() -> Console:
    """The console for results."""
    return Console(highlight=False, soft_wrap=True)


def _line(message: str) -> str:
    """A message on one line, without what a console would not show."""
    return shown(" ".join(message.split()))


def _plain(error: UnicodeError) -> tuple[str, int]:
    """The error handler of streams on consoles that are not UTF-8: readable words in place of what they lack."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end]
    return "".join(IN_PLAIN_LETTERS.get(each) or _number(each) for each in missing), error.end


def _number(character: str) -> str:
    return (
        shown(character)
        if "\ud800" <= character <= "\udfff"
        else character.encode("ascii", "backslashreplace").decode()
    )


codecs.register_error("captum-vit.plain", _plain)
