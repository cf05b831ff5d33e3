"""Every source of the corpus x target x permission, really converted; one line of JSON for each finding.

Run as a program (``python -m tests.enumeration numpy``), because the point is that nothing here aborts the
interpreter: `tests/test_enumeration.py` starts it in a process of its own and reads what is left.
"""

from __future__ import annotations

import argparse
import json
import warnings
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import _disable_current_modes

import interop
from interop import InteropError, convert, describe, explain, shares_memory
from interop.errors import ERRORS
from tests.corpus import SOURCES, Source
from tests.permissions import POLICIES
from tests.sabotage import SABOTAGES

COERCE = interop.COERCE.replace(copy=True)


def snapshot(x: Any) -> tuple[Any, ...]:
    """Return what must not change about a source."""
    if isinstance(x, np.ndarray):
        return (x.shape, x.strides, x.dtype, x.flags.writeable, x.tobytes() if not x.dtype.hasobject else None)
    if isinstance(x, torch.Tensor) and not isinstance(x, torch.nn.parameter.UninitializedParameter):
        return (x.dtype, x.device, x.requires_grad, None if x.is_inference() else x._version, x.layout, describe(x))
    if type(x).__qualname__ == "ArrayImpl" and not x.is_deleted():
        return (x.dtype, x.sharding, x.weak_type, x.format, x.tolist(), x.unsafe_buffer_pointer())
    if is_strict(x):
        return (str(x.device), *snapshot(x._array))
    return ()


def is_strict(x: Any) -> bool:
    return type(x).__module__.startswith("array_api_strict")


def is_writable(x: Any) -> bool:
    """Return whether whoever holds the array can write through it."""
    if isinstance(x, torch.Tensor):
        return True
    inner = x._array if is_strict(x) else x
    return isinstance(inner, np.ndarray) and inner.flags.writeable  # no array of JAX's can be written to


def values_of(result: Any) -> np.ndarray:
    """Return a result's values by its library's own path, not by interop's."""
    if isinstance(result, np.ndarray):
        return result
    if not isinstance(result, torch.Tensor):
        return result._array if is_strict(result) else np.asarray(result)
    with _disable_current_modes():  # a source may be made under FakeTensorMode, which would answer for the result
        plain = result.detach()
        return np.array((plain.float() if plain.dtype.is_floating_point and plain.dtype.itemsize < 4 else plain).tolist()).reshape(
            plain.shape
        )


def same_values(result: Any, truth: np.ndarray) -> bool:
    got = values_of(result)
    wide = np.complex128 if truth.dtype.kind == "c" or truth.dtype.name == "complex32" else np.float64
    return got.shape == truth.shape and np.array_equal(got.astype(wide), truth.astype(wide))


class Enumeration:
    """Counts outcomes and collects whatever should not be."""

    def __init__(self) -> None:
        self.counts = {"shared": 0, "copied": 0, "refused": 0}
        self.faults: dict[str, str] = {}

    def fault(self, source: Source, target: str, policy: Any, what: str) -> None:
        self.faults.setdefault(f"{source} -> {target}: {what}", str(policy))

    def run(self, source: Source, target: str) -> None:
        if (source.name, target) == ("jax-tracer", "jax"):
            # Within its library a tracer stays one, and this one's trace is over: JAX raises UnexpectedTracerError and the like.
            self.counts["refused"] += len(POLICIES)
            return
        with source.inside():
            x = source.make()
            before = snapshot(x)
            for policy in POLICIES:
                self.convert(source, x, target, policy)
                if snapshot(x) != before:
                    self.fault(source, target, policy, "the source was touched")
                    return

    def convert(self, source: Source, x: Any, target: str, policy: Any) -> None:
        plan = explain(x, target, policy=policy)
        try:
            result = convert(x, target, policy=policy)
        except InteropError as error:
            self.refused(source, x, target, policy, plan, error)
        except Exception as error:  # the finding that this enumeration looks for
            self.fault(source, target, policy, f"unexplained {type(error).__name__}: {error}")
        else:
            self.converted(source, x, target, policy, plan, result)

    def refused(self, source: Source, x: Any, target: str, policy: Any, plan: Any, error: InteropError) -> None:
        self.counts["refused"] += 1
        if type(error) is not ERRORS[error.code] or not error.hint or plan.ok:
            self.fault(source, target, policy, f"odd refusal {type(error)} hint={error.hint!r} plan={plan}")
        again = policy.replace(**error.permissions) if error.permissions else COERCE
        try:
            convert(x, target, policy=again)
        except InteropError as second:
            if error.permissions:
                self.fault(source, target, policy, f"{error.permissions} did not help: {second}")
        else:
            if not error.permissions:
                self.fault(source, target, policy, f"final, but COERCE converts: {error}")

    def converted(self, source: Source, x: Any, target: str, policy: Any, plan: Any, result: Any) -> None:
        within = plan.description.backend == target
        if not within:
            if source.truth is None:
                self.fault(source, target, policy, f"there is nothing to convert, and it gave {result}")
            elif not same_values(result, source.truth):
                self.fault(source, target, policy, f"wrong values {result}")
            self.lost(source, target, policy, result, shared=plan.shares_memory)
        self.shared(source, x, target, policy, plan, result)

    def lost(self, source: Source, target: str, policy: Any, result: Any, *, shared: bool) -> None:
        permitted = {"grad": policy.grad == "detach", "mask": policy.mask == "drop", "layout": policy.layout == "dense"}
        permitted["transfer"] = policy.transfer == "allow"
        for what in source.lost & permitted.keys():
            if not permitted[what]:
                self.fault(source, target, policy, f"lost silently: {what}")
        writable = is_writable(result)
        if "readonly" in source.lost and shared and writable and policy.readonly != "share" and describe(result).size:
            self.fault(source, target, policy, "read-only memory became writable")
        if "grad" in source.lost and shared and writable and target != "torch" and policy.readonly != "share" and result.size:
            self.fault(source, target, policy, "a write would bypass the version counter")

    def shared(self, source: Source, x: Any, target: str, policy: Any, plan: Any, result: Any) -> None:
        self.counts["shared" if plan.shares_memory else "copied"] += 1
        if plan.description.pointer is None or not plan.description.size:
            return
        shared = shares_memory(x, result)
        if shared != plan.shares_memory:
            self.fault(source, target, policy, f"the plan said shares_memory={plan.shares_memory}, and it is {shared}")
        crossed = plan.device != plan.description.device  # which copy= does not speak of
        if (policy.copy is True and shared) or (policy.copy is False and not shared and not crossed):
            self.fault(source, target, policy, f"copy={policy.copy}, and shared is {shared}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("target")
    parser.add_argument("--only", help="the name of one source")
    parser.add_argument("--sabotage", choices=SABOTAGES, help="a fault to plant in interop first")
    words = parser.parse_args()
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", message=".torch.jit.script")  # torch's own, on the first dual tensor
    warnings.filterwarnings("ignore", message="The PyTorch API of MaskedTensors")  # torch.masked, on every operation
    warnings.filterwarnings("ignore", message="ComplexHalf support is experimental")  # torch, on making the source
    SABOTAGES.get(words.sabotage, lambda: None)()
    found = Enumeration()
    for source in SOURCES:
        if words.only in (None, source.name):
            print(json.dumps({"at": source.name}), flush=True)
            found.run(source, words.target)
    print(json.dumps({"counts": found.counts, "faults": len(found.faults), "first": list(found.faults.items())[:20]}), flush=True)


if __name__ == "__main__":
    main()
