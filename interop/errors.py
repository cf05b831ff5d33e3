"""One family of errors: every refusal has a stable code, says why, and names the call that works.

Each class is also the builtin exception that callers of the array API standard already catch, so that
interop can be put under existing code. The text of an error is built once, at the public verb
(`interop.convert`), from the refusals that the plan collected; nothing here knows about arrays.

The docstring of each class is its section in `docs/errors.md`: it is written here and generated there.
"""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from interop._model.description import Description

__all__ = [
    "ERRORS",
    "BackendNotInstalledError",
    "CopyError",
    "DTypeError",
    "DeviceUnavailableError",
    "GradError",
    "InteropError",
    "LayoutError",
    "MaskError",
    "MixedBackendsError",
    "NoDataError",
    "ProducerError",
    "ReadOnlyError",
    "Refusal",
    "StreamError",
    "TransferError",
    "UnitsError",
    "UnsupportedTypeError",
]


SEE_DEVICES = "Run `interop doctor` to see which devices each library sees."


class Refusal(NamedTuple):
    """One obstacle: the error it raises, why, and what would permit it (nothing, if it is final); in a tree also where."""

    error: type[InteropError]
    reason: str
    permissions: dict[str, Any] = {}  # noqa: RUF012  # a tuple's field; nothing changes it
    hint: str = ""
    path: str = ""

    @property
    def code(self) -> str:
        """The stable code of the error."""
        return self.error.code

    @property
    def final(self) -> bool:
        """Whether no permission lifts it."""
        return not self.permissions

    @classmethod
    def from_error(cls, error: InteropError) -> Refusal:
        """Return what a backend refused by an error."""
        return cls(type(error), error.message, error.permissions, error.hint)


class InteropError(Exception):
    """The base of everything that interop refuses.

    It arrives whole from other processes: pickled, and also where a framework keeps its text only and makes a new one of that, as a
    ``DataLoader`` does with the errors of its workers.

    Attributes
    ----------
    code : str
        Stable name of the kind of refusal; its section in ``docs/errors.md``.
    hint : str
        What to write instead, in words and code.
    permissions : dict
        Keyword arguments that make this very call succeed; empty if the refusal is final. Each replaces the call's own keyword:
        ``{**keywords, **error.permissions}``.
    description : Description or None
        What interop saw of the source array.
    refusals : tuple of Refusal
        Everything that blocks the call; the class of the error is that of the first.
    """

    code: ClassVar[str] = "interop"

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        permissions: Mapping[str, Any] | None = None,
        description: Description | None = None,
        refusals: tuple[Refusal, ...] = (),
        again: Callable[[dict[str, Any]], Any] | None = None,
    ) -> None:
        super().__init__(f"{message}{_HINT}{hint}" if hint else message)
        if not hint and isinstance(message, str) and (found := list(_ANY_HINT.finditer(message))):  # the whole text of another
            message, hint = message[: found[-1].start()], message[found[-1].end() :].rstrip()
            permissions = permissions or _permissions_in(message, hint)
        self.message = message
        self.hint = hint
        self.permissions = dict(permissions or {})
        self.description = description
        self.refusals = refusals
        self._again = again

    def retry(self) -> Any:
        """Repeat the call that was refused, with `permissions`, and return its result.

        The error itself is raised where nothing permits the call, and RuntimeError where the call was made in another process.

        Examples
        --------
        >>> import numpy as np, interop
        >>> try:
        ...     interop.to_torch(np.arange(3)[::-1], copy=False)
        ... except interop.InteropError as error:
        ...     print(error.permissions, error.retry())
        {'copy': True} tensor([2, 1, 0])
        """
        if not self.permissions:
            raise self
        if self._again is None:
            raise RuntimeError(f"this error does not know its call: make it again, with **{self.permissions}.") from self
        return self._again(self.permissions)

    def __reduce__(self) -> tuple[Any, ...]:
        # The default would call the class with the finished text and lose the keywords, so that an error raised in a worker process
        # would arrive without its recipe. The call stays behind: it holds the arrays.
        return _rebuild, (type(self), self.args, self.__dict__ | {"_again": None})


_HINT = "\n\nHint: "
_ANY_HINT = re.compile(r"\n[ |]*\n[ |]*Hint: ")  # also where a traceback of a group of errors is indented
_KEYWORD = re.compile(r"(?<![\w.])(\w+)=('[^']*'|True|False|None)(?=[,)])")
_REFUSED = " cannot convert "


def _rebuild(kind: type[InteropError], args: tuple[Any, ...], state: dict[str, Any]) -> InteropError:
    error = kind.__new__(kind, *args)  # not by its __init__, which in a subclass may take something else
    error.args = args
    error.__dict__.update(state)
    return error


def _permissions_in(message: str, hint: str) -> dict[str, Any]:
    """Return the permissions of an error of which the text is left: what its hint's call has and the refused one had not."""
    _, write, call = hint.partition("\n")[0].rpartition("write ")
    if not write:
        return {}
    words, into, _ = call.partition(" into ")
    if into:  # of a decorated function: the words alone
        return _keywords(f"{words})")
    refused = message.rpartition(_REFUSED)[0].rpartition("\n")[2]
    verb = call.partition("(")[0]
    if f"{verb}(" not in refused:
        return {}
    had = _keywords(refused[refused.rindex(f"{verb}(") :])
    return {name: value for name, value in _keywords(call).items() if name not in had or had[name] != value}


def _keywords(call: str) -> dict[str, Any]:
    return {name: ast.literal_eval(value) for name, value in _KEYWORD.findall(call)}


