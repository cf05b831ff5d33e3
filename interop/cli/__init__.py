"""The command line: one file for each command, and `COMMANDS`, the one list of them.

A command's file is imported when the command is asked for, so that ``--help`` is quick and one command's needs
are not another's. Adding a command means a file here with a click command named ``command``, and a row in the list.
A package that stands on interop adds its own by an entry point in the group `GROUP`; the conformance suite does, which is a
distribution of its own and has a row in `SEPARATE`, so that its command is known where it is not installed.

Exit status, of every command: 0 all well, 1 findings (or refused), 2 wrong use or a broken input or output, 130 interrupted
(`interop.cli._process`).
"""

from __future__ import annotations

import importlib
import json
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

import click

from interop._model.spelling import unknown
from interop._version import __version__

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["COMMANDS", "GROUP", "cli", "print_json"]

GROUP = "interop.commands"
"""Entry points in this group are commands: ``name = "module:command"``."""

COMMANDS = {
    "doctor": "What is installed, what is wrong with it, and known issues of these versions.",
    "explain": "Say what a conversion would do, from a short text instead of an array.",
}
"""Each command's name (its file, here) and its line in ``interop --help``."""

SEPARATE = {
    "conformance": (
        "Which handoffs between array libraries share, copy, refuse or lose something.",
        "pip install 'array-interop[conformance]'",
    ),
}
"""The same for commands of the project's other distributions, each with how to install it."""


class _Commands(click.Group):
    """Finds a command by its file."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return [*COMMANDS, *SEPARATE, *_others()]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        point = None if cmd_name in COMMANDS else _entry_points().get(cmd_name)
        if cmd_name not in COMMANDS and point is None:
            ctx.fail(self._unknown(ctx, cmd_name))
        command: click.Command = point.load() if point else importlib.import_module(f"interop.cli.{cmd_name}").command
        return command

    def _unknown(self, ctx: click.Context, name: str) -> str:
        if name in SEPARATE:
            return f"{name!r} is a distribution of its own, which is not installed; write: {SEPARATE[name][1]}"
        return unknown(name, "command", self.list_commands(ctx))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        # From the lists, so that help imports no command of the project's.
        with formatter.section("Commands"):
            others = [(name, self.get_command(ctx, name)) for name in _others()]
            separate = [(name, words) for name, (words, _) in SEPARATE.items()]
            formatter.write_dl(
                [*COMMANDS.items(), *separate, *((name, command.get_short_help_str(120)) for name, command in others if command)]
            )


def _entry_points() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def _others() -> list[str]:
    return [name for name in _entry_points() if name not in COMMANDS and name not in SEPARATE]


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="interop")
def cli() -> None:
    """Move arrays between NumPy, PyTorch, CuPy and JAX without copying, and never silently.

    Exit status: 0 all well, 1 findings (or refused), 2 wrong use or a broken input or output, 130 interrupted.
    """


def print_json(data: dict[str, Any]) -> None:
    """Print data for another program."""
    click.echo(json.dumps(data, indent=2, ensure_ascii=False))
