"""The value of the `xp` fixture: the array API namespace of a row, whose creation functions make arrays of that row.

It is a module, so that `interop.convert(x, xp)` and everything that asks for a namespace takes it. Forwarded as it is:
all that works on arrays, which stays with their device by itself; also ``*_like``, ``from_dlpack``, ``meshgrid`` and
``fft.fftfreq``. Replaced: the functions that make an array from nothing or from Python's own data, because there a
library's default device is not the row's, and only there a test can ask for a state (read-only, tracked by autograd).
"""

from __future__ import annotations

import functools
from types import ModuleType
from typing import TYPE_CHECKING, Any

from interop._model.description import Device
from interop._model.dtypes import DTYPES, dtype_name, fallback
from interop._verbs import convert, describe
from interop.backends import find_backend, is_array, load_backend
from interop.errors import DTypeError, MaskError, UnsupportedTypeError

if TYPE_CHECKING:
    from collections.abc import Callable

    from interop.testing.rows import Row

__all__ = ["CREATORS", "RowNamespace"]

CREATORS = ("arange", "empty", "eye", "full", "linspace", "ones", "zeros")
"""The functions that make an array from nothing; `RowNamespace.asarray` makes one from data."""


class RowNamespace(ModuleType):
    """The namespace of a row; everything but the creation functions is the library's own.

    An explicit ``device=`` (also by name, as `interop.convert` takes it) or ``dtype=`` wins over the row's. A dtype that the
    library does not have is refused: JAX would narrow it.

    What it creates is in the row's state, also when the code under test creates it. Give that code the library's own
    namespace (`interop_namespace`, or what `interop.array_namespace` finds) if it writes to what it creates.

    Attributes
    ----------
    interop_row : Row
        The row.
    interop_namespace : module
        The library's own namespace.
    interop_device : object
        The row's device as the library's functions take it.

    Examples
    --------
    >>> import interop, numpy as np
    >>> from interop.testing import Row, RowNamespace
    >>> xp = RowNamespace(Row("torch", state="grad"))
    >>> xp.asarray(np.ones(2)), xp.zeros(1)
    (tensor([1., 1.], dtype=torch.float64, requires_grad=True), tensor([0.], requires_grad=True))
    >>> xp.sum(xp.arange(4))
    tensor(6)
    """

    def __init__(self, row: Row) -> None:
        backend = load_backend(row.backend)
        real = backend.namespace()
        super().__init__(real.__name__, real.__doc__)
        self.interop_row = row
        self.interop_namespace = real
        self._backend = backend
        self._device: Device = backend.parse_device(row.device)
        self._state: Callable[[Any], Any] = backend.states()[row.state] if row.state else lambda x: x
        self.interop_device = backend.native_device(self._device)
        for name in CREATORS:
            if hasattr(real, name):
                setattr(self, name, self._creator(getattr(real, name)))

    def __getattr__(self, name: str) -> Any:
        # Asked for only where the module itself has nothing of that name.
        if name == "interop_namespace":
            raise AttributeError(name)
        return getattr(self.interop_namespace, name)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *dir(self.interop_namespace)})

    def __repr__(self) -> str:
        return f"<row {self.interop_row.id!r} of {self.__name__}>"

    def asarray(self, obj: Any, /, *, dtype: Any = None, device: Any = None, copy: bool | None = None) -> Any:
        """Return data as an array of the row: NumPy arrays, the reference data of a test, and Python's numbers and lists.

        Parameters
        ----------
        obj : NumPy array, number, nested sequence, or array of this library
            A NumPy array is copied, so that a test may compare with it afterwards. What is an array of the library
            already goes to the library's own function: it stays on its device and in its state.
        dtype : dtype or str, optional
            Without it, the dtype of NumPy data stays. Where the library does not have it they get the nearest that holds its
            values, else the widest of its kind (``float64`` becomes ``float32`` in JAX without x64): this is the one place
            where interop narrows unasked, for the sake of one source of a test for all rows. Floats are rounded then; values
            that do not fit are refused. Python data get the library's own default.
        device : device or str, optional
            Default: the row's.
        copy : bool, optional
            False shares NumPy's memory or is refused; a state is put on the array only, never on `obj`.

        Raises
        ------
        UnsupportedTypeError
            For arrays of another library: tests bring them in with `interop.convert`, which names what it does.
        DTypeError
            If a dtype is asked for that the library does not have, or values do not fit.
        """
        owner = find_backend(obj) if is_array(obj) else None
        if owner is load_backend("numpy"):
            return self._state(self._converted(obj, dtype, device, copy=copy))
        if owner not in (None, self._backend):
            raise self._foreign(obj)
        words = {"dtype": self._dtype(dtype, device), "copy": copy}
        if owner is None or device is not None:
            words["device"] = self._native(device)
        made = self.interop_namespace.asarray(obj, **{name: value for name, value in words.items() if value is not None})
        return self._state(made) if owner is None else made

    def _foreign(self, obj: Any) -> UnsupportedTypeError:
        takes = f"NumPy arrays, Python data and {self._backend.capabilities.title}'s own arrays"
        message = f"xp.asarray(x) of the row {self.interop_row.id!r} takes {takes}, got {find_backend(obj).describe(obj)}."
        return UnsupportedTypeError(message, hint="write interop.convert(x, xp).")

    def _converted(self, obj: Any, dtype: Any, device: Any, *, copy: bool | None) -> Any:
        """Return NumPy data in the row's library; the scope's policy does not apply to a test's data."""
        seen = describe(obj)
        if seen.masked:  # also where the library is NumPy, whose array would still be masked
            raise MaskError(f"xp.asarray(x) got {seen}.", hint="Bring in the data and the mask as two arrays.")
        words: dict[str, Any] = {"device": self._device if device is None else device, "policy": "default"}
        if dtype is None:
            self._check_values(obj, device)
            words["casting"] = "same_kind"
        else:
            words["dtype"] = dtype
        if copy is False:
            obj = obj[...]  # a view: the state is the result's, and NumPy would put it on the caller's array
        return convert(obj, self._backend.name, copy=copy is not False, **words)

    def _check_values(self, obj: Any, device: Any) -> None:
        """Raise DTypeError if values do not fit into the dtype that the data will get."""
        numpy = load_backend("numpy")
        name, has = numpy.describe(obj).dtype, self._dtypes(device)
        wanted = fallback(name, has) if name not in has else None
        if wanted is None or wanted[1] == "safe":
            return
        host, cast = numpy.namespace(), numpy.cast(obj, wanted[0])
        inexact = DTYPES[name].kind in ("float", "complex")
        fits = (host.isfinite(cast) == host.isfinite(obj)) if inexact else (cast == obj)
        if not fits.all():
            raise DTypeError(f"xp.asarray(x): {self._lacks(name)}, and {wanted[0]} does not hold these values.", hint="Use smaller values.")

    def _creator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def create(*args: Any, dtype: Any = None, device: Any = None, **words: Any) -> Any:
            if dtype is not None:
                words["dtype"] = self._dtype(dtype, device)
            return self._state(function(*args, device=self._native(device), **words))

        return create

    def _native(self, device: Any) -> Any:
        if device is None:
            return self.interop_device
        return self._backend.native_device(self._backend.parse_device(device)) if isinstance(device, str | Device) else device

    def _dtypes(self, device: Any) -> frozenset[str]:
        where = self._device if device is None else self._backend.parse_device(device)
        return self._backend.capabilities.dtypes_on(where)

    def _dtype(self, dtype: Any, device: Any) -> Any:
        """Return the library's dtype for a name, and any other as it is; DTypeError if the library would put another in its place."""
        if dtype is None:
            return None
        try:
            name = dtype_name(dtype)
        except ValueError:
            return dtype  # one that interop does not know: the library decides
        if name not in self._dtypes(device):
            hint = "Leave the dtype to NumPy data (xp.asarray(a) takes the widest that there is), or name a narrower one."
            raise DTypeError(f"xp: {self._lacks(name)}.", hint=hint)
        return getattr(self.interop_namespace, name, dtype) if isinstance(dtype, str) else dtype

    def _lacks(self, name: str) -> str:
        capabilities = self._backend.capabilities
        why = capabilities.why_lacking.get(name)
        return f"{capabilities.title} has no {name} on {self._device}" + (f" ({why})" if why else "")
