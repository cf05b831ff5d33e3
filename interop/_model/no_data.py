"""Why an array has no data to convert, and what to do instead. Pure; the words are those of `Description.no_data`."""

from __future__ import annotations

_OUTSIDE = "convert a real tensor, outside of the transformation"
NO_DATA = {
    "meta": ("a meta tensor has a shape but no storage", "give it storage first, with to_empty() or by loading its data"),
    "fake": ("a fake tensor only pretends to have data, for tracing and shape inference", "convert a real tensor, outside of its mode"),
    "vmap": ("inside vmap the tensor stands for a whole batch, and has no memory of its own", _OUTSIDE),
    "grad": ("inside grad or vjp the tensor is a tracking wrapper without memory of its own", _OUTSIDE),
    "jvp": ("inside jvp the tensor is a tracking wrapper without memory of its own", _OUTSIDE),
    "functional": ("a functionalised tensor is a wrapper that tracks mutations, without memory of its own", _OUTSIDE),
    "traced": (
        "it is being traced: what it holds now, if anything, would be baked into the trace as a constant",
        "convert a real array, outside of the traced function",
    ),
    "deleted": (
        "the array was deleted, or donated to a computation that has reused its memory",
        "convert it before, or keep it from being donated",
    ),
    "uninitialized": (
        "a lazy parameter has neither a shape nor data before the first forward pass",
        "run the module once on an input first",
    ),
    "no storage": ("the tensor's storage was freed or resized to nothing", "convert it before that is done"),
    "null": ("the producer exported a null pointer for an array that is not empty", "look for the fault in its library"),
}
"""Why an array has no data, by the word that `Description.no_data` has for it: the reason, and what to do instead."""
