"""The suite's crafted producer, where interop's own tests look for it."""

from interop_conformance.capsules.crafted import Producer

__all__ = ["Producer"]
