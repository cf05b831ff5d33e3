"""The two distributions: what their wheels hold, built as a release builds them, and what each does in an environment of its own.

The environments see what this one has installed, through links, less the project itself.
"""

import os
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
from interop_conformance.adapters import load_adapters

from tools.count import ROOT
from tools.floors import floors

CORE = ["interop", "LICENSE", "MANIFEST.in", "README.md", "pyproject.toml", "setup.py"]
VERSIONS = {
    "interop": ROOT / "interop" / "_version.py",
    "interop_conformance": ROOT / "conformance" / "interop_conformance" / "_version.py",
}
BUILT = shutil.ignore_patterns("__pycache__", "*.so", "*.egg-info", "build", "results")


def run(*words, cwd=ROOT.anchor, **environment):
    # Not in the checkout: the folder that a command runs in comes first on its path.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run([str(word) for word in words], cwd=cwd, env=kept | environment, capture_output=True, text=True, check=False)


def wheel(source, out):
    """Build the wheel of a folder from its source distribution, which so must hold what the build needs."""
    build = f"from setuptools import build_meta; build_meta.build_sdist({str(out)!r})"
    assert (done := run(sys.executable, "-c", build, cwd=source)).returncode == 0, done.stderr
    (sdist,) = out.glob("*.tar.gz")
    # Without the compiler: what is compiled is optional, and what this is about are the files.
    done = run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", out, sdist, CC="false")
    assert done.returncode == 0, done.stderr
    (made,) = out.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def core(tmp_path_factory):
    source = tmp_path_factory.mktemp("source")
    for name in CORE:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name, **({"ignore": BUILT} if copy is shutil.copytree else {}))
    return wheel(source, tmp_path_factory.mktemp("core"))


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    source = tmp_path_factory.mktemp("source") / "conformance"
    shutil.copytree(
        ROOT / "conformance",
        source,
        ignore=lambda folder, names: BUILT(folder, names) - {"results"} if "interop_conformance" in folder else BUILT(folder, names),
    )
    return wheel(source, tmp_path_factory.mktemp("suite"))


@pytest.fixture
def python(tmp_path):
    """Return a Python that has everything that is installed here, less the project; what is installed into it comes first."""
    venv.create(tmp_path / "environment", symlinks=True)
    (packages,) = (tmp_path / "environment").glob("lib/python*/site-packages")
    links = tmp_path / "links"
    links.mkdir()
    for folder in {Path(path) for path in sys.path if path.endswith("site-packages")}:
        for entry in folder.iterdir():
            if "interop" not in entry.name and not (links / entry.name).exists():
                (links / entry.name).symlink_to(entry)
    (packages / "installed_here.pth").write_text(f"{links}\n")
    return tmp_path / "environment" / "bin" / "python"


