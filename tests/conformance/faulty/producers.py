"""The miniature's faults: for every producer rule at least one, each a method or two of `Mini` overridden."""

from __future__ import annotations

import ctypes
import weakref
from typing import TYPE_CHECKING, Any

from tests.conformance.mini.producer import (
    EXPORTS,
    FUNCTION,
    LEGACY,
    VERSIONED,
    Mini,
    call_deleter,
    destroy,
    name_at,
    pointer_at,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

FAULTS: dict[str, list[type[Mini]]] = {}
"""The liars of each rule."""

CRASHES: set[str] = {"GilForGranted"}
"""Those that end the process."""


def violates(*rules: str) -> Callable[[type[Mini]], type[Mini]]:
    def register(liar: type[Mini]) -> type[Mini]:
        for rule in rules:
            FAULTS.setdefault(f"producer.{rule}", []).append(liar)
        return liar

    return register


# The capsule. Callbacks are at module level, since they are called at times of the interpreter's own.


@violates("capsule-name-legacy")
class OddName(Mini):
    def name(self, *, versioned: bool) -> bytes:
        return VERSIONED if versioned else b"dl_tensor"


@violates("capsule-name-versioned")
class NoSuffix(Mini):
    def name(self, *, versioned: bool) -> bytes:
        return LEGACY

    def destructor(self) -> None:
        return None  # which would take the one structure for the other


@violates("capsule-name-static")
class NameOnTheHeap(Mini):
    def name(self, *, versioned: bool) -> bytes:
        self.names = [*getattr(self, "names", []), bytes(bytearray(super().name(versioned=versioned)))]
        return self.names[-1]


@violates("capsule-each-call")
class OneCapsule(Mini):
    capsule: Any = None

    def export(self, *, copied: bool, versioned: bool) -> Any:
        self.capsule = self.capsule or super().export(copied=copied, versioned=versioned)
        return self.capsule


@violates("capsule-each-call")
class OneManagedTensor(Mini):
    def destructor(self) -> None:
        return None

    def export(self, *, copied: bool, versioned: bool) -> Any:
        self.capsules = getattr(self, "capsules", {})
        first = self.capsules.setdefault(versioned, super().export(copied=copied, versioned=versioned))
        name = self.name(versioned=versioned)
        return ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)(("PyCapsule_New", ctypes.pythonapi))(
            pointer_at(id(first), name), name, None
        )


@violates("destructor-unconsumed")
class NoDestructor(Mini):
    def destructor(self) -> None:
        return None


@FUNCTION
def _delete_if_there(address: int) -> None:
    EXPORTS.pop(address, None)


@FUNCTION
def _destroy_twice(capsule: int) -> None:
    name = name_at(capsule)
    if name in (LEGACY, VERSIONED):
        address = pointer_at(capsule, name)
        export = EXPORTS[address]  # so that the second call, too, finds the structure
        deleter = FUNCTION(export[1].deleter)
        deleter(address)
        deleter(address)


@violates("destructor-unconsumed")
class DeletesTwice(Mini):
    def deleter(self) -> Any:
        return _delete_if_there

    def destructor(self) -> Any:
        return _destroy_twice


@FUNCTION
def _destroy_regardless(capsule: int) -> None:
    name = name_at(capsule)
    call_deleter(pointer_at(capsule, name), versioned=name.endswith(b"versioned"))


@violates("destructor-consumed")
class DeletesConsumed(Mini):
    def deleter(self) -> Any:
        return _delete_if_there

    def destructor(self) -> Any:
        return _destroy_regardless


# Memory and its end.


def _scribble(values: np.ndarray) -> None:
    values[...] = 0


@violates("keeps-alive")
class DoesNotHold(Mini):
    def export(self, *, copied: bool, versioned: bool) -> Any:
        made = super().export(copied=copied, versioned=versioned)
        address = pointer_at(id(made), self.name(versioned=versioned))
        EXPORTS[address] = (None, *EXPORTS[address][1:])
        weakref.finalize(self, _scribble, self.values)  # as the next owner of the memory does
        return made


@FUNCTION
def _destroy_and_free(capsule: int) -> None:
    name = name_at(capsule)
    if name.startswith(b"used"):
        _scribble(EXPORTS[pointer_at(capsule, name)][0].values)
    else:
        destroy(capsule)


@violates("keeps-alive-consumed")
class HeldByTheCapsule(Mini):
    def destructor(self) -> Any:
        return _destroy_and_free


@FUNCTION
def _delete_nothing(_address: int) -> None:
    pass


@violates("deleter-releases")
class NeverReleases(Mini):
    def deleter(self) -> Any:
        return _delete_nothing


@violates("deleter-any-thread")
class GilForGranted(Mini):
    def deleter(self) -> Any:
        # Aborts without the GIL, and does no harm with it.
        return ctypes.pythonapi.PyThreadState_Get


@violates("source-usable")
class LocksTheSource(Mini):
    def export(self, *, copied: bool, versioned: bool) -> Any:
        made = super().export(copied=copied, versioned=versioned)
        self.readonly = True
        return made
