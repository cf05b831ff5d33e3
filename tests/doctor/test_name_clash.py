"""Illumina's `interop` beside ours: made-up dist-infos, and folders in which the files of one lie over the other's."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import interop
from interop.doctor.distributions import Distributions
from interop.doctor.name_clash import name_clash

ROOT = Path(interop.__file__).parent
REPAIR = "Run pip uninstall interop array-interop, then pip install array-interop; Illumina's needs an environment of its own."
VERSION = interop.__version__
ILLUMINA = '__project__ = "Illumina InterOp"\n__version__ = "1.9.0"\n'


def dist_info(folder, name, version):
    information = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def both(folder, init):
    """Write a folder in which both are installed, with this text in ``__init__.py``; None: without it."""
    dist_info(folder, "array-interop", interop.__version__)
    dist_info(folder, "interop", "1.9.0")
    shutil.copytree(ROOT, folder / "interop", ignore=shutil.ignore_patterns("__pycache__", "*.c", "*.h"))
    (folder / "interop" / "core.py").write_text("")
    if init is None:
        (folder / "interop" / "__init__.py").unlink()
    else:
        (folder / "interop" / "__init__.py").write_text(init)


def run(folder, program, *words):
    # In front of everything else, as site-packages would be where the project is not installed from a checkout.
    program = f"import sys; sys.path.insert(0, {str(folder)!r})\n{program}"
    return subprocess.run([sys.executable, "-P", "-c", program, *words], capture_output=True, text=True, check=False)


def problems(folder):
    program = "import json; from interop.doctor.distributions import Distributions; from interop.doctor.name_clash import name_clash"
    done = run(folder, f"{program}; print(json.dumps(name_clash(Distributions())))")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_ours_alone_is_no_finding():
    assert name_clash(Distributions()) == []


def test_both_in_one_folder_with_our_files_last(tmp_path):
    both(tmp_path, (ROOT / "__init__.py").read_text())
    assert problems(tmp_path) == [
        f"array-interop {VERSION} and interop 1.9.0 (Illumina InterOp, an unrelated library) are installed in one folder, and "
        "both write interop/__init__.py; now it is array-interop's, so the other does not work, and uninstalling either breaks both. "
        + REPAIR
    ]


def test_the_other_ones_files_last(tmp_path):
    """`import interop` and ``python -m interop`` are the other's then; the script still is ours."""
    both(tmp_path, ILLUMINA)
    (tmp_path / "interop" / "__main__.py").write_text("raise SystemExit(3)\n")
    text = (
        "import interop gives version 1.9.0, of interop 1.9.0 (Illumina InterOp, an unrelated library): "
        f"it covers array-interop {VERSION}. {REPAIR}"
    )
    assert problems(tmp_path) == [text]
    assert run(tmp_path, "import interop.__main__").returncode == 3
    script = run(tmp_path, "from interop._command import main; sys.exit(main())", "doctor")
    assert script.returncode == 1, script.stderr
    assert f"- interop: {text}" in script.stdout.splitlines()


def test_from_a_checkout_the_folders_differ(tmp_path):
    dist_info(tmp_path, "interop", "1.9.0")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    words = [sys.executable, "-m", "interop", "doctor"]
    done = subprocess.run(words, cwd=ROOT.parent, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("- interop: "))
    assert "are both installed, in two folders: array-interop comes first and hides the other" in line
    assert line.endswith(REPAIR)


def test_after_the_other_is_uninstalled_the_package_has_no_init(tmp_path):
    both(tmp_path, None)
    shutil.rmtree(tmp_path / "interop-1.9.0.dist-info")
    assert problems(tmp_path) == [
        f"interop/__init__.py is missing: pip uninstall interop removes it, also where array-interop has overwritten it. {REPAIR}"
    ]


@pytest.mark.parametrize("ours", [True, False])
def test_a_distribution_without_files_that_are_loaded_is_named_by_its_version(monkeypatch, ours):
    """Illumina's metadata are gone, its file is not; and a version that is ours is none of its."""
    monkeypatch.setattr(interop, "__version__", interop.__version__ if ours else "1.9.0")
    found = name_clash(Distributions())
    assert found == (
        [] if ours else [f"import interop gives version 1.9.0, of another distribution: it covers array-interop {VERSION}. {REPAIR}"]
    )
