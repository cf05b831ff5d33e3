"""Keywords that a public function does not have: an error that names the right one."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from interop._model.policy import check_names

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["reject_unknown_keywords"]

P = ParamSpec("P")
R = TypeVar("R")

RENAMED = {"backend": "runs_on"}
"""Keywords that users bring from elsewhere. Their spelling is too far from the right one for a suggestion by spelling."""


def reject_unknown_keywords(function: Callable[P, R]) -> Callable[P, R]:
    """Raise TypeError for a keyword that is none of the function's, with the right one; the signature stays what it is."""
    known = [one.name for one in inspect.signature(function).parameters.values() if one.kind is one.KEYWORD_ONLY]

    @functools.wraps(function)
    def call(*args: Any, **keywords: Any) -> Any:
        for name in keywords.keys() & RENAMED.keys():
            if RENAMED[name] in known:
                raise TypeError(f"{function.__name__} has no {name}=: write {RENAMED[name]}={keywords[name]!r}.")
        check_names(keywords, known, f"keyword of {function.__name__}")
        return function(*args, **keywords)

    return call
