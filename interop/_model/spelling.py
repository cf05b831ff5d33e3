"""Names in messages: the nearest right word for a wrong one, and what an object is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


# As `type` itself answers: a metaclass may have a property of the same name, which runs, and may raise.
_module_of, qualname_of = (type.__dict__[name].__get__ for name in ("__module__", "__qualname__"))

_BY_POSITION = "the library by position, or like="

ELSEWHERE: dict[str, tuple[tuple[str, str], ...]] = {
    **dict.fromkeys(("detach", "no_grad", "stop_gradient"), (("grad", "grad='detach'"),)),
    "requires_grad": (("dtype", "result.requires_grad_(), after the conversion"),),
    "force": (("policy", "policy='coerce'"),),
    **dict.fromkeys(("cpu", "to_cpu", "allow_transfer"), (("transfer", "transfer='allow'"),)),
    **dict.fromkeys(
        ("blocking", "non_blocking"), (("blocking", "blocking=False"), ("stream", "stream=, which orders the work: nothing waits here"))
    ),
    **dict.fromkeys(("zero_copy", "zero_copy_only", "share", "share_memory", "copy_if_needed"), (("copy", "copy=False"),)),
    **dict.fromkeys(("writable", "writeable"), (("readonly", "readonly='share'"),)),
    **dict.fromkeys(("dense", "to_dense", "todense", "densify"), (("layout", "layout='dense'"),)),
    **dict.fromkeys(("unit", "drop_units"), (("units", "units='drop'"),)),
    **dict.fromkeys(("cast", "astype", "type"), (("dtype", "dtype="),)),
    **dict.fromkeys(
        ("backend", "library", "lib", "framework", "module", "target"),
        (("runs_on", "runs_on="), ("like", _BY_POSITION)),
    ),
    "runs_on": (("like", _BY_POSITION),),
    "mixed": (("like", "like='first' (everything follows the first array) or to= (everything goes to that library)"),),
}
"""Keywords that people bring from elsewhere: what to write, in the first of these whose keyword there is."""


def nearest(word: str, words: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"``, or a full stop when nothing is near."""
    from difflib import get_close_matches  # on request: only mistakes need it

    found = get_close_matches(word.lower(), list(words), n=1, cutoff=0.5)
    return f"; did you mean {found[0]!r}?" if found else "."


def unknown(word: str, what: str, known: Iterable[str]) -> str:
    """Return the text of the error for a name that is not known.

    >>> unknown("toch", "backend", ["numpy", "torch"])
    "'toch' is not a backend; did you mean 'torch'? Known: numpy, torch."
    >>> unknown("detach", "keyword", ["copy", "grad"])
    "'detach' is not a keyword; write grad='detach'. Known: copy, grad."
    """
    known = list(known)
    here = [text for needed, text in ELSEWHERE.get(word, ()) if needed in known and not what.startswith("backend")]
    near = f"; write {here[0]}." if here else nearest(word, known)
    return f"{word!r} is not a {what}{near} Known: {', '.join(known)}."


def no_attribute(module: str, name: str, known: Iterable[str]) -> AttributeError:
    """Return the error for a module's attribute that is not there, with the nearest one; without, for private names, which only tools ask for.

    >>> str(no_attribute("interop.tree", "convrt", ["convert", "explain"]))
    "module 'interop.tree' has no attribute 'convrt'; did you mean 'convert'?"
    """
    return AttributeError(f"module {module!r} has no attribute {name!r}{'' if name.startswith('_') else nearest(name, known)}")


def no_value(name: str, value: Any, values: Sequence[Any], of: str = "") -> str:
    """Return the text of the error for a keyword's value that is none of those it may have.

    >>> no_value("others", "kept", ("keep", "error"))
    "others='kept' is not a value; did you mean 'keep'? Values: 'keep', 'error'."
    """
    near = nearest(str(value), [one for one in values if isinstance(one, str)])
    return f"{name}={value!r} is not a value{of and ' of '}{of}{near} Values: {', '.join(map(repr, values))}."


def type_name(x: Any) -> str:
    """Return the qualified name of an object's class, as messages have it.

    >>> type_name(1), type_name(nearest)
    ('int', 'function')
    """
    kind = type(x)
    return f"{module_of(kind)}.{qualname_of(kind)}".removeprefix("builtins.").removeprefix(".")


def module_of(kind: type) -> str:
    """Return the name of the module that a class is from; empty where the class says no name.

    >>> import decimal
    >>> module_of(decimal.Decimal)
    'decimal'
    """
    try:
        found = _module_of(kind)
    except AttributeError:  # made by code that is in no module
        return ""
    return found if isinstance(found, str) else ""
