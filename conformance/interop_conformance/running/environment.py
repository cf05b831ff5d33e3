"""Where a run takes place: the header of its results."""

from __future__ import annotations

import os
import platform
from typing import TYPE_CHECKING, Any

from interop import __version__
from interop_conformance.results.texts import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from interop_conformance.adapters import Adapter

__all__ = ["environment_of", "name_of"]


def environment_of(adapters: Mapping[str, Adapter], selection: Mapping[str, Any]) -> dict[str, Any]:
    """Return versions and hardware, and what the run is limited to; nothing that names a machine or a person."""
    import ml_dtypes

    return {
        "interop": __version__,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "hardware": {"machine": platform.machine(), "cores": os.cpu_count(), "gpu": _gpu(adapters)},
        "libraries": {name: _library(adapter) for name, adapter in adapters.items()}
        | {"ml-dtypes": _plain("ml-dtypes", ml_dtypes.__version__)},
        "selection": dict(selection),
    }


def _library(adapter: Adapter) -> dict[str, Any]:
    missing = printable(str(adapter.available()))
    version = None if missing else printable(str(adapter.version()))
    return {"distribution": adapter.distribution or adapter.name, "version": version, "unavailable": missing}


def _plain(distribution: str, version: str) -> dict[str, Any]:
    return {"distribution": distribution, "version": version, "unavailable": ""}


def _gpu(adapters: Mapping[str, Adapter]) -> str | None:
    return next((name for adapter in adapters.values() if not adapter.available() and (name := adapter.hardware())), None)


def name_of(environment: Mapping[str, Any]) -> str:
    """Return a file name for an environment: the device, the versions that tell it from others, and whether it is a part only."""
    versions = {entry["distribution"]: entry["version"] for entry in environment["libraries"].values() if entry["version"]}
    parts = ["cuda" if environment["hardware"]["gpu"] else "cpu", f"python{environment['python'].rpartition('.')[0]}"]
    parts += [f"{name}{versions[name].partition('+')[0]}" for name in ("numpy", "torch", "cupy") if name in versions]
    if environment["selection"]:
        parts.append("quick" if environment["selection"] == {"quick": True} else "part")
    return "-".join(parts)
