"""The fast path: a conversion that needs no decision, done before the general way is entered.

A backend declares its fast paths as data (`interop.backends.base.Shortcut`: the guards, then the handoff);
this module only looks them up and asks the guards, in order. Whatever is not plain goes the general way, which
decides. So a fast path can decline, but it can never decide anything.

Everything is there twice: in C (`interop/native/module.c`), and here in Python where there was no compiler.
`tests/engine/test_fastpath.py` holds both against the general way.
"""

from __future__ import annotations

import functools
import inspect
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from interop._model.identity import is_found_by_identity
from interop._model.policy import check_names
from interop._model.scope import fast_path_off
from interop._untraced import left_alone, prepare, skip
from interop.backends import when_loaded
from interop.backends.shortcut import DETACH, LOW, PLAIN
from interop.native.compiled import compiled

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from interop.backends.base import Backend, Shortcut

P = ParamSpec("P")
R = TypeVar("R")

DETACHING = {"grad": "detach"}

_tables: dict[tuple[str, frozenset[str]], dict[type, Callable[[Any], Any]]] = {}
_with_streams: list[Backend] = []


def table(target: str, permitted: frozenset[str] = PLAIN) -> dict[type, Callable[[Any], Any]]:
    """Return the fast paths of a target: type -> function that returns the result, or None for the general way.

    `permitted` is what the call permits, as in `Backend.shortcuts`. The table fills as backends are loaded.
    """
    return _tables.setdefault((target, permitted), {})


def register(backend: Backend) -> None:
    """Enter a backend's fast paths into the tables."""
    for key, by_type in backend.shortcuts().items():
        _enter(table(*key), by_type)
    if backend.has_streams:
        _pair(backend)
    prepare()  # a verb in C calls none of the functions that do


def _pair(backend: Backend) -> None:
    """Enter the fast paths on a device between a backend and those that came before, both ways."""
    for other in _with_streams:
        for giver, receiver in ((backend, other), (other, backend)):
            consumer = receiver.as_consumer()
            if consumer is not None:
                _enter(table(receiver.name), giver.export_to(consumer))
    _with_streams.append(backend)


def _enter(attempts: dict[type, Callable[[Any], Any]], by_type: Mapping[Any, Shortcut]) -> None:
    attempts.update({kind: guarded(shortcut) for kind, shortcut in by_type.items() if is_found_by_identity(kind)})


def entry_of(attempts: dict[type, Callable[[Any], Any]], x: Any) -> Callable[[Any], Any] | None:
    """Return the fast path of an object's type, as `entry_of` of interop/native/fastpath.h does."""
    return attempts.get(type(x)) if is_found_by_identity(type(x)) else None


when_loaded(register)


def guarded(shortcut: Shortcut) -> Callable[[Any], Any]:
    """Return a fast path as a function that asks the guards first, and returns None where one forbids it."""
    skip(shortcut.handoff)
    return guarded_in_python(shortcut) if compiled is None else guarded_in_c(shortcut)


def guarded_in_c(shortcut: Shortcut) -> Callable[[Any], Any]:
    """Return a fast path as an object of the compiled module."""
    made: Callable[[Any], Any] = compiled.Guarded(
        checks_itself=shortcut.checks_itself,
        must_be_false=shortcut.must_be_false,
        must_be_true=shortcut.must_be_true,
        no_level=shortcut.no_level,
        no_mode=shortcut.no_mode,
        getter=shortcut.getter,
        handoff=shortcut.handoff,
        declines=shortcut.declines,
        expects_view=shortcut.expects_view,
        has_storage=shortcut.has_storage,
        read_only=shortcut.read_only,
        offset=shortcut.offset,
    )
    return made


def guarded_in_python(shortcut: Shortcut) -> Callable[[Any], Any]:
    """Return a fast path as a Python function."""
    must_be_false, must_be_true = shortcut.must_be_false, shortcut.must_be_true

    def attempt(x: Any) -> Any:
        if not (shortcut.checks_itself and shortcut.checks_itself()) and any(_follow(x, path) for path in must_be_false):
            return None
        if not all(_follow(x, path) for path in must_be_true):
            return None
        if any(levels[key] >= 0 for levels, key in shortcut.no_level) or any(ask() for ask in shortcut.no_mode):
            return None
        try:
            result = shortcut.handoff(_follow(x, shortcut.getter))
        except shortcut.declines:
            return None
        return result if shortcut.expects_view is None else _checked_view(x, result, shortcut)

    return attempt


def _checked_view(x: Any, result: Any, shortcut: Shortcut) -> Any:
    if type(result) is not shortcut.expects_view or result.flags.owndata:
        return None
    has_storage, offset = shortcut.has_storage, shortcut.offset
    if has_storage is not None and result.__array_interface__["data"][0] < LOW and not (offset and offset(x) == 0) and not has_storage(x):
        return None
    if shortcut.read_only:
        result.flags.writeable = False
    return result


