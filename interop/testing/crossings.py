"""`assert_no_crossings`: code stays in its library and on its device, shown by interop's record and the libraries' own guards."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from interop._model.scope import block
from interop._watch.ledger import Log, guard, record
from interop.errors import GradError, TransferError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["assert_no_crossings"]


@block
def assert_no_crossings(*, native: bool = True) -> Iterator[Log]:
    """Raise AssertionError if anything left its library or its device inside the block.

    Sharing between two libraries counts as well: the question is not what it cost. A copy within one library on one device does not.

    Parameters
    ----------
    native : bool
        Also forbid what goes past interop (`interop.guard` with ``native=True``), as far as the libraries show it. The block
        ends at the first of those, and at interop's own first transfer. Without it the block runs to its end.

    Returns
    -------
    context manager of Log
        The record, with the copies that are no crossings.

    Raises
    ------
    AssertionError
        With the table of what crossed; where the guard stepped in, its error is the cause.

    Examples
    --------
    >>> import interop, numpy as np
    >>> with assert_no_crossings() as log:
    ...     total = np.ones(3) + interop.to_numpy(np.ones(3), copy=True)
    >>> len(log.copies)
    1
    >>> with assert_no_crossings():  # doctest: +IGNORE_EXCEPTION_DETAIL
    ...     total = interop.to_torch(np.ones(3)).sum()
    Traceback (most recent call last):
    ...
    AssertionError: assert_no_crossings: 1 array left its library or its device
    from                     to            copied  at         why
    numpy float64[3] on cpu  torch on cpu  shared  test.py:2
    1 crossings: 0 copies, 0 transfers, 0 bytes copied
    """
    __tracebackhide__ = True
    with record(keep=None) as log:
        try:
            with guard(transfers="error", grads="error", native=True) if native else contextlib.nullcontext():
                yield log
        except (TransferError, GradError) as error:
            raise AssertionError(
                _with_table(f"assert_no_crossings: something was about to leave: {error.message}", _crossed(log))
            ) from error
    crossed = _crossed(log)
    if crossed.crossings:
        count = len(crossed.crossings)
        raise AssertionError(
            _with_table(f"assert_no_crossings: {count} {'array' if count == 1 else 'arrays'} left its library or its device", crossed)
        )


def _crossed(log: Log) -> Log:
    return Log([one for one in log.crossings if one.crossed_device or one.source.backend != one.target])


def _with_table(headline: str, log: Log) -> str:
    return f"{headline}\n{log}" if log.crossings else headline
