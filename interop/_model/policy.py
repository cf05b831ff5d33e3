"""What a conversion may do: the permission table, the policy that holds it, and the scope that sets it.

`FIELDS` is the only list of the permissions; signatures, validation and the tables in the docs follow it.
A policy is data: it is the plan (`interop._model.plan`) that knows what each value means.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

from interop._model.scope import Entry, block, in_force, put
from interop._model.spelling import no_value, unknown
from interop._untraced import untraced

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

Grad = Literal["error", "detach"]
TransferRule = Literal["error", "allow"]
ReadOnly = Literal["copy", "error", "share"]
Casting = Literal["no", "safe", "same_kind"]
Mask = Literal["error", "drop"]
Units = Literal["error", "drop"]
Extension = Literal["keep", "widen"]
Layout = Literal["error", "dense"]


class Field(NamedTuple):
    """One permission: its values (the first is the default) and what it governs."""

    values: tuple[Any, ...]
    governs: str


FIELDS: dict[str, Field] = {
    "copy": Field((None, False, True), "copies, in the array API's words: False never copies, across devices neither"),
    "grad": Field(("error", "detach"), "a source that autograd tracks (tangents too), a target outside its graph"),
    "transfer": Field(("error", "allow"), "data that must cross to another device"),
    "readonly": Field(("copy", "error", "share"), "memory that one side holds to be constant and the other could write"),
    "casting": Field(("no", "safe", "same_kind"), "a dtype that the target lacks: widen without loss, or lose within the kind"),
    "mask": Field(("error", "drop"), "masked arrays in which something is masked; nulls"),
    "units": Field(("error", "drop"), "subclasses and wrappers whose numbers mean something only with their unit"),
    "extension": Field(("keep", "widen"), "dtypes that the target knows only as an extension (bfloat16, float8)"),
    "layout": Field(("error", "dense"), "sparse, quantized, mkldnn and other storage that is not plain strided memory"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What conversions may do; frozen, validated, hashable.

    Examples
    --------
    >>> Policy(grad="detach").grad
    'detach'
    >>> Policy(grad="detatch")
    Traceback (most recent call last):
    ...
    ValueError: grad='detatch' is not a value of this permission; did you mean 'detach'? Values: 'error', 'detach'.
    """

    copy: bool | None = None
    grad: Grad = "error"
    transfer: TransferRule = "error"
    readonly: ReadOnly = "copy"
    casting: Casting = "no"
    mask: Mask = "error"
    units: Units = "error"
    extension: Extension = "keep"
    layout: Layout = "error"

    def __new__(cls, **given: Any) -> Self:
        # Before the generated __init__ answers a misspelt field without naming the right one.
        check_names(given)
        return object.__new__(cls)

    def __post_init__(self) -> None:
        for name in FIELDS:
            check_value(name, getattr(self, name))

    def replace(self, **changes: Any) -> Policy:
        """Return a policy with these fields changed; raises TypeError or ValueError for wrong ones.

        >>> Policy().replace(transfer="allow").transfer
        'allow'
        """
        check_names(changes)
        return replace(self, **changes)

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as keyword arguments."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def check_names(names: Iterable[str], known: Iterable[str] = FIELDS, what: str = "permission") -> None:
    """Raise TypeError for a name that is not known, with the nearest right one."""
    known = list(known)
    for name in names:
        if name not in known:
            raise TypeError(unknown(name, what, known))


def check_value(name: str, value: Any) -> None:
    """Raise ValueError for a value that the permission does not have, with the nearest right one."""
    values = FIELDS[name].values
    # Identity for None and the booleans: 0 == False and 1 == True, but they are not what the user wrote.
    if not any(value is known or (isinstance(known, str) and isinstance(value, str) and known == value) for known in values):
        raise ValueError(no_value(name, value, values, "this permission"))


DEFAULT = Policy()
STRICT = Policy(copy=False, readonly="error")
COERCE = Policy(grad="detach", transfer="allow", casting="same_kind", mask="drop", units="drop", layout="dense")
PRESETS: dict[str, Policy] = {"strict": STRICT, "default": DEFAULT, "coerce": COERCE}
"""The named policies: strict shares or raises, default shares or copies, coerce converts whatever it takes."""


def current_policy() -> Policy:
    """Return the policy of the enclosing ``with interop.policy(...)``, or the default one."""
    policies = in_force("policy")
    return policies[-1] if policies else DEFAULT


def as_policy(base: Policy | str) -> Policy:
    """Return the policy that a preset's name or a `Policy` stands for; TypeError or ValueError otherwise."""
    if isinstance(base, Policy):
        return base
    if not isinstance(base, str):
        raise TypeError(f"a policy is a Policy or one of {', '.join(map(repr, PRESETS))}, got {base!r}.")
    if base not in PRESETS:
        raise ValueError(unknown(base, "policy", PRESETS))
    return PRESETS[base]


def resolve_policy(base: Policy | str | None, permissions: Mapping[str, Any]) -> Policy:
    """Return the policy in force for a call: its keywords, then ``policy=``, then the scope.

    A permission that is None means "as the policy says"; for ``copy`` too, whose None is also a value.
    """
    found = current_policy() if base is None else as_policy(base)
    given = {name: value for name, value in permissions.items() if value is not None}
    for name, value in given.items():
        if not isinstance(value, str | bool):  # also whatever has no hash
            check_value(name, value)
    return _changed(found, tuple(given.items())) if given else found


@lru_cache(maxsize=1024)
def _changed(base: Policy, changes: tuple[tuple[str, Any], ...]) -> Policy:
    return base.replace(**dict(changes))


@untraced
@block
def policy(base: Policy | str | None = None, /, **changes: Any) -> Iterator[Policy]:
    """Make a policy the default in this scope; nests, and is not seen by other threads or asyncio tasks.

    Parameters
    ----------
    base
        A `Policy`, ``"strict"``, ``"default"`` or ``"coerce"``; without it the enclosing scope's policy.
    **changes
        Permissions to change on top of it. Here ``copy=None`` is the array API's None.

    Notes
    -----
    A new thread and a spawned process begin without it, an asyncio task and a forked process with what was in force where they
    were started. So a call that is sent to a pool of processes names its permissions itself.

    Examples
    --------
    >>> with policy(grad="detach"), policy(transfer="allow") as inner:
    ...     print(inner.grad, inner.transfer)
    detach allow
    """
    found = current_policy() if base is None else as_policy(base)
    check_names(changes)
    for name, value in changes.items():
        check_value(name, value)  # also whatever has no hash
    made = _changed(found, tuple(changes.items()))
    # A plain array converts alike under every policy but one that always copies.
    with put(Entry("policy", made, fast_path_off=made.copy is True)):
        yield made
