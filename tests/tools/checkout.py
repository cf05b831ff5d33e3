"""What the tests of `make gpu` share: a checkout made of small files of tests, and the runner over it."""

import textwrap

from tools import gpu
from tools.results import write

FACTS = {"gpu": "Test Device 9", "versions": {"torch": "2.11.0", "cupy-cuda13x": "14.2.0"}}

CONFIG = """
[tool.pytest.ini_options]
addopts = ["-ra", "--strict-markers", "--strict-config", "--doctest-modules", "--import-mode=importlib"]
xfail_strict = true
filterwarnings = ["error"]
markers = ["gpu: needs a CUDA device"]
"""

HEAD = "import os, pytest\npytestmark = pytest.mark.gpu\n"


def checkout(root, **files):
    """Make a checkout of these files of tests, and return its root."""
    (root / "tests").mkdir(parents=True)
    (root / "pyproject.toml").write_text(CONFIG)
    for name, source in files.items():
        (root / "tests" / f"{name}.py").write_text(textwrap.dedent(source))
    return root


def as_run(root, seconds=120.0, *, resume=False):
    """Return what the runner has of a checkout; the tests get all of the time."""
    deadline = gpu.Deadline(seconds * sum(gpu.SHARES.values()) / (gpu.SHARES["build"] + gpu.SHARES["tests"]))
    return gpu.Run(root, root / "out", "test", deadline, resume)


def run(root, seconds=120.0, *, resume=False, preload=(), limit=60.0):
    """Run the tests of a checkout; return the results, and the file that they are in."""
    given = as_run(root, seconds, resume=resume)
    stopped = gpu.record_tests(given, FACTS, preload=preload, limit=limit)
    document = gpu.composed(given, FACTS, stopped)
    write(document, given.path("tests"))
    return document, given.path("tests")


def outcomes(document):
    """Return the outcome of each test by its name."""
    return {record["nodeid"].rpartition("::")[2]: record["outcome"] for record in document["tests"]}


def reasons(document):
    """Return the reason of each test by its name."""
    return {record["nodeid"].rpartition("::")[2]: record["reason"] for record in document["tests"]}
