"""The types of the verbs: every keyword by name, with its own values; misuse is an error.

Checked as `plain` is. At run time the signatures are those of `tests/test_signatures.py`.
"""

from typing import assert_type

import numpy as np

import interop
from interop import Description, Plan, tree

x = np.ones(2)

interop.convert(x, "torch", copy=True, dtype="float32", device="cpu", policy=interop.STRICT)
interop.convert(x, like=x, grad="detach", transfer="allow", readonly="share", casting="same_kind", mask="drop", layout="dense")
interop.to_numpy(x, grad="detach", blocking=False)
interop.to_torch(x, stream=1)
tree.convert([x], "torch", others="error", casting="safe")
assert_type(interop.explain(x, "torch", policy="coerce"), Plan)
assert_type(interop.describe(x), Description)

interop.convert(x, to="torch")  # type: ignore[call-arg]
interop.to_numpy(x, graad="detach")  # type: ignore[call-arg]
interop.to_numpy(x, grad="detatch")  # type: ignore[arg-type]
interop.to_numpy(x, like=x)  # type: ignore[call-arg]
interop.to_numpy(x, copy=1)  # type: ignore[arg-type]
interop.to_torch(x, blocking=False)  # type: ignore[call-arg]
interop.to_cupy(x=x)  # type: ignore[call-arg]
interop.to_jax(x, readonly="copied")  # type: ignore[arg-type]
interop.explain(x, "torch", casting="unsafe")  # type: ignore[arg-type]
tree.convert([x], "torch", others="drop")  # type: ignore[arg-type]
tree.convert([x], "torch", mask="keep")  # type: ignore[arg-type]
interop.from_numpy(x)  # type: ignore[attr-defined]
