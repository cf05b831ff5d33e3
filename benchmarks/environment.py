"""What the numbers belong to: versions, the processor, the device and its link. No host's name, no paths, no kernel's build."""

from __future__ import annotations

import importlib
import json
import os
import platform
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

__all__ = ["NoDeviceError", "environment", "environment_name", "gpu_environment"]

DISTRIBUTIONS = ("numpy", "torch", "cupy-cuda12x", "cupy-cuda13x", "jax", "apache-tvm-ffi", "ml_dtypes", "array-api-compat", "optree")

# Field of nvidia-smi -> group and key here; a group of None stands for the header itself.
_ASKED = {
    "driver_version": (None, "driver"),
    "memory.total": (None, "memory"),
    "mig.mode.current": (None, "mig"),
    "pcie.link.gen.current": ("pcie", "generation"),
    "pcie.link.gen.max": ("pcie", "generation_max"),
    "pcie.link.width.current": ("pcie", "width"),
    "pcie.link.width.max": ("pcie", "width_max"),
    "clocks.sm": ("clocks", "sm"),
    "clocks.max.sm": ("clocks", "sm_max"),
}

_UNKNOWN_FIELD = re.compile(r'Field "([\w.]+)" is not a valid field')

_BUSY_CYCLES = 2_000_000_000
"""About a second: longer than nvidia-smi takes to answer."""


class NoDeviceError(RuntimeError):
    """There is no CUDA device that both torch and CuPy can use."""


def environment() -> dict[str, Any]:
    """Return what is known of this Python and this machine."""
    import interop

    return {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu": _processor(),
        "cores": os.cpu_count(),
        "quick_path": quick_path(),
        "versions": {"interop": interop.__version__, **_versions()},
    }


def quick_path() -> str:
    """Return which of the two fast paths interop runs on: ``"compiled"`` or ``"python"``."""
    importlib.import_module("interop._engine.fastpath")
    return "python" if sys.modules.get("interop.native.fastpath") is None else "compiled"


def _versions() -> dict[str, str]:
    found = {}
    for name in DISTRIBUTIONS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    """Return the processor's name; where Linux does not tell it, as on some Arm machines, the architecture."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        text = ""
    named = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return named.group(1).strip() if named else platform.processor() or platform.machine()


def gpu_environment() -> dict[str, Any]:
    """Return `environment` and the CUDA device; raises NoDeviceError if torch or CuPy does not see one."""
    try:
        import cupy
        import torch
    except ImportError as error:
        raise NoDeviceError(f"{error.name or error} cannot be imported") from error
    if not torch.cuda.is_available():
        raise NoDeviceError("torch does not see one")
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise NoDeviceError(f"CuPy does not see one: {error}") from error
    runtime = cupy.cuda.runtime
    # A device with nothing to do lowers its clocks and its link, which would be said here.
    torch.cuda._sleep(_BUSY_CYCLES)
    device = {
        "max_connections": os.environ.get("CUDA_DEVICE_MAX_CONNECTIONS"),
        "gpu": torch.cuda.get_device_name(0),
        "devices": count,
        **_told_by_nvidia_smi(),
        "cuda": {"driver": runtime.driverGetVersion(), "cupy": runtime.runtimeGetVersion(), "torch": torch.version.cuda},
    }
    return device | environment()


def _told_by_nvidia_smi() -> dict[str, Any]:
    """Return what neither library reports: driver, memory, MIG mode, and current and largest PCIe link and clock; None for what is not reported."""
    fields = list(_ASKED)
    done = _nvidia_smi(fields)
    # One field that an older nvidia-smi does not know costs the whole answer, and it names the first such field only.
    while done and done.returncode and (unknown := _UNKNOWN_FIELD.search(done.stdout + done.stderr)) and unknown.group(1) in fields:
        fields.remove(unknown.group(1))
        done = _nvidia_smi(fields)
    if done is None or done.returncode:
        return dict.fromkeys(group or key for group, key in _ASKED.values())
    words = [word.strip() for word in done.stdout.partition("\n")[0].split(",")]
    reported = dict(zip(fields, words, strict=False))
    found: dict[str, Any] = {}
    for field, (group, key) in _ASKED.items():
        (found.setdefault(group, {}) if group else found)[key] = _value(reported.get(field, ""))
    return found


def _nvidia_smi(fields: list[str]) -> subprocess.CompletedProcess[str] | None:
    command = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.SubprocessError):
        return None


def _value(word: str) -> int | str | None:
    """Return a number, or words; None for nothing, and for what stands in brackets.

    >>> _value("5"), _value("1980 MHz"), _value("[N/A]"), _value("")
    (5, '1980 MHz', None, None)
    """
    if word.isdecimal():
        return int(word)
    return word if word and not word.startswith("[") else None


def environment_name(facts: dict[str, Any]) -> str:
    """Return a file's name for a machine with a GPU.

    >>> environment_name({"gpu": "NVIDIA H200", "versions": {"torch": "2.11.0+cu130", "cupy-cuda13x": "14.2.0"}})
    'nvidia-h200-torch2.11-cupy14.2'
    """
    versions = facts["versions"]
    cupy = next((version for name, version in versions.items() if name.startswith("cupy")), "")
    words = [facts["gpu"], *(f"{name}{_minor(version)}" for name, version in (("torch", versions.get("torch", "")), ("cupy", cupy)))]
    return re.sub(r"[^a-z0-9.]+", "-", "-".join(words).lower()).strip("-")


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def main() -> int:
    """Print what `gpu_environment` returns as JSON, for who must not be taken down by asking; status 3 without a device."""
    try:
        print(json.dumps(gpu_environment()))
    except NoDeviceError as error:
        print(error, file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
