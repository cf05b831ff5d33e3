"""What `interop doctor` asks of a torch that is installed."""

from __future__ import annotations

import torch


def findings() -> list[str]:
    """Return what is wrong with the torch that is installed, in sentences."""
    try:
        torch.from_numpy(torch.zeros(1).numpy())
    except RuntimeError as error:
        # "Numpy is not available": torch was built for another major version of NumPy, or NumPy came later.
        repair = "Run pip install --upgrade torch; where torch has to stay as it is, pip install 'numpy<2'"
        return [f"torch and NumPy do not work together: {error}. {repair} (https://github.com/pytorch/pytorch/issues/132179)."]
    return []
