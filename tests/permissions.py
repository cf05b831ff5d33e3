"""The whole permission table, enumerated."""

from itertools import product

from interop import Policy
from interop._model.policy import FIELDS

POLICIES = [Policy(**dict(zip(FIELDS, values, strict=True))) for values in product(*(field.values for field in FIELDS.values()))]

# One field changed at a time, and everything at once: what is left when the product with the descriptions grows too large.
CORNERS = [
    Policy(),
    Policy(copy=False),
    Policy(copy=True),
    Policy(copy=False, readonly="error"),
    Policy(readonly="share"),
    Policy(copy=False, readonly="share"),
    Policy(casting="safe"),
    Policy(grad="detach", transfer="allow", casting="same_kind", mask="drop", layout="dense"),
]
