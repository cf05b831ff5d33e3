"""The command line: one file for each command, and `COMMANDS`, the one list of them.

A command's file is imported when the command is asked for, so that ``--help`` is quick and one command's needs
are not another's. Adding a command means a file here with a click command named ``command``, and a row in the list.

Exit status, of every command: 0 all well, 1 findings (or refused), 2 wrong use.
"""

from __future__ import annotations

import importlib
import json
from typing import Any

import click

from interop._version import __version__
from interop.policy import nearest

__all__ = ["COMMANDS", "cli", "print_json"]

COMMANDS = {
    "doctor": "What is installed, what is wrong with it, and known trouble in these versions.",
    "explain": "Say what a conversion would do, from a short text instead of an array.",
}
"""Each command's name (its file, here) and what ``interop --help`` says of it."""


class _Commands(click.Group):
    """Finds a command by its file."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            ctx.fail(f"{cmd_name!r} is not a command{nearest(cmd_name, COMMANDS)} Known: {', '.join(COMMANDS)}.")
        command: click.Command = importlib.import_module(f"interop.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        # From the list, so that help imports no command.
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="interop")
def cli() -> None:
    """Move arrays between NumPy, PyTorch and CuPy without copying, and never in silence.

    Exit status: 0 all well, 1 findings (or refused), 2 wrong use.
    """


def print_json(data: dict[str, Any]) -> None:
    """Print data for another program."""
    click.echo(json.dumps(data, indent=2, ensure_ascii=False))
