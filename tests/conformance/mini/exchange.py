"""A miniature library with a C exchange API, made of ctypes callbacks; and, by name, every way in which one can be wrong.

A ctypes callback cannot leave a Python exception behind: ctypes prints it and goes on. So arrays that must be refused are of a type
of their own, in whose table the functions that export are `PyObject_Size`, which calls ``__len__``, and that raises. The table
of a library that imports nothing has `PyErr_BadArgument`. Both are C functions, and do what the protocol asks of one that fails.
"""

from __future__ import annotations

import ctypes
import time
import weakref
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from interop_conformance.capsules import exchange_api as api
from interop_conformance.capsules.crafted import Producer

from interop.dlpack import DLManagedTensorVersioned
from tests.conformance.mini.consumer import READ_ONLY, VERSIONED, Mini, Owner

if TYPE_CHECKING:
    from contextlib import ExitStack

    from interop_conformance.matrix.layouts import Layout

_python = ctypes.pythonapi
_new = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)(("PyCapsule_New", _python))
_taken = ctypes.PYFUNCTYPE(None, ctypes.py_object)(("Py_IncRef", _python))
_CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_void_p)

# What a managed tensor keeps alive, by its address, until its deleter is called; and what C may come back to at any time.
_EXPORTED: dict[int, Any] = {}
_ALIVE: list[Any] = []
_DELETE = _CALLBACK(lambda address: _EXPORTED.pop(address) and None)

_DELAY = 0.2
BUFFER_ERROR, RUNTIME_ERROR = (
    ("sparse", "quantized", "grad", "grad-non-leaf", "parameter", "grad-under-no-grad"),
    ("meta", "vmap", "deleted"),
)


def address(function: Any) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0


class Base:
    """An array: NumPy's, what is pending on it, and when it will have been written."""

    def __init__(self, held: np.ndarray, pending: Any = None, ready: float = 0.0, error: Exception | None = None) -> None:
        self.held, self.pending, self.ready, self.error = held, pending, ready, error
        self.keeps: list[Any] = []

    def resolved(self) -> np.ndarray:
        return self.held if self.pending is None else np.array(self.pending(self.held))

    def __len__(self) -> int:
        raise self.error or TypeError("not that kind of array")

    def __dlpack__(self, **asked: Any) -> Any:
        if self.error is not None:
            raise self.error
        return exporting(self.resolved(), self.kind).__dlpack__(**asked)

    kind: ClassVar[tuple[int, int]] = (1, 0)


def exporting(held: np.ndarray, kind: tuple[int, int]) -> Producer:
    return Producer(held, device=kind, flags=0 if held.flags.writeable else READ_ONLY)


