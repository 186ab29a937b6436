"""Commands, options and arguments that are not there, or are missing: one line each, with the nearest that is there."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

import typer
from typer.core import TyperGroup

# The base of what is raised for a wrong command line, in click or in Typer's own copy of it.
UsageError: type[Any] = typer.BadParameter.__mro__[1]


class Group(TyperGroup):
    """Commands of which a wrong one is answered with the nearest."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command that the first word names."""
        word, path = args[0], ctx.command_path
        if word in self.commands or word.startswith("-"):
            return super().resolve_command(ctx, args)
        close = get_close_matches(word, self.commands, n=1, cutoff=0.5)
        advice = f"did you mean {path} {close[0]}?" if close else f"the command comes first: {', '.join(self.commands)}"
        raise UsageError(f'no command "{word}" of {path}; {advice}', ctx)


def told(error: Any) -> str:
    """What is wrong with a command line, and what would be right."""
    context = error.ctx
    if context is None:
        return str(error.format_message())
    path, kind = context.command_path, type(error).__name__
    if kind == "NoSuchOption":
        return f"no option {error.option_name} of {path}; {_nearest(error.option_name, context)}"
    if kind == "MissingParameter" and error.param is not None:
        # An option by its longest name, an argument by how it is written.
        missing = max(error.param.opts, key=len)
        missing = missing if missing.startswith("-") else error.param.metavar or missing.upper()
        return f"{path} needs {missing}; {path} --help shows how"
    message = error.format_message().rstrip(".")
    return f"{message}; {path} --help shows what there is" if not message.startswith("no command") else message


def _nearest(option: str, context: Any) -> str:
    """Where an option is, or which is nearly called so."""
    own = [name for parameter in context.command.params for name in parameter.opts]
    others = [
        path for path, command in _commands(context.find_root()) if any(option in each.opts for each in command.params)
    ]
    if others:
        return f"it is an option of {', '.join(others)}"
    close = get_close_matches(option, own, n=1)
    return f"did you mean {close[0]}?" if close else f"{context.command_path} --help shows what there is"


def _commands(root: Any) -> Iterator[tuple[str, Any]]:
    """All commands with what is typed for them, groups opened."""
    waiting = [(root.command_path, root.command)]
    while waiting:
        path, command = waiting.pop(0)
        inner = getattr(command, "commands", None)
        if inner is None:
            yield path, command
        else:
            waiting += [(f"{path} {name}", each) for name, each in inner.items()]