class GradError(InteropError, RuntimeError):
    """Autograd tracks the source, and the target is outside its graph.

    Applies to ``requires_grad`` tensors (leaves, non-leaves, ``Parameter``), to forward-mode dual tensors,
    whose tangent would be lost, and to what other libraries track (Dr.Jit, Warp, TensorFlow, Paddle). It does
    not depend on ``torch.no_grad()``. Pass ``grad="detach"`` to leave the graph knowingly; memory that stays
    shared is then read-only where the target library can say so, because a write would bypass autograd's
    version counter (``readonly="share"`` makes it writable).
    """

    code = "grad"


class TransferError(InteropError, BufferError, ValueError):
    """The data would have to cross to another device.

    NumPy arrays live on the CPU and CuPy arrays on a CUDA device; torch tensors live on both. Pass
    ``transfer="allow"``, or ask for the crossing explicitly with ``device=``.
    """

    code = "transfer"


class CopyError(InteropError, BufferError, ValueError):
    """``copy=False`` was asked for, and the target cannot address the source's bytes as they are.

    The reasons are listed: a cast, a pending conjugation or negation, a negative stride (torch, CuPy
    and DLPack consumers have none), byte order, alignment, strides that are not whole elements,
    sparse storage. Pass ``copy=True``, or leave ``copy`` at ``None``.
    """

    code = "copy"


class ReadOnlyError(CopyError):
    """One side holds the memory to be constant, and the other could write to it.

    Either the source is read-only and the target library has no read-only arrays (torch, CuPy), or the source can be
    written and the arrays of the target are immutable (JAX). By default (``readonly="copy"``) the target gets its own
    memory; that is refused together with ``copy=False``, and always with ``readonly="error"``. ``readonly="share"`` shares
    the memory: then nobody may write to it.
    """

    code = "readonly"


class DTypeError(InteropError, TypeError):
    """The target library has no such dtype.

    ``casting="safe"`` permits a wider dtype that holds every value; ``casting="same_kind"`` permits a
    narrower one of the same kind, with loss; ``dtype=`` names the cast explicitly. The refusal is final
    for dtypes without a numeric meaning elsewhere (object, strings, dates, structured, packed sub-byte).
    """

    code = "dtype"


class LayoutError(InteropError, BufferError):
    """The storage is not plain strided memory: sparse, quantized, mkldnn, nested, a wrapper subclass.

    ``layout="dense"`` permits the dense copy where there is one: sparse, quantized and mkldnn tensors, nested tensors
    whose parts have one shape, wrappers with a ``dequantize()``, JAX arrays in parts on devices of the host. Ragged
    tensors and other wrappers have no single dense meaning, so for them the refusal is final.
    """

    code = "layout"


class MaskError(InteropError, ValueError):
    """A masked array, and the target has no masks: masked elements would become ordinary values.

    A mask that masks nothing is none. The nulls of Arrow are a mask. Fill the array first, or pass ``mask="drop"`` to
    convert the data under the mask: whatever is stored there, which Arrow leaves open.
    """

    code = "mask"


class UnitsError(InteropError, ValueError):
    """The numbers mean something only with their unit, and the target has no units: metres would become bare numbers.

    Applies to subclasses and wrappers that carry one (astropy, unyt, pint, quantities). Convert to the unit that you mean
    with their own library first, or pass ``units="drop"`` for the stored numbers. A dimensionless quantity that is scaled
    (``3600 s/h`` means 1) is refused too, because its stored numbers are not its values.
    """

    code = "units"


class ProducerError(InteropError, BufferError):
    """The producer itself refused to export, or failed: the text has its words, and its exception is the cause.

    It is raised for what ``__dlpack__`` and its like raise, never for a fault of interop's own. Always final.
    """

    code = "producer"


class NoDataError(InteropError, BufferError):
    """There are no data to convert: a meta, fake, traced, vmapped or otherwise storage-less tensor.

    Raw DLPack exports a null pointer here and consumers return uninitialised memory. Always final.
    """

    code = "no-data"


class UnsupportedTypeError(InteropError, TypeError):
    """Not an array of a known library, and not an object that speaks DLPack.

    Lists, numbers, tables and files are not converted. The hint names the call that makes an array of such an object without changing
    its values or its dtype, and ``interop.tree.convert`` where it holds arrays. Always final.
    """

    code = "unsupported-type"


class BackendNotInstalledError(InteropError, ImportError):
    """The target library is not installed, or its import fails. Always final; the hint has the command."""

    code = "backend-not-installed"


class DeviceUnavailableError(InteropError, RuntimeError):
    """The target device does not exist on this machine, or the target library cannot live on it.

    Always final. ``interop doctor`` says which devices each library sees, and why not.
    """

    code = "device-unavailable"


class MixedBackendsError(InteropError, TypeError):
    """Arrays of several libraries, or on several devices, where one is needed. Always final."""

    code = "mixed-backends"


class StreamError(InteropError, ValueError):
    """The ``stream`` is not one that this exchange can use.

    On the CPU only ``None`` is allowed. On CUDA the array API standard defines ``None``, ``-1`` (no
    synchronisation), ``1`` (legacy default), ``2`` (per-thread default) and a pointer greater than 2;
    ``0`` is forbidden because it is ambiguous. Always final.
    """

    code = "stream"


def _leaves(kind: type[InteropError]) -> list[type[InteropError]]:
    return [kind, *(leaf for child in kind.__subclasses__() for leaf in _leaves(child))]


ERRORS: dict[str, type[InteropError]] = {kind.code: kind for kind in _leaves(InteropError)}
"""Every error class by its code, the base included."""
