"""The whole permission table, enumerated."""

from itertools import product

from interop import Policy
from interop._model.policy import FIELDS

# One field changed at a time, and everything at once: what is left when the product with the descriptions grows too large.
CORNERS = [
    Policy(),
    Policy(copy=False),
    Policy(copy=True),
    Policy(copy=False, readonly="error"),
    Policy(readonly="share"),
    Policy(copy=False, readonly="share"),
    Policy(casting="safe"),
    Policy(units="drop"),
    Policy(extension="widen"),
    Policy(copy=False, extension="widen"),
    Policy(grad="detach", transfer="allow", casting="same_kind", mask="drop", units="drop", layout="dense"),
]

# These two decide nothing together with the others: they get the corners, the others their whole product.
_APART = ("units", "extension")
_TOGETHER = {name: field.values for name, field in FIELDS.items() if name not in _APART}

POLICIES = [
    *(Policy(**dict(zip(_TOGETHER, values, strict=True))) for values in product(*_TOGETHER.values())),
    *(
        corner.replace(units=units, extension=extension)
        for corner in CORNERS
        for units, extension in product(*(FIELDS[name].values for name in _APART))
    ),
]