class MiniExchange(Mini):
    """The miniature library with the table; `imports` is False for one that refuses every import."""

    states: ClassVar[tuple[str, ...]] = ("plain", "read-only", "conj", "neg", "stream-other", *BUFFER_ERROR, *RUNTIME_ERROR)

    def __init__(self, fault: str = "", device: str = "cpu", *, imports: bool = True) -> None:
        super().__init__("", device)
        self.lie = fault
        self.functions = self._functions()
        if not imports and fault != "import-failure":
            self.functions["to_object"] = _python.PyErr_BadArgument
        self.array = self._type("Array", self.functions)
        refusing = dict.fromkeys(("from_object", "into_tensor"), _python.PyObject_Size)
        if fault == "export-failure":
            refusing["from_object"] = api.FROM_OBJECT(lambda _x, _out: -1)
        self.refusing = self._type("Refusing", self.functions | refusing)

    # The table.

    def _functions(self) -> dict[str, Any]:
        return {
            "allocator": api.ALLOCATOR(self._allocator),
            "from_object": api.FROM_OBJECT(self._from_object),
            "to_object": api.TO_OBJECT(self._to_object),
            "into_tensor": api.INTO_TENSOR(self._into_tensor),
            "stream": api.STREAM(self._stream),
        }

    def _table(self, functions: dict[str, Any]) -> api.Table:
        table = api.Table(
            api.Header(2 if self.lie == "version" else 1, 3, None), **{name: address(each) for name, each in functions.items()}
        )
        if self.lie == "prev-api":
            table.header.older = ctypes.addressof(table)
        if self.lie == "functions-given":
            table.stream = None
        _ALIVE.extend((table, functions))
        return table

    def _type(self, name: str, functions: dict[str, Any]) -> type[Base]:
        capsule = _new(ctypes.addressof(self._table(functions)), api.CAPSULE if self.lie != "capsule-name" else b"exchange_api", None)
        held: Any = self._fresh(functions) if self.lie in {"stays-alive", "another-table"} else capsule
        made: type[Base] = type(name, (Base,), {"kind": self.own} | ({} if self.lie == "on-type" else {api.ATTRIBUTE: held}))
        if self.lie == "on-type":
            made.__init__ = _also(made.__init__, lambda x: setattr(x, api.ATTRIBUTE, capsule))  # type: ignore[misc]
        return made

    def _fresh(self, functions: dict[str, Any]) -> Any:
        """Return a descriptor that makes a table for each look-up, and wipes it when the capsule goes."""

        class Fresh:
            def __get__(_, instance: Any, owner: Any = None) -> Any:
                table = self._table(functions)
                wipe = _CALLBACK(lambda _capsule: ctypes.memset(ctypes.addressof(table), 0, ctypes.sizeof(table)) and None)
                _ALIVE.append(wipe)
                return _new(ctypes.addressof(table), api.CAPSULE, ctypes.cast(wipe, ctypes.c_void_p) if self.lie == "stays-alive" else None)

        return Fresh()

    # The functions.

    def _from_object(self, x: Base, out: Any) -> int:
        if self.lie == "export-no-sync":
            time.sleep(max(0.0, x.ready - time.monotonic()))
        held = x.held if self.lie == "export-guards-pending" else x.resolved()
        managed = self._managed(held)
        self._distort(managed)
        if self.lie == "export-owning":
            weakref.finalize(x, held.fill, 0)
        elif self.lie == "export-leak":
            _ALIVE.append(x)
        else:
            _EXPORTED[ctypes.addressof(managed)] += (x,)
        out[0] = ctypes.addressof(managed)
        return 0

    def _managed(self, held: np.ndarray) -> DLManagedTensorVersioned:
        managed, producer = DLManagedTensorVersioned(), exporting(held, self.own)
        managed.major, managed.minor, managed.flags = 1, 3, producer.flags
        producer._fill(managed.tensor, self.own)
        managed.deleter = address(_DELETE)
        _EXPORTED[ctypes.addressof(managed)] = (managed, producer)
        return managed

    def _distort(self, managed: DLManagedTensorVersioned) -> None:
        tensor = managed.tensor
        match self.lie:
            case "export-pointer":
                tensor.byte_offset += 4
            case "export-shape":
                tensor.ndim = max(0, tensor.ndim - 1)
            case "export-strides":
                tensor.strides = None
            case "strides-in-bytes":
                for axis in range(tensor.ndim):
                    tensor.strides[axis] *= tensor.dtype.bits // 8
            case "export-dtype":
                tensor.dtype.code = 1
            case "export-device":
                tensor.device.type = 3
            case "export-flags":
                managed.flags = 0

    def _into_tensor(self, x: Base, out: Any) -> int:
        producer = exporting(x.resolved(), self.own)
        producer._fill(out[0], self.own)
        if self.lie == "dltensor-equals":
            out[0].dtype.bits = 8
        (_ALIVE if self.lie == "dltensor-non-owning" else x.keeps).append(x if self.lie == "dltensor-non-owning" else producer)
        return 0

    def _to_object(self, managed: int, out: Any) -> int:
        found = DLManagedTensorVersioned.from_address(managed)
        if found.tensor.dtype.code == 200:
            return -1  # and no exception: the lie of import-failure
        deleter = None if self.lie == "import-steals" else found.deleter
        held = self._array(found.tensor, found.flags, Owner(managed, deleter, ""), None, VERSIONED, found)
        made = self.array(held[..., ::-1] if self.lie == "import-round-trip" and held.ndim else held)
        _taken(made)
        out[0] = id(made)
        return 0

    def _allocator(self, prototype: Any, out: Any, context: Any, set_error: Any) -> int:
        tensor = prototype[0]
        if self.lie == "reads-strides":
            tensor.strides[0]
        try:
            dtype = self._dtype(tensor.dtype, 0)
        except BufferError as error:
            if self.lie != "allocator-error":
                set_error(context, b"BufferError", str(error).encode())
            return -1
        if self.lie == "sets-error":
            set_error(context, b"Warning", b"it went well")
        managed = self._managed(np.empty(tensor.shape[: tensor.ndim], "uint8" if self.lie == "allocator-prototype" else dtype))
        out[0] = ctypes.addressof(managed)
        return 0

    def _stream(self, device_type: int, _device_id: int, out: Any) -> int:
        out[0] = 99 if self.lie == ("work-stream-cpu" if device_type == 1 else "work-stream-cuda") else None
        return 0

    # The adapter.

    def make(self, values: np.ndarray) -> Any:
        return self.array(np.array(values))

    def lay(self, x: Any, layout: Layout) -> Any:
        return self.array(layout.view(x.held))

    def values(self, x: Any) -> np.ndarray:
        if isinstance(x, Base):
            time.sleep(max(0.0, x.ready - time.monotonic()))
            return np.array(x.resolved())
        return super().values(x)

    def put(self, x: Any, state: str, stack: ExitStack) -> Any:
        if state == "read-only":
            x.held.flags.writeable = False
        elif state in {"conj", "neg"}:
            pending = np.conj if state == "conj" else np.negative
            return self.array(pending(x.held), pending)
        elif state == "stream-other":
            return self.array(x.held, ready=time.monotonic() + _DELAY)
        elif state in BUFFER_ERROR:
            kind = self.array if self.lie == "export-guards-grad" and "grad" in state else self.refusing
            error: type[Exception] = RuntimeError if self.lie == "export-refusal" else BufferError
            return kind(x.held, error=error(f"cannot export what is {state}"))
        elif state in RUNTIME_ERROR:
            return self.refusing(x.held, error=RuntimeError(f"nothing to export: {state}"))
        return super().put(x, "plain", stack)


def _also(method: Any, more: Any) -> Any:
    def both(x: Any, *args: Any, **keywords: Any) -> None:
        method(x, *args, **keywords)
        more(x)

    return both