def install(python, made):
    done = run(sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-index", made)
    assert done.returncode == 0, done.stderr


def files(made):
    return {name for name in zipfile.ZipFile(made).namelist() if ".dist-info/" not in name}


def expected(folder, without=()):
    """Return the files that a package's wheel must hold: all there are, less what is built, hidden, or for the compiler only."""
    found = (path for path in folder.rglob("*") if path.is_file() and path.suffix not in {".pyc", ".so", *without} and path.name[0] != ".")
    return {path.relative_to(folder.parent).as_posix() for path in found}


def test_the_cores_wheel_has_one_top_level_name(core):
    assert files(core) == expected(ROOT / "interop", without=(".c", ".h"))
    assert {name.partition("/")[0] for name in files(core)} == {"interop"}
    assert not [name for name in files(core) if "conformance" in name]


def test_the_suites_wheel_has_its_data(suite):
    assert files(suite) == expected(ROOT / "conformance" / "interop_conformance")
    assert {name.partition("/")[0] for name in files(suite)} == {"interop_conformance"}
    assert {".toml", ".json", ".jinja", ".css", ".js"} <= {Path(name).suffix for name in files(suite)}


def test_installed_together_the_suite_is_a_command(core, suite, python):
    install(python, core)
    command = python.with_name("interop")
    alone, listed = run(command, "conformance", "list"), run(command, "--help")
    assert (alone.returncode, alone.stdout) == (2, "")
    assert alone.stderr.endswith(
        "Error: 'conformance' is a distribution of its own, which is not installed; write: pip install 'array-interop[conformance]'\n"
    )
    assert (listed.returncode, "\n  conformance  " in listed.stdout) == (0, True)

    install(python, suite)
    both = run(command, "conformance", "list")
    assert both.returncode == 0, both.stderr
    assert "exchange.stays-alive" in both.stdout
    assert run(command, "--help").stdout == listed.stdout
    where = run(python, "-c", "import interop, interop_conformance; print(interop.__file__, interop_conformance.__file__)")
    assert all("site-packages" in path for path in where.stdout.split())


def test_from_a_checkout_that_is_not_installed(python):
    assert run(python, "-c", "import interop").returncode == 1  # the negative control
    done = run(python, "-m", "interop_conformance", "list", PYTHONPATH=f"{ROOT}{os.pathsep}{ROOT / 'conformance'}")
    assert done.returncode == 0, done.stderr
    assert "exchange.stays-alive" in done.stdout
    assert run(python, "-c", "import tools, interop_conformance.selection", cwd=ROOT).returncode == 0


def test_the_two_are_of_one_version():
    """The suite imports what is private to interop, so each asks for the other's own version."""
    core, suite = (path.read_text().partition("__version__ = ")[2].strip().strip('"') for path in VERSIONS.values())
    assert core == suite
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert extras["conformance"] == [f"array-interop-conformance=={core}"]
    needs = tomllib.loads((ROOT / "conformance" / "pyproject.toml").read_text())["project"]["dependencies"]
    assert [one for one in needs if one.startswith("array-interop")] == [f"array-interop[torch,jax,strict,cli]=={core}"]


def test_the_suite_says_which_library_is_too_old(monkeypatch):
    """Each adapter asks for what the distributions ask for: an older library has rows that nobody has looked at."""
    asked = {one.name: one.version for one in floors()}
    adapters = {name: adapter for name, adapter in load_adapters().items() if adapter.since}
    assert {adapter.distribution or adapter.name: adapter.since for adapter in adapters.values()} == {
        name: asked[name] for name in ("numpy", "torch", "jax", "array-api-strict", "apache-tvm-ffi", "pyarrow")
    }
    for adapter in adapters.values():
        name = adapter.distribution or adapter.name
        monkeypatch.setattr(type(adapter), "version", lambda self: "0.0.9")
        assert adapter.available() == f"{name} 0.0.9 is older than {asked[name]}; pip install '{name}>={asked[name]}'"
        monkeypatch.setattr(type(adapter), "version", lambda self, oldest=asked[name]: f"{oldest}.post2+cu130")
        assert "older" not in adapter.available()


def test_the_oldest_versions_are_the_same_everywhere():
    asked = {one.name: one.version for one in floors()}
    readme = (ROOT / "README.md").read_text()
    assert f"torch {asked['torch']}, NumPy {asked['numpy']}, JAX {asked['jax']}, CuPy {asked['cupy-cuda13x']} or newer." in readme
    assert asked["cupy-cuda12x"] == asked["cupy-cuda13x"]
    built = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    assert f"numpy>={asked['numpy']}" in built


def test_the_constraints_of_the_oldest():
    done = run(sys.executable, "-m", "tools.floors", cwd=ROOT)
    assert {"numpy==2.1.1.*", "torch==2.10", "pyarrow==21", "apache-tvm-ffi==0.1.13.*"} <= set(done.stdout.split())
    assert not [line for line in done.stdout.splitlines() if "cupy" in line], "two distributions of one library"
