"""``interop conformance run | report | diff | list``.

Exit status: 0 the interop route keeps its promises and nothing differs from the known deviations, 1 findings, 2 wrong use or a broken
input or output, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from interop._model.spelling import nearest
from interop.cli import print_json
from interop.cli._process import BrokenError
from interop_conformance.adapters import AdapterError, load_adapters
from interop_conformance.matrix import handoff
from interop_conformance.matrix.dtypes import DTYPES
from interop_conformance.matrix.layouts import LAYOUTS
from interop_conformance.matrix.states import STATES
from interop_conformance.protocol.rules import rules
from interop_conformance.results.deviations import also_from, deviations, findings, known
from interop_conformance.results.diff import differences
from interop_conformance.results.files import IncompleteError, read, write
from interop_conformance.results.outcomes import OUTCOMES
from interop_conformance.results.texts import first_sentence, printable
from interop_conformance.running.environment import name_of
from interop_conformance.running.journal import write_whole
from interop_conformance.running.run import run
from interop_conformance.selection import LAYERS, Selection, all_cases
from interop_conformance.terminal import Progress, show_differences, show_findings, show_list, show_one, show_summary

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from interop_conformance.adapters import Adapter
    from interop_conformance.results.deviations import Finding
    from interop_conformance.results.files import Results
    from interop_conformance.results.records import Case

__all__ = ["command"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Which handoffs between array libraries share, copy, refuse, lose something, or kill the process.

    Exit status: 0 the interop route keeps its promises and nothing differs from the known deviations, 1 findings, 2 wrong use or a
    broken input or output, 130 interrupted.
    """


_adapter = click.option(
    "--adapter", "extra", multiple=True, metavar="MODULE:OBJECT", help="A third party's adapter, besides the built-in and installed ones."
)
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def _also(_context: click.Context, _option: click.Parameter, paths: tuple[Path, ...]) -> None:
    for path in paths:
        try:
            also_from(path)
        except (ValueError, OSError) as error:
            raise click.BadParameter(f"{printable(path.name)}: {first_sentence(str(error))}") from error


_deviations = click.option(
    "--deviations",
    multiple=True,
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    callback=_also,
    expose_value=False,
    help="A third party's known deviations, besides the suite's own.",
)


@command.command("run")
@click.option(
    "--producer", multiple=True, metavar="NAME", help="Only arrays of this library; may be given more than once, as all of these."
)
@click.option("--consumer", multiple=True, metavar="NAME", help="Only what is handed to this library.")
@click.option("--route", multiple=True, type=click.Choice(handoff.ROUTES), help="Only this route.")
@click.option("--layer", multiple=True, type=click.Choice(LAYERS), help="Only this layer.")
@click.option("--case", multiple=True, metavar="GLOB", help="Only cases whose id fits, as in 'handoff/dlpack/numpy/torch/float32/*'.")
@click.option("--device", multiple=True, type=click.Choice(["cpu", "cuda"]), help="Only cases with a library on this device.")
@click.option("--quick", is_flag=True, help="A selection that still has every rule, pair, dtype, layout and state.")
@click.option("--jobs", type=click.IntRange(min=1), metavar="N", help="Processes at a time; default: one for each core.")
@click.option("--output", type=click.Path(file_okay=False, path_type=Path), metavar="DIR", help="Write the results into this folder.")
@_adapter
@_deviations
@_json
def run_command(*, jobs: int | None, output: Path | None, extra: tuple[str, ...], as_json: bool, **filters: Any) -> None:
    """Run the suite, or a part of it, on the libraries that are installed here.

    A case that kills its process kills nothing else. Exit status: 0 as promised and as known, 1 findings, 2 wrong use, or results that
    cannot be written, 130 interrupted.
    """
    if not hasattr(os, "fork"):
        raise click.UsageError("the suite forks a process for the cases, which this platform cannot; run it on Linux or macOS.")
    with redirect_stdout(sys.stderr):  # what libraries print when they are imported is no part of the answer
        adapters = _adapters(extra)
        for option in ("producer", "consumer"):
            _check_names(option, filters[option], adapters)
        selection = Selection(**filters)
        cases = selection.of(list(all_cases(adapters)), adapters)
        if not cases:
            raise click.UsageError(f"no case fits. {_why_none(selection, adapters)}")
        if output is not None:
            _check_folder(output)
        results = _run(cases, adapters, selection, extra, jobs, quiet=as_json)
    found = findings(results)
    end: click.ClickException | click.exceptions.Exit = click.exceptions.Exit(1 if found else 0)
    try:
        if output is not None:
            path = output / f"{name_of(results.environment)}.json.gz"
            _write(path, lambda: write(results, path), quiet=as_json)
    except BrokenError as error:  # what took minutes is shown all the same
        end = error
    try:
        _print(results, found, as_json=as_json)
    finally:
        if isinstance(end, BrokenError):  # also where nobody reads what is shown
            raise end
    raise end


def _print(results: Results, found: Sequence[Finding], *, as_json: bool) -> None:
    if as_json:
        print_json({"summary": results.summary, "findings": [vars(finding) for finding in found], "environment": results.environment})
    elif len(results.records) == 1:
        show_one(results.records[0], results.environment)
        if found:
            show_findings(found)
    else:
        show_summary(results)
        show_findings(found)


def _write(path: Path, write: Callable[[], None], *, quiet: bool) -> None:
    try:
        write()
    except OSError as error:
        raise BrokenError(f"{printable(str(path))} cannot be written: {error.strerror}") from error
    click.echo(f"Written: {printable(str(path))}", err=quiet)


