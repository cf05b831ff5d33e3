"""``interop explain``: the plan of a conversion, from a description instead of an array.

Exit status 0 if the conversion would be done, 1 if it would be refused, 2 for wrong use. The permission options
are made from `interop._model.policy.FIELDS`, the one list of the permissions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from interop._model.description import Description, Device
from interop._model.dtypes import dtype_name
from interop._model.policy import FIELDS, PRESETS, as_policy
from interop._verbs import explain
from interop.backends import name_of_target
from interop.cli import print_json
from interop.doctor.examination import load
from interop.errors import BackendNotInstalledError, InteropError
from interop.notation import parse

if TYPE_CHECKING:
    from collections.abc import Callable

    from interop._model.plan import Plan

__all__ = ["command"]


def _checked(read: Callable[[str], Any]) -> Callable[..., Any]:
    """Return a callback that reads a text with a function of interop, whose ValueError is the answer to wrong use."""

    def callback(_context: click.Context, _parameter: click.Parameter, text: str | None) -> Any:
        try:
            return None if text is None else read(text)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None

    return callback


def _spelled(value: Any) -> str:
    """Return a permission's value as it is written on a command line."""
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def _permission_options(function: Callable[..., None]) -> Callable[..., None]:
    for name, field in reversed(FIELDS.items()):
        choices = click.Choice([_spelled(value) for value in field.values])
        says = f"{field.governs[0].upper()}{field.governs[1:]}. Default: as the policy says."
        function = click.option(f"--{name}", type=choices, help=says)(function)
    return function


@click.command()
@click.argument("spec", callback=_checked(parse))
@click.argument("target", callback=_checked(name_of_target))
@click.option("--device", metavar="DEVICE", callback=_checked(Device.parse), help="The device of the result; permits the crossing.")
@click.option("--dtype", metavar="DTYPE", callback=_checked(dtype_name), help="An explicit cast; permits its loss.")
@click.option("--policy", type=click.Choice(list(PRESETS)), help="The policy that the permissions change.")
@_permission_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(*, spec: Description, target: str, as_json: bool, **options: Any) -> None:
    """Say what converting an array like SPEC to the library TARGET would do; nothing is converted.

    SPEC is LIBRARY:DTYPE[SHAPE]@DEVICE+FLAG in quotes, as in 'torch:float32[2,3]@cuda:0+grad'; DEVICE and
    FLAGs may be left out. TARGET is the name of a library, as in `interop doctor`.
    """
    try:
        plan = _plan(spec, target, {name: word for name, word in options.items() if word is not None})
    except InteropError as error:
        # No plan, because a library is missing or broken: the conversion would fail in these words.
        if as_json:
            print_json({"ok": False, "error": {"code": error.code, "message": error.message, "hint": error.hint}})
        else:
            click.echo(f"[{error.code}] {error}", err=True)
        raise click.exceptions.Exit(1) from None
    _show(plan, as_json=as_json)
    raise click.exceptions.Exit(0 if plan.ok else 1)


def _plan(spec: Description, target: str, given: dict[str, Any]) -> Plan:
    for name in (spec.backend, target):
        visit = load(name)
        if visit.backend is None:
            raise BackendNotInstalledError(f"{name} cannot be used: {visit.problem or 'it is not installed'}.", hint=visit.repair)
    # As a finished policy, so that --copy none is a value here and not "as the policy says".
    words = {name: {_spelled(value): value for value in field.values} for name, field in FIELDS.items()}
    permissions = {name: words[name][given.pop(name)] for name in FIELDS if name in given}
    return explain(spec, target, policy=as_policy(given.pop("policy", "default")).replace(**permissions), **given)


def _show(plan: Plan, *, as_json: bool) -> None:
    if as_json:
        print_json({"ok": plan.ok, **plan.as_dict()})
        return
    click.echo(str(plan))
    if plan.permissions:
        options = " ".join(f"--{name} {_spelled(value)}" for name, value in plan.permissions.items())
        click.echo(f"  On this command line: {options}")