def _follow(x: Any, path: tuple[Any, ...]) -> Any:
    for descriptor in path:
        x = descriptor.__get__(x)
    return x


def reject_unknown_keywords(verb: Callable[P, R]) -> Callable[P, R]:
    """Answer a misspelt keyword with the nearest right one; the verb's signature stays what it is."""
    parameters = inspect.signature(verb).parameters.values()
    known = dict.fromkeys(one.name for one in parameters if one.kind is one.KEYWORD_ONLY)
    positional = [one.name for one in parameters if one.kind is one.POSITIONAL_ONLY]

    skip(verb)

    @left_alone
    @functools.wraps(verb)
    def call(*args: Any, **keywords: Any) -> Any:
        prepare()
        if not keywords.keys() <= known.keys():
            if by_position := keywords.keys() & set(positional):
                name = min(by_position)
                raise TypeError(f"{name}= is given by position, as in {verb.__name__}({', '.join(positional)}).")
            check_names(keywords, known, "keyword")
        return verb(*args, **keywords)

    return call


def is_opaque_in_python(x: Any) -> bool:
    """Return whether optree has to leave a node of a tree alone, although it could flatten it.

    Ordered dicts and tuples that carry attributes (a ``state_dict``, SciPy's results), which a new one would lose, and subclasses of
    named tuples, which may have a constructor of their own (``PackedSequence``).
    """
    kind = type(x)
    if issubclass(kind, tuple) and kind is not tuple and kind.__base__ is not tuple:
        return True
    has_attributes = kind.__dictoffset__ != 0 if issubclass(kind, tuple) else kind is OrderedDict
    return has_attributes and bool(object.__getattribute__(x, "__dict__"))


def convert_all_in_python(leaves: list[Any], attempts: dict[type, Callable[[Any], Any]]) -> list[Any]:
    """Return the result of the fast path for each leaf's type, None without one; a leaf that occurs again gets the same result."""
    seen: dict[int, Any] = {}
    results = []
    for leaf in leaves:
        attempt, key = entry_of(attempts, leaf), id(leaf)
        if attempt is not None and key not in seen:
            seen[key] = attempt(leaf)
        results.append(seen.get(key))
    return results


is_opaque: Callable[[Any], bool] = is_opaque_in_python if compiled is None else compiled.is_opaque
convert_all: Callable[[list[Any], dict[type, Callable[[Any], Any]]], list[Any]] = (
    convert_all_in_python if compiled is None else compiled.convert_all
)


def with_fast_path(target: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Try the fast path before a verb with a fixed target is called; the verb's signature stays what it is."""

    def decorate(verb: Callable[P, R]) -> Callable[P, R]:
        general_way = reject_unknown_keywords(verb)
        made = verb_in_python(target, general_way) if compiled is None else verb_in_c(target, general_way)
        return cast("Callable[P, R]", functools.update_wrapper(made, verb))

    return decorate


def verb_in_c(target: str, general_way: Callable[..., Any]) -> Callable[..., Any]:
    """Return the verb as an object of the compiled module."""
    made: Callable[..., Any] = compiled.Verb(
        plain=table(target), detaching=table(target, DETACH), fast_path_off=fast_path_off, general=general_way
    )
    return made


def verb_in_python(target: str, general_way: Callable[..., Any]) -> Callable[..., Any]:
    """Return the verb as a Python function."""

    @left_alone
    def call(x: Any, /, **keywords: Any) -> Any:
        prepare()
        result = _attempted(x, target, keywords)
        return general_way(x, **keywords) if result is None else result

    return call


def with_fast_path_for_any_target(verb: Callable[P, R]) -> Callable[P, R]:
    """Try the fast path before a verb whose target is its second argument, where that is the name of a backend."""
    general_way = reject_unknown_keywords(verb)

    @left_alone
    @functools.wraps(verb)
    def call(*args: P.args, **keywords: P.kwargs) -> R:
        prepare()
        if len(args) == 2 and type(args[1]) is str:  # not by comparison: it may be an array by mistake
            result = _attempted(args[0], args[1], keywords)
            if result is not None:
                return cast("R", result)
        return general_way(*args, **keywords)

    return call


@skip
def _attempted(x: Any, target: str, keywords: dict[str, Any]) -> Any:
    """Return the result of a fast path; None for the general way."""
    # The value's type first: compared with a word, an array has an answer for each element.
    if fast_path_off.get() is not None or (keywords and (type(keywords.get("grad")) is not str or keywords != DETACHING)):
        return None
    for permitted in (DETACH, PLAIN) if keywords else (PLAIN,):
        attempt = entry_of(_tables.get((target, permitted), {}), x)
        result = None if attempt is None else attempt(x)
        if result is not None:
            return result
    return None
