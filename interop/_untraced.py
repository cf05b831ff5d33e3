"""What torch's compiler leaves alone: it calls interop's functions as they are, and does not look into them.

A decision about an array depends on what a trace does not have: the type that the array really is, its memory, the policy in scope.
So `torch.compile` breaks its graph before such a function, runs it as Python would, and goes on after it. There are two sides to that.

- Where compiled code calls the function, the compiler reads ``_torchdynamo_disable`` of it. That is what `torch.compiler.disable` sets, and
  setting it needs no torch.
- The function then runs, and the compiler looks at each frame that Python enters (PEP 523), of which it knows the code only. torch has to be told
  once which code to skip, with all that it calls. But torch may be imported after interop, and the first call of all may be one inside of
  compiled code. So each such frame begins with `prepare`. Run by Python it tells torch; seen by the compiler it makes it give the frame up.

The names are torch's own. They are not documented, and have been the same since 2.10 (`torch/_dynamo/eval_frame.py`, `decorators.py`, `trace_rules.py`).
"""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType

P = ParamSpec("P")
R = TypeVar("R")
Function = TypeVar("Function", bound="Callable[..., Any]")

WHY = "interop's functions are called as they are: what they do depends on the arrays themselves"

_skipped: set[CodeType] = set()
_told: set[CodeType] = set()


def prepare() -> None:
    """Tell torch what to skip, once it is there; the first statement of a function that compiled code may call."""
    if len(_told) != len(_skipped):
        _tell()


def _tell() -> None:
    # In sys.modules as soon as torch's extension is loaded, however far the import of torch itself has come.
    frames = sys.modules.get("torch._C._dynamo.eval_frame")
    if frames is None:
        return
    skip = frames._FrameAction.SKIP
    for code in _skipped - _told:
        frames.set_code_exec_strategy(code, frames._FrameExecStrategy(skip, skip))  # the frame, and those that it calls
        _told.add(code)


def _give_up() -> None:
    """Make the compiler give up the frame it is at; it calls this in the place of `prepare`."""
    _told.clear()  # torch.compiler.reset() makes torch forget
    _tell()
    raise sys.modules["torch._dynamo.exc"].SkipFrame(WHY)


def at_trace_time(function: Function) -> Function:
    """Let the compiler call a function itself, and take the result for a constant; its arguments are constants too (`assume_constant_result`)."""
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


def traced_as(traced: Callable[..., Any]) -> Callable[[Function], Function]:
    """Let the compiler look into another function where compiled code calls this one."""

    def decorate(function: Function) -> Function:
        function._torchdynamo_inline = traced  # type: ignore[attr-defined]
        return function

    return decorate


traced_as(at_trace_time(_give_up))(prepare)


def skip(function: Any) -> Any:
    """Let the compiler skip the frames of a function, and of all that it calls."""
    code = getattr(function, "__code__", None)
    if code is not None:  # not written in C
        _skipped.add(code)
    return function


def left_alone(function: Function) -> Function:
    """Let the compiler call a function as it is: a decorator, for one that begins with `prepare` and calls what is `skip`ped."""
    skip(function)
    function._torchdynamo_disable = True  # type: ignore[attr-defined]
    function._torchdynamo_disable_msg = WHY  # type: ignore[attr-defined]
    return function


def untraced(function: Callable[P, R]) -> Callable[P, R]:
    """Let the compiler call a function as it is: a decorator for any."""
    skip(function)

    @left_alone
    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        prepare()
        return function(*args, **kwargs)

    return call
