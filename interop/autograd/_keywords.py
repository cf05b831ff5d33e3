"""What the public functions share: each takes a function, or is a decorator; and a wrong keyword is answered with the right one."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from interop._model.policy import check_names

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
R = TypeVar("R")


def function_or_decorator(verb: Callable[P, R]) -> Callable[P, R]:
    """Make a decorator of a verb that is called without a function, and check its keywords; the signature stays what it is.

    Raises
    ------
    TypeError
        For a keyword that the verb does not have, with the right one; for what is no function.
    """
    known = [one.name for one in inspect.signature(verb).parameters.values() if one.kind is one.KEYWORD_ONLY]

    @functools.wraps(verb)
    def call(*functions: Any, **keywords: Any) -> Any:
        check_names(keywords, known, f"keyword of {verb.__name__}")
        if not functions or functions[0] is None:
            return functools.partial(call, **keywords)
        if not callable(functions[0]):
            raise TypeError(f"{verb.__name__} takes a function, got {functions[0]!r}.")
        return verb(*functions, **keywords)

    return call
