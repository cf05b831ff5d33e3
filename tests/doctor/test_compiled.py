"""Whether the doctor tells of an installation without the compiled half."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import interop
from interop.doctor import compiled

ROOT = Path(interop.__file__).parent


def findings(folder, *left_out):
    """Return what the doctor finds of interop itself, from a copy of the package."""
    shutil.copytree(ROOT, folder / "interop", ignore=shutil.ignore_patterns("__pycache__", *left_out))
    done = subprocess.run([sys.executable, "-m", "interop", "doctor", "--json"], cwd=folder, capture_output=True, text=True, check=False)
    answer = json.loads(done.stdout)
    assert done.returncode == bool(answer["findings"])
    return [one["text"] for one in answer["findings"] if one["backend"] == "interop"]


def test_an_installation_without_the_c_extension_is_a_finding(tmp_path):
    (text,) = findings(tmp_path, "*.so", "*.pyd")
    assert text.startswith("the C extension is missing, or of another version")


def test_with_it_there_is_none(tmp_path):
    assert findings(tmp_path) == []


@pytest.mark.parametrize(("module", "count"), [(None, 1), (object(), 0)])
def test_what_the_engine_could_load_decides(monkeypatch, module, count):
    """One of another version is not loaded either."""
    monkeypatch.setattr(compiled, "compiled", module)
    assert len(compiled.compiled_half()) == count
