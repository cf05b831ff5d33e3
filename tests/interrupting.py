"""Interrupt something everywhere that a Ctrl-C may come, and look for what is left behind: ``python -m tests.interrupting GROUP [BODY ...]``.

A process of its own, as what is found may be broken for good. Python raises for a signal where a function begins, where a call has
ended and where a loop goes round; a profile function is told of most of the first two, and a trace function of each instruction shows
the rest. Between other instructions no signal comes, and there nothing could be promised: not between the last instruction of a
``try`` and the first of its ``finally``, say.
"""

from __future__ import annotations

import contextlib
import contextvars
import dis
import functools
import json
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import overrides
from torch.utils import _python_dispatch

import interop
from interop._model.policy import current_policy
from interop._model.scope import fast_path_off, in_force

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import CodeType, FrameType


class Interrupt(KeyboardInterrupt):
    """A Ctrl-C that comes from here."""


@functools.cache
def arrivals(code: CodeType) -> dict[int, str]:
    """Return the instructions of a function at which a signal may be raised, and the event that a tracer is told of there."""
    found, last = {}, None
    handlers = [(entry.start, entry.end) for entry in dis._parse_exception_table(code)]  # type: ignore[attr-defined]
    for one in dis.get_instructions(code):
        # After a call it is raised as if by the call, so not where a `try` ends with it.
        if (
            last is not None
            and last.opname.startswith("CALL")
            and all((low <= last.offset < high) == (low <= one.offset < high) for low, high in handlers)
        ):
            found[one.offset] = "opcode"
        if one.opname.startswith("JUMP_BACKWARD"):
            found[one.offset] = "opcode"
        if one.opname == "RESUME":  # not where a generator is raised in or closed
            found[one.offset] = "call"
        last = one
    return found


