"""The command line: one file for each command, and `COMMANDS`, the one list of them.

A command's file is imported when the command is asked for, so that ``--help`` is quick and one command's needs
are not another's. Adding a command means a file here with a click command named ``command``, and a row in the list.
A package that stands on interop adds its own by an entry point in the group `GROUP`; the conformance suite does.

Exit status, of every command: 0 all well, 1 findings (or refused), 2 wrong use.
"""

from __future__ import annotations

import importlib
import json
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

import click

from interop._model.spelling import nearest
from interop._version import __version__

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["COMMANDS", "GROUP", "cli", "print_json"]

GROUP = "interop.commands"
"""Entry points in this group are commands: ``name = "module:command"``."""

COMMANDS = {
    "doctor": "What is installed, what is wrong with it, and known trouble in these versions.",
    "explain": "Say what a conversion would do, from a short text instead of an array.",
}
"""Each command's name (its file, here) and what ``interop --help`` says of it."""


class _Commands(click.Group):
    """Finds a command by its file."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return [*COMMANDS, *_others()]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        others = _others()
        if cmd_name not in COMMANDS and cmd_name not in others:
            names = [*COMMANDS, *others]
            ctx.fail(f"{cmd_name!r} is not a command{nearest(cmd_name, names)} Known: {', '.join(names)}.")
        command: click.Command = (
            others[cmd_name].load() if cmd_name in others else importlib.import_module(f"interop.cli.{cmd_name}").command
        )
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        # From the list, so that help imports no command.
        with formatter.section("Commands"):
            others = [(name, self.get_command(ctx, name)) for name in _others()]
            formatter.write_dl([*COMMANDS.items(), *((name, command.get_short_help_str(120)) for name, command in others if command)])


def _others() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP) if point.name not in COMMANDS}


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="interop")
def cli() -> None:
    """Move arrays between NumPy, PyTorch and CuPy without copying, and never in silence.

    Exit status: 0 all well, 1 findings (or refused), 2 wrong use.
    """


def print_json(data: dict[str, Any]) -> None:
    """Print data for another program."""
    click.echo(json.dumps(data, indent=2, ensure_ascii=False))
