"""The suite's crafted producer, where interop's own tests look for it."""

from conformance.crafted import Producer

__all__ = ["Producer"]