class Interrupter:
    """Raises at the point with a number, and says where that was."""

    def __init__(self, number: int) -> None:
        self.left, self.where, self.caught = number, "", list[Interrupt]()

    def point(self, frame: FrameType, event: str) -> None:
        self.left -= 1
        if self.left < 0 and not self.where:
            sys.settrace(None)
            sys.setprofile(None)
            self.where = f"{event} {frame.f_code.co_qualname} ({frame.f_code.co_filename.rpartition('/')[2]}:{frame.f_lineno})"
            raise Interrupt

    def profile(self, frame: FrameType, event: str, _: Any) -> None:
        if frame.f_code not in OWN and (event == "c_return" or (event == "call" and arrivals(frame.f_code).get(frame.f_lasti) == "call")):
            self.point(frame, event)

    def trace(self, frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code in OWN:
            return None
        frame.f_trace_lines, frame.f_trace_opcodes = False, True
        if event == "opcode" and arrivals(frame.f_code).get(frame.f_lasti) == "opcode":
            self.point(frame, event)
        return self.trace

    def run(self, body: Callable[[], object]) -> bool:
        """Return whether the body came to its end before the point."""
        sys.settrace(self.trace)
        sys.setprofile(self.profile)
        try:
            body()
        except Interrupt as interrupt:
            self.caught.append(interrupt)  # with its traceback, which must keep nothing in force
        finally:
            sys.settrace(None)
            sys.setprofile(None)
        return not self.where


OWN = {one.__code__ for one in vars(Interrupter).values() if callable(one)} | {arrivals.__wrapped__.__code__}


# What there is to leave behind.


def torchs() -> dict[str, Any]:
    """Return everything that torch has switched on in this thread."""
    return {
        "overrides": torch._C._is_torch_function_enabled(),
        "function modes": list(map(id, overrides._get_current_function_mode_stack())),
        "dispatch modes": list(map(id, _python_dispatch._get_current_dispatch_mode_stack())),
        "flags": {name: value for name, value in vars(_python_dispatch).items() if name.startswith("_is_in_")},
        "levels": torch._C._functorch.get_dynamic_layer_stack_depth(),
        "grad": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        "autocast": [torch.is_autocast_enabled(kind) for kind in ("cpu", "cuda")],
        "keys": (str(torch._C._dispatch_tls_local_include_set()), str(torch._C._dispatch_tls_local_exclude_set())),
        "default device": str(torch.get_default_device()),
    }


def jaxs() -> dict[str, Any]:
    """Return what JAX has switched on in this thread."""
    from jax._src import config, core

    guard = config.guard_lib.thread_local_state()
    levels = [str(getattr(guard, way)) for way in ("host_to_device", "device_to_device", "device_to_host")]
    return {
        "options": {name: str(state.get_local()) for name, state in config.config_states.items()},
        "guard": levels,
        "trace": str(core.trace_ctx.trace),
    }


def interops() -> dict[str, Any]:
    """Return what is in force, and every context variable besides."""
    own = {
        "policy": current_policy(),
        "fast path": fast_path_off.get(),
        **{kind: in_force(kind) for kind in ("record", "guard", "unwatched")},
    }
    variables = {var.name: repr(value) for var, value in contextvars.copy_context().items() if value not in ((), None, False)}
    return {"interop": {name: repr(value) for name, value in own.items()}, "variables": variables, "numpy": np.geterr()}


def left_behind(body: Callable[[], object], look: Callable[[], dict[str, Any]], *, step: int = 1) -> tuple[int, list[str]]:
    """Interrupt a body at each point in turn; return how many there are, and after which something was not as before."""
    for _ in range(3):
        body()
    before, found, number = look(), [], 0
    while len(found) < 5:
        interrupter = Interrupter(number)
        if interrupter.run(body):
            break
        now = look()
        if changed := [f"{name}: {before[name]} -> {now[name]}" for name in before if before[name] != now[name]]:
            found.append(f"{interrupter.where}: {'; '.join(changed)}")
            before = now
        number += step
    return number, found


class Subclass(torch.Tensor):
    """As users have them."""


class Plain(_python_dispatch.TorchDispatchMode):
    """A mode that changes nothing."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


REVERSED, TRACKED, LEAF = np.ones(3)[::-1], torch.ones(3, requires_grad=True), torch.ones(3)
SUBCLASS, HALF, CONJ = torch.ones(2).as_subclass(Subclass), torch.ones(2, dtype=torch.bfloat16), torch.ones(2, dtype=torch.complex64).conj()


@interop.neutral(runs_on="numpy")
def doubled(x: Any) -> Any:
    return x * 2


@interop.policy(grad="detach")
def decorated() -> Any:
    return interop.to_numpy(TRACKED)


def within(*blocks: Callable[[], Any]) -> Callable[[], None]:
    def body() -> None:
        with contextlib.suppress(interop.InteropError):
            entered(blocks)

    def entered(left: tuple[Callable[[], Any], ...]) -> None:
        if not left:
            interop.to_torch(REVERSED)
            interop.to_numpy(TRACKED, grad="detach")
            return
        with left[0]():
            entered(left[1:])

    return body


SHARED = interop.policy(grad="detach")
TORCH = {
    "a subclass": lambda: interop.to_numpy(SUBCLASS),
    "reversed": lambda: interop.to_torch(REVERSED),
    "tracked": lambda: interop.to_numpy(TRACKED, grad="detach", copy=True),
    "bfloat16": lambda: interop.to_numpy(HALF),
    "a conjugate": lambda: interop.to_numpy(CONJ),
    "a cast": lambda: interop.to_numpy(LEAF, dtype="float16"),
    "a copy in torch": lambda: interop.to_torch(TRACKED, copy=True),
    "a refusal": within(lambda: contextlib.nullcontext(interop.to_numpy(TRACKED))),
    "later": lambda: interop.to_numpy(LEAF, copy=True, blocking=False).result(),
    "a tree": lambda: interop.tree.convert({"a": [TRACKED, HALF], "b": REVERSED}, "numpy", policy="coerce"),
    "neutral": lambda: doubled(SUBCLASS),
}
BELOW = {"a copy": lambda: interop.to_numpy(SUBCLASS, copy=True), "a cast": lambda: interop.to_numpy(HALF, dtype="float32")}
BLOCKS = {
    "policy": within(lambda: interop.policy(grad="detach")),
    "a shared policy, twice": within(lambda: SHARED, lambda: SHARED),
    "guard": within(lambda: interop.guard(copies="error")),
    "native guard": within(lambda: interop.guard(transfers="error", native=True)),
    "record": within(interop.record),
    "all": within(interop.record, lambda: interop.policy(copy=True), interop.guard),
    "decorated": decorated,
    "no crossings": within(lambda: contextlib.suppress(AssertionError), lambda: interop.testing.assert_no_crossings(native=False)),
    "a source": within(lambda: interop.testing.assert_source_untouched(REVERSED)),
    "close": lambda: interop.testing.assert_close(LEAF, torch.ones(3) + 1e-8),
}


def jax_bodies() -> dict[str, Callable[[], object]]:
    import jax

    x, compact = jax.numpy.ones(3), np.ones(3, "float32")
    return {
        "from JAX": lambda: interop.to_numpy(x),
        "to JAX": lambda: interop.to_jax(compact),
        "from torch": lambda: interop.to_jax(LEAF, copy=True),
        "to torch": lambda: interop.to_torch(x, copy=True),
        "a cast": lambda: interop.to_numpy(x, dtype="float16"),
        "within JAX": lambda: interop.to_jax(x, copy=True),
        "native guard": within(lambda: interop.guard(transfers="error", native=True)),
    }


@contextlib.contextmanager
def leaky() -> Iterator[None]:
    """Enter as nothing here may: with what is entered lost, if the interrupt comes before it is returned."""
    stack = contextlib.ExitStack()
    stack.enter_context(torch._C.DisableTorchFunction())
    len("")
    with stack:
        yield


GROUPS: dict[str, tuple[Callable[[], dict[str, Callable[[], object]]], tuple[Callable[[], dict[str, Any]], ...]]] = {
    "below": (lambda: BELOW, (torchs, interops)),
    "torch": (lambda: TORCH, (torchs, interops)),
    "blocks": (lambda: BLOCKS, (torchs, interops)),
    "jax": (jax_bodies, (torchs, jaxs, interops)),
    "leaky": (lambda: {"a block that loses what it entered": within(leaky)}, (torchs, interops)),
}


def main(group: str, *names: str) -> None:
    """Print for each body of a group, or for those named, how many points it has, and what was found."""
    # A generator that is closed by the garbage collector is a function that begins, too; there Python prints what is raised.
    sys.unraisablehook = lambda _: None
    bodies, looks = GROUPS[group]

    def look() -> dict[str, Any]:
        return {name: value for one in looks for name, value in one().items()}

    def sweep(x: Any) -> Any:
        for name, body in bodies().items():
            if names and name not in names:
                continue
            print(json.dumps([name, *left_behind(body, look)]), flush=True)
        return x

    if group != "below":
        sweep(None)
        return
    torch.func.vmap(sweep)(LEAF)
    with Plain():
        sweep(None)


if __name__ == "__main__":
    main(*sys.argv[1:])
