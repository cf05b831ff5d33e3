"""``interop doctor``: prints what `interop.doctor.examination.examine` finds.

Exit status 1 if there is a finding: something is wrong with this installation and should be repaired. Known
issues of the versions alone do not make it 1, because no set of versions is without, and interop works around what
it can; an update is worth it all the same. What may be long (links, commands) stands outside the table, and is
never folded, so that it can be copied from a narrow terminal or a log.
"""

from __future__ import annotations

from textwrap import fill
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from interop._model.sizes import sized
from interop.cli import print_json
from interop.doctor.examination import examine

__all__ = ["command"]


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(*, as_json: bool) -> None:
    """Say what is installed, what is wrong with it, and which known issues these versions have.

    Exit status: 0 nothing is wrong with the installation, 1 findings. Known issues of these versions alone
    are listed, and do not change the status.
    """
    state = examine()
    if as_json:
        print_json(state)
    else:
        _Page().print(state)
    raise click.exceptions.Exit(1 if state["findings"] else 0)


class _Page:
    """The answer as text, coloured on a terminal only."""

    def __init__(self) -> None:
        self.console = Console(highlight=False, markup=False, emoji=False)

    def print(self, state: dict[str, Any]) -> None:
        """Print everything."""
        self.line(f"interop {state['interop']}, Python {state['python']}, {state['platform']}")
        self.libraries(state["backends"])
        self.cuda(state["cuda"])
        self.findings(state["findings"])
        self.warnings(state["warnings"])
        self.known_issues(state["known_trouble"])

    def line(self, text: str, style: str = "") -> None:
        """Print one line that is never folded."""
        self.console.print(Text(text, style), soft_wrap=True)

    def paragraph(self, text: str, indent: int = 2) -> None:
        """Print a text that is folded between words, so that commands in it stay whole words."""
        space = " " * indent
        self.line(
            fill(text, self.console.width, initial_indent=space, subsequent_indent=space, break_long_words=False, break_on_hyphens=False)
        )

    def libraries(self, backends: list[dict[str, Any]]) -> None:
        """Print the table of what is there, and how to get what is not."""
        table = Table(show_edge=False, pad_edge=False, box=None, padding=(0, 2, 0, 0), header_style="bold")
        for heading in ("library", "version", "devices", "DLPack out", "DLPack in", "C API"):
            table.add_column(heading, overflow="fold", no_wrap=heading == "library")  # a name in two pieces is no name
        for one in backends:
            if one["status"] == "ok":
                table.add_row(*map(Text, _cells(one)))
        self.line("")
        if table.rows:
            self.console.print(table)
        for one in backends:
            if one["status"] == "ok" and "cuda" in one["unavailable"]:
                self.line(f"{one['name']}: no CUDA device: {one['unavailable']['cuda']}")
            elif one["status"] == "missing":
                self.line(f"{one['name']}: not installed; {one['install']}")
            elif one["status"] == "broken":
                self.line(f"{one['name']}: broken, see the findings")

    def cuda(self, cuda: dict[str, Any]) -> None:
        """Print driver, runtimes and devices; nothing without a device."""
        if cuda["driver"] is None:
            return
        self.line("")
        runtimes = ", ".join(f"{one['library']} {one['version']} (allocates with {one['allocator']})" for one in cuda["runtimes"])
        same = "the same major version" if cuda["agree"] else "not of one major version"
        self.line(f"CUDA: the driver knows up to {cuda['driver']}; {runtimes}" + (f"; {same}" if len(cuda["runtimes"]) > 1 else ""))
        for one in cuda["devices"]:
            peers = f"; reaches the memory of {', '.join(f'cuda:{n}' for n in one['peers'])}" if one["peers"] else ""
            free = f"; {sized(one['free'])} of {sized(one['total'])} free" if one["total"] is not None else ""
            self.line(f"cuda:{one['index']} {one['name']} at {one['bus']}{free}{peers}")
            for pool in one["pools"]:
                self.line(f"  pool of {pool['name']}: holds {sized(pool['held'])}, {sized(pool['used'])} of it in use")

    def findings(self, findings: list[dict[str, str]]) -> None:
        """Print what is wrong here."""
        self.line("")
        if not findings:
            self.line("Nothing is wrong with this installation.", "green")
            return
        self.line(f"To be done ({len(findings)}):", "bold red")
        for finding in findings:
            self.line(f"- {finding['backend']}: {finding['text']}")

    def warnings(self, warnings: list[dict[str, str]]) -> None:
        """Print what the libraries warned about during the examination."""
        for warning in warnings:
            self.line(f"{warning['backend']} warns: {warning['text']}")

    def known_issues(self, issues: list[dict[str, Any]]) -> None:
        """Print the known issues of these versions."""
        self.line("")
        if not issues:
            self.line("No known issues in these versions.", "green")
            return
        self.line(f"Known issues in these versions ({len(issues)}); every installation of them has these:", "bold")
        for issue in issues:
            versions = ", ".join(f"{name} {version}" for name, version in issue["versions"].items())
            self.line("")
            self.line(f"{issue['id']} ({versions})", "bold")
            self.paragraph(issue["happens"])
            self.paragraph(issue["advice"])
            self.line(f"  {issue['link']}")


def _cells(one: dict[str, Any]) -> list[str]:
    dlpack = one["dlpack"]
    version = f"{one['version']} (CUDA {one['cuda_build']})" if one["cuda_build"] else str(one["version"])
    words = [
        dlpack.get("exports") or "?",
        str(dlpack.get("imports") or "?").partition(" ")[0],
        "yes" if dlpack.get("exchange_api") else "no",
    ]
    return [one["name"], version, ", ".join(one["devices"]) or "none", *words]
