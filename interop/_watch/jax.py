"""What the user's code moves in JAX past interop, inside of ``guard(..., native=True)``: seen by JAX's own guard, and refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax

from interop._model.scope import block
from interop.backends.jax.backend import with_options
from interop.errors import TransferError

if TYPE_CHECKING:
    from collections.abc import Iterator


@block
def native_guard(forbidden: frozenset[str]) -> Iterator[None]:
    """Return a context in which JAX itself raises for data that leave a device, in this thread."""
    # JAX's own guard; it says so in words only. https://docs.jax.dev/en/latest/transfer_guard.html
    if "transfers" not in forbidden:
        yield
        return
    # Not from the host: there every ``x + 1`` and every ``jnp.ones`` would count.
    ways = (jax.transfer_guard_device_to_host, jax.transfer_guard_device_to_device)
    try:
        with with_options(dict.fromkeys(ways, "disallow_explicit")):
            yield
    except jax.errors.JaxRuntimeError as error:
        if "Disallowed" not in str(error):
            raise
        hint = "Do it through interop, outside of the guard that forbids transfers."
        raise TransferError(f"JAX moves data past interop: {str(error).partition(': ')[2]}", hint=hint) from error
