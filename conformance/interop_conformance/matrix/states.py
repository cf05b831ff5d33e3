"""The states of the matrix: what an array may carry or await besides its values."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["STATES", "State"]


class State(NamedTuple):
    """`carries` is what must not be lost without permission; `data` is False where there are no values."""

    meaning: str
    carries: str = ""
    data: bool = True


STATES = {
    "plain": State("nothing besides its values"),
    "read-only": State("may not be written to", carries="readonly"),
    "masked": State("some elements are masked out", carries="mask"),
    "nulls": State("some elements are null", carries="mask"),
    "big-endian": State("the other byte order"),
    "subclass": State("an instance of a user's subclass"),
    "grad": State("a leaf that autograd tracks", carries="grad"),
    "grad-non-leaf": State("computed from a tracked leaf", carries="grad"),
    "parameter": State("a module's parameter", carries="grad"),
    "grad-under-no-grad": State("tracked, looked at inside no_grad", carries="grad"),
    "dual": State("has a forward-mode tangent", carries="grad"),
    "conj": State("a conjugation is pending"),
    "neg": State("a negation is pending"),
    "inference": State("made in inference mode"),
    "sparse": State("stored as coordinates and values", carries="layout"),
    "quantized": State("stored as scaled integers", carries="layout"),
    "vmap": State("one example of a vmapped batch", data=False),
    "func-grad": State("inside torch.func.grad", carries="grad"),
    "functional": State("inside functionalisation", data=False),
    "fake": State("shape and dtype only", data=False),
    "meta": State("on the meta device", data=False),
    "wrapper": State("a wrapper subclass without storage of its own", data=False),
    "freed": State("its storage was resized to nothing", data=False),
    "deleted": State("deleted, or donated to a computation", data=False),
    "traced": State("a tracer inside jit", data=False),
    "odd-device": State("on a device that only its library knows", carries="device"),
    "pinned": State("page-locked host memory"),
    "managed": State("memory that host and device share"),
    "stream-same": State("being written on the stream that the consumer uses"),
    "stream-other": State("being written on another stream"),
    "stream-legacy": State("being written on the legacy default stream"),
    "stream-per-thread": State("being written on the per-thread default stream"),
}
"""Every state by name, in the order of tables."""