def _run(
    cases: Sequence[Case], adapters: Mapping[str, Adapter], selection: Selection, extra: Sequence[str], jobs: int | None, *, quiet: bool
) -> Results:
    with Progress(len(cases), quiet=quiet) as progress:
        return run(cases, adapters, selection=selection.header(), extra=extra, jobs=jobs, on_result=progress.on_result)


def _check_folder(folder: Path) -> None:
    """Make sure of the folder before the run, and not after it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BrokenError(f"{printable(str(folder))} cannot be made: {error.strerror}") from error
    if not os.access(folder, os.W_OK):
        raise BrokenError(f"{printable(str(folder))} cannot be written to")


def _adapters(extra: Sequence[str]) -> dict[str, Adapter]:
    try:
        adapters = load_adapters(extra)
    except AdapterError as error:
        raise click.UsageError(str(error)) from error
    for name, adapter in adapters.items():
        try:
            adapter.available() or adapter.version()
        except Exception as error:  # a third party's may raise anything, and a traceback would have the status of findings
            raise click.UsageError(
                f"{name} does not say whether it is there: {type(error).__name__}: {first_sentence(str(error))}"
            ) from error
    return adapters


def _check_names(option: str, names: Sequence[str], adapters: Mapping[str, Adapter]) -> None:
    known_names = {*adapters, "capsule", *({case.producer if option == "producer" else case.consumer for case in _policy_cases()})}
    for name in names:
        if name not in known_names:
            raise click.BadParameter(
                f"{name!r} is not a library here{nearest(name, known_names)} Known: {', '.join(adapters)}.", param_hint=f"--{option}"
            )


def _policy_cases() -> Sequence[Case]:
    from interop_conformance.policy import layer as policy

    return tuple(policy.cases())


def _why_none(selection: Selection, adapters: Mapping[str, Adapter]) -> str:
    missing = {name: adapters[name].available() for name in (*selection.producer, *selection.consumer) if name in adapters}
    reasons = [f"{name}: {reason}." for name, reason in missing.items() if reason]
    return " ".join(reasons) or "`list` says what there is; an id is layer/route/producer/consumer/..., and * fits any part of it."


@command.command()
@click.argument("results", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), help="Write the page, one file without external requests.")
@click.option("--markdown", type=click.Path(dir_okay=False, path_type=Path), help="Write the tables as Markdown.")
@click.option("--junit", type=click.Path(dir_okay=False, path_type=Path), help="Write JUnit's XML.")
@_deviations
@_json
def report(*, results: tuple[Path, ...], html: Path | None, markdown: Path | None, junit: Path | None, as_json: bool) -> None:
    """Show results that a run has written: as tables here, or as files.

    Exit status: 0, 1 if the results have findings, 2 if a file is not whole or cannot be written.
    """
    try:
        from interop_conformance import report as reports
    except ModuleNotFoundError as error:
        raise click.UsageError(f"a report needs {error.name}; write: pip install 'array-interop[conformance]'") from error

    loaded = [_read(path) for path in results]
    for path, make in ((html, reports.html), (markdown, reports.markdown), (junit, reports.junit)):
        if path is not None:
            _check_folder(path.parent)
            text = make(loaded, rules(), known)
            _write(path, lambda path=path, text=text: write_whole(path, text.encode()), quiet=as_json)  # type: ignore[misc]
    found = [finding for one in loaded for finding in findings(one)]
    if as_json:
        print_json({"summaries": [one.summary for one in loaded], "findings": [vars(finding) for finding in found]})
    elif not (html or markdown or junit):
        for one in loaded:
            show_summary(one)
        show_findings(found)
    raise click.exceptions.Exit(1 if found else 0)


@command.command()
@click.argument("old", type=click.Path(path_type=Path))
@click.argument("new", type=click.Path(path_type=Path))
@_json
def diff(*, old: Path, new: Path, as_json: bool) -> None:
    """Show the cases whose outcome differs between two results.

    Exit status: 0 none differs, 1 some do, 2 if a file is not whole.
    """
    before, now = _read(old), _read(new)
    found = differences(before, now)
    if as_json:
        print_json({"differences": [_difference(one) for one in found]})
    else:
        show_differences(found, before, now)
    raise click.exceptions.Exit(1 if found else 0)


def _difference(one: Any) -> dict[str, Any]:
    sides = {
        name: None if record is None else {"outcome": record.outcome, "reason": record.reason}
        for name, record in (("old", one.old), ("new", one.new))
    }
    return {"case": one.case, "kind": one.kind, **sides}


@command.command("list")
@_adapter
@_deviations
@_json
def list_command(*, extra: tuple[str, ...], as_json: bool) -> None:
    """List what there is: libraries, routes, dtypes, layouts, states, rules, outcomes and known deviations."""
    with redirect_stdout(sys.stderr):
        libraries = {name: adapter.available() or adapter.version() for name, adapter in _adapters(extra).items()}
    there = {
        "libraries": libraries,
        "layers": list(LAYERS),
        "routes": list(handoff.ROUTES),
        "dtypes": list(DTYPES),
        "layouts": {layout.name: layout.meaning for layout in LAYOUTS.values()},
        "states": {name: state.meaning for name, state in STATES.items()},
        "outcomes": {name: outcome.meaning for name, outcome in OUTCOMES.items()},
        "rules": {rule.id: f"{rule.level}: {rule.title}" for rule in rules().values()},
        "deviations": {one.id: f"{one.library} {one.versions}: {one.happens}" for one in deviations()},
    }
    if as_json:
        print_json(there)
    else:
        show_list(there)


def _read(path: Path) -> Results:
    try:
        return read(path)
    except IncompleteError as error:
        raise BrokenError(str(error)) from error
