"""The doctor gets through on broken machines, says what is wrong and what to do, and knows its versions.

Broken installations are made of files: a package that raises, a dist-info folder that contradicts it. They stand
first on ``sys.path`` of a process of their own.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from packaging.specifiers import SpecifierSet

from interop.backends import BUILTIN, load_backend
from interop.backends.cuda.types import Card, CudaView
from interop.dlpack import VERSION, Capsule
from interop.doctor import examination as doctor
from interop.doctor.cuda import EMPTY, cuda_state, disagreements
from interop.doctor.distributions import Distributions, known_library
from interop.doctor.dlpack_support import dlpack_support

PAGE = (Path(__file__).parent.parent.parent / "docs" / "doctor.md").read_text(encoding="utf-8")
KNOWN = [issue for name in BUILTIN for issue in known_library(name).issues]
KNOWN_ISSUES = {issue.id: issue for issue in KNOWN}


def install(folder, name, version="1.0", package=None, source=""):
    """Write a distribution that holds one package, or none."""
    information = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    if package:
        (folder / package).mkdir(exist_ok=True)
        (folder / package / "__init__.py").write_text(source)


def run(folder, *words, width="80"):
    environment = os.environ | {"PYTHONPATH": str(folder), "COLUMNS": width}
    command = [sys.executable, "-m", "interop", "doctor", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def state(folder):
    """Return the exit status, and the answer as data; no traceback was printed."""
    done = run(folder, "--json")
    assert "Traceback" not in done.stderr
    return done.returncode, json.loads(done.stdout)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """Return the status, the answer and the text of this machine as it is."""
    folder = tmp_path_factory.mktemp("sound")
    return (*state(folder), run(folder).stdout)


def found(answer, backend):
    return [finding["text"] for finding in answer["findings"] if finding["backend"] == backend]


def library(answer, name):
    return next(one for one in answer["backends"] if one["name"] == name)


# A sound machine.


def test_a_sound_installation_is_status_0_though_issues_are_known(sound):
    status, answer, text = sound
    assert (status, answer["findings"]) == (0, [])
    assert answer["known_trouble"]
    assert [one["status"] for one in answer["backends"]] == ["ok"] * len(BUILTIN)
    assert "Nothing is wrong with this installation." in text.splitlines()


def test_what_is_there_is_measured(sound):
    _, answer, _ = sound
    assert library(answer, "torch")["version"] == torch.__version__
    assert library(answer, "numpy")["devices"] == ["cpu"]
    support = library(answer, "numpy")["dlpack"]
    assert (support["exports"], support["imports"], support["exchange_api"]) == ("1.0", "1.0", False)
    assert support["measured"] == ["exchange_api", "exports", "imports"]


def test_jax_is_measured_on_memory_that_it_takes(sound):
    support = library(sound[1], "jax")["dlpack"]
    assert support["measured"] == ["exchange_api", "exports", "imports"]
    assert support["exports"] == support["imports"] == ("legacy" if Distributions().affected(KNOWN_ISSUES["jax-legacy-export"]) else "1.0")
    assert library(sound[1], "jax")["devices"][0] == "cpu"


def test_a_device_that_is_there_is_not_called_unavailable(sound):
    assert "device1" in library(sound[1], "array_api_strict")["devices"]
    assert library(sound[1], "array_api_strict")["unavailable"] == {}
    assert "cuda" in library(sound[1], "jax")["unavailable"] or "cuda" in str(library(sound[1], "jax")["devices"])


def test_links_and_commands_are_whole_where_there_is_no_terminal(tmp_path, sound):
    install(tmp_path, "cupy-cuda12x")
    install(tmp_path, "cupy-cuda11x")
    narrow = run(tmp_path, width="40")
    assert narrow.returncode == 1
    for text in (narrow.stdout, sound[2]):
        assert "\x1b" not in text
        assert "…" not in text
        lines = [line.strip() for line in text.splitlines()]
        # CuPy alone has other versions there, so only the others' issues are the same.
        assert {one["link"] for one in sound[1]["known_trouble"] if not one["id"].startswith("cupy")} <= set(lines)
    assert "such as cupy-cuda11x (https://github.com/cupy/cupy/issues/3552)." in narrow.stdout


def test_the_text_is_within_the_width_but_for_findings_and_links(sound):
    lines = sound[2].splitlines()
    long = [line for line in lines if len(line) > 80 and "https://" not in line]
    assert [line for line in long if line.startswith("  ")] == []
    assert max(map(len, lines)) > 60


# Broken ones.


@pytest.mark.parametrize(
    ("error", "says"),
    [
        ("ImportError('undefined symbol: ncclCommRegister')", "ImportError: undefined symbol: ncclCommRegister"),
        ("OSError('libcudart.so.13: cannot open shared object file')", "OSError: libcudart.so.13: cannot open shared object file"),
        ("AttributeError('_ARRAY_API not found')", "AttributeError: _ARRAY_API not found"),
        ("ValueError('numpy.dtype size changed')", "ValueError: numpy.dtype size changed"),
        ("RuntimeError('=====\\n  two\\n  lines.\\n=====')", "RuntimeError: two lines."),
        ("KeyError()", "KeyError: no message"),
    ],
)
def test_a_broken_import_is_a_finding_without_a_traceback(tmp_path, error, says):
    install(tmp_path, "torch", "2.4.1", "torch", f"raise {error}")
    status, answer = state(tmp_path)
    assert status == 1
    finding = found(answer, "torch")[0]
    assert finding.startswith(f"torch is installed, but its import fails with {says.rstrip('.')}.")
    assert "Run python -c 'import torch'" in finding
    one = library(answer, "torch")
    assert (one["status"], one["version"], one["install"]) == ("broken", "2.4.1", None)
    assert library(answer, "numpy")["status"] == "ok"


def test_a_finding_is_one_line_of_text(tmp_path):
    install(
        tmp_path,
        "cupy",
        "13.6.0",
        "cupy",
        "raise ImportError('\\n=====\\nFailed to import CuPy.\\n\\nOriginal error: no libnvrtc\\n=====')",
    )
    done = run(tmp_path)
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("- cupy: cupy is installed, but"))
    assert "ImportError: Failed to import CuPy. Original error: no libnvrtc. Run python -c 'import cupy' to see where" in line
    assert "cupy: broken, see the findings" in done.stdout.splitlines()


def test_a_library_that_cannot_be_imported_has_its_known_issues(tmp_path):
    install(tmp_path, "torch", "2.4.1", "torch", "raise OSError('broken')")
    _, answer = state(tmp_path)
    known = {issue["id"]: issue["versions"] for issue in answer["known_trouble"]}
    assert known["torch-byte-offset-ignored"] == {"torch": "2.4.1"}
    assert "torch-no-stream-no-order" not in known


def test_a_missing_dependency_is_named(tmp_path):
    install(tmp_path, "torch", "2.4.1", "torch", "import sympathy")
    _, answer = state(tmp_path)
    assert "No module named 'sympathy'. Run pip install sympathy" in found(answer, "torch")[0]


def test_where_numpy_is_broken_it_comes_first(tmp_path):
    install(tmp_path, "numpy", "2.4.1", "numpy", "raise ImportError('no _multiarray_umath')")
    status, answer = state(tmp_path)
    assert status == 1
    assert [one["status"] for one in answer["backends"]] == ["broken"] * len(BUILTIN)
    assert "Repair numpy first" in found(answer, "torch")[0]
    assert "Repair numpy first" not in found(answer, "numpy")[0]
    assert "numpy warns: ImportError: _multiarray_umath failed to import" in run(tmp_path).stdout.splitlines()  # ml_dtypes prints it


def test_a_library_that_is_not_there_is_no_finding(tmp_path):
    # A finder in front of all others; the distribution's metadata are hidden with it.
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.metadata as m, sys\n"
        "class Hide:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'cupy': raise ModuleNotFoundError('No module named cupy', name='cupy')\n"
        "sys.meta_path.insert(0, Hide())\n"
        "real = m.distributions\n"
        "m.distributions = lambda: [d for d in real() if not d.metadata['Name'].startswith('cupy')]\n"
    )
    done, (status, answer) = run(tmp_path), state(tmp_path)
    assert status == 0
    assert "cupy: not installed; pip install 'array-interop[cupy13x]'" in done.stdout.splitlines()
    one = library(answer, "cupy")
    assert (one["status"], one["version"], one["install"]) == ("missing", None, BUILTIN["cupy"].install)
    assert not [issue for issue in answer["known_trouble"] if issue["id"].startswith("cupy")]


def test_a_library_that_prints_does_not_spoil_the_json(tmp_path):
    install(tmp_path, "torch", "2.4.1", "torch", "print('hello'); import warnings; warnings.warn('old driver'); raise OSError('broken')")
    status, answer = state(tmp_path)
    assert status == 1
    assert [one["text"] for one in answer["warnings"] if one["backend"] == "torch"] == ["old driver", "hello"]


def test_jax_that_logs_when_it_is_imported_does_not_spoil_the_json(tmp_path):
    # What JAX does where there is a GPU and no jaxlib for it.
    source = "import logging, sys; logging.getLogger(__name__).warning('An NVIDIA GPU may be present'); print('x'); raise RuntimeError('jaxlib is old')"
    install(tmp_path, "jax", "0.8.0", "jax", source)
    status, answer = state(tmp_path)
    assert status == 1
    assert found(answer, "jax")[0].startswith("jax is installed, but its import fails with RuntimeError: jaxlib is old.")
    assert "An NVIDIA GPU may be present" in str(answer["warnings"])


def test_two_cupys_are_a_finding(tmp_path):
    install(tmp_path, "cupy-cuda12x", "13.6.0")
    install(tmp_path, "cupy_cuda11x", "13.6.0")
    status, answer = state(tmp_path)
    finding = next(text for text in found(answer, "cupy") if "one folder, so which" in text)
    assert status == 1
    assert "cupy-cuda12x and cupy-cuda11x" in finding
    assert "Run pip uninstall -y" in finding
    distributions = Distributions()
    distributions.versions = {"cupy-cuda12x": ["13.6.0"], "cupy-xarray": ["1"], "numpy": ["2"]}
    assert not any("one folder" in text for text in distributions.contradictions("cupy", broken=True))


def test_metadata_that_contradict_the_module_are_a_finding(tmp_path):
    install(tmp_path, "torch", "2.4.1")
    status, answer = state(tmp_path)
    loaded = torch.__version__.partition("+")[0]
    assert status == 1
    assert f"torch is listed as 2.4.1, but the module that is imported says {loaded}." in found(answer, "torch")[0]


def test_the_local_part_of_a_version_is_no_contradiction(tmp_path):
    install(tmp_path, "torch", f"{torch.__version__.partition('+')[0]}+cu130")
    assert state(tmp_path)[0] == 0


def test_a_distribution_twice_in_one_folder_is_a_finding(tmp_path):
    here = torch.__version__.partition("+")[0]
    install(tmp_path, "torch", here)
    install(tmp_path, "torch", "2.4.1")
    _, answer = state(tmp_path)
    assert f"torch is installed twice in one folder, as {' and '.join(sorted(['2.4.1', here]))}" in found(answer, "torch")[0]


def test_a_distribution_without_its_module_is_a_finding(monkeypatch):
    monkeypatch.delitem(sys.modules, "jax", raising=False)  # another test may have loaded it
    distributions = Distributions()
    distributions.versions = {"jax": ["0.10.2"]}
    assert "jax 0.10.2 is listed as installed, but there is no module jax." in next(distributions.contradictions("jax", broken=False))
    assert list(distributions.contradictions("jax", broken=True)) == []


def test_damaged_metadata_do_not_stop_the_doctor(tmp_path):
    (tmp_path / "torch-9.dist-info").mkdir()
    (tmp_path / "torch-9.dist-info" / "METADATA").write_bytes(b"\xff\xfe no metadata")
    (tmp_path / "empty-1.0.dist-info").mkdir()
    install(tmp_path, "scikit-learn", "not a version")
    status, answer = state(tmp_path)
    assert status == 0
    assert "torch-scikit-learn-abort" not in {issue["id"] for issue in answer["known_trouble"]}


# What is asked of libraries that load.


def no_numpy(tensor):
    raise RuntimeError("Numpy is not available")


def test_torch_without_numpy_is_a_finding(monkeypatch):
    assert load_backend("torch").findings() == []
    monkeypatch.setattr(torch.Tensor, "numpy", no_numpy)
    (finding,) = load_backend("torch").findings()
    assert "Numpy is not available. Run pip install --upgrade torch" in finding
    assert [one["text"] for one in doctor.examine()["findings"]] == [finding]


def test_cupy_and_torch_of_different_cudas_are_a_finding(monkeypatch):
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
    own = cupy.cuda.runtime.runtimeGetVersion() // 1000
    monkeypatch.setattr(torch.version, "cuda", f"{own}.0")
    assert load_backend("cupy").findings() == []
    monkeypatch.setattr(torch.version, "cuda", f"{own - 1}.8")
    (finding,) = load_backend("cupy").findings()
    assert f"CuPy is built for CUDA {own} and torch for CUDA {own - 1}.8" in finding
    assert f"pip install cupy-cuda{own - 1}x" in finding


@pytest.mark.parametrize(
    ("runtime", "driver", "old"), [(13020, 12040, True), (13020, 13000, False), (12090, 13000, False), (13020, 0, False)]
)
def test_a_driver_that_is_too_old_is_a_finding(runtime, driver, old):
    installation = pytest.importorskip("interop.backends.cupy.installation", reason="CuPy is not installed")
    assert bool(installation._driver(runtime, driver)) is old


@pytest.mark.parametrize("method", ["report", "findings", "why_unavailable", "from_host"])
def test_a_library_that_fails_when_asked_is_a_finding(monkeypatch, method):
    def fails(*_):
        raise RuntimeError("CUDA error: unknown error")

    monkeypatch.setattr(type(load_backend("torch")), method, fails)
    answer = doctor.examine()
    assert "RuntimeError: CUDA error: unknown error. Update torch, or reinstall it." in found(answer, "torch")[0]
    assert library(answer, "torch")["status"] == "ok"
    assert found(answer, "numpy") == []


class Legacy:
    def __dlpack__(self):
        raise AssertionError("not reached")


def test_an_export_from_before_versions_is_legacy(monkeypatch):
    numpy = load_backend("numpy")
    assert dlpack_support(numpy, {})["exports"] == "1.0"
    monkeypatch.setattr(type(numpy), "from_host", lambda *_: Legacy())
    assert dlpack_support(numpy, {})["exports"] == "legacy"


def test_the_versions_asked_for_are_the_ones_sent():
    assert dlpack_support(load_backend("torch"), {})["exports"] == ".".join(map(str, VERSION))
    assert dlpack_support(load_backend("torch"), {})["imports"] == "1.0"


# What is older than the project asks for.


REQUIRED = [
    "numpy>=2.1.1",
    'torch>=2.10; extra == "torch"',
    'cupy-cuda13x>=13.6; extra == "cupy13x"',
    'ml_dtypes>=0.5; python_version >= "3.11" and extra == "x"',
    'pandas>=2.2; extra == "demo"',
]


@pytest.mark.parametrize(
    ("versions", "texts"),
    [
        ({"numpy": "2.1.0"}, ["numpy 2.1.0 is installed, and array-interop needs numpy>=2.1.1. Run pip install 'numpy>=2.1.1'."]),
        (
            {"numpy": "2.1.1", "torch": "2.9.1+cu130", "ml-dtypes": "0.4.1"},
            [
                "torch 2.9.1+cu130 is installed, and array-interop needs torch>=2.10. Run pip install 'torch>=2.10'.",
                "ml_dtypes 0.4.1 is installed, and array-interop needs ml_dtypes>=0.5. Run pip install 'ml_dtypes>=0.5'.",
            ],
        ),
        ({"numpy": "2.5.0.dev0+git", "torch": "2.10.0a1", "cupy-cuda13x": "14.2.0", "pandas": "1.0", "ml-dtypes": "a build"}, []),
        ({}, []),
    ],
)
def test_what_is_older_than_asked_for_is_a_finding(monkeypatch, versions, texts):
    monkeypatch.setattr("importlib.metadata.requires", {"array-interop": REQUIRED, "array-interop-conformance": None}.get)
    distributions = Distributions()
    distributions.versions = {name: [version] for name, version in versions.items()}
    assert list(distributions.unfit()) == texts


def test_examine_says_what_is_older_than_asked_for(monkeypatch):
    asked = {"array-interop": ["numpy>=99"], "array-interop-conformance": []}
    monkeypatch.setattr("importlib.metadata.requires", asked.get)
    (text,) = found(doctor.examine(), "interop")
    assert text.endswith(" is installed, and array-interop needs numpy>=99. Run pip install 'numpy>=99'.")


# Known issues, as data.


@pytest.mark.parametrize("name", KNOWN_ISSUES)
def test_a_known_issue_is_complete(name):
    issue = KNOWN_ISSUES[name]
    assert re.fullmatch(r"[a-z]+(-[a-z0-9]+)+", name)
    assert re.fullmatch(r"https://github\.com/[\w-]+/[\w-]+/(issues|pull)/\d+", issue.link)
    for text in (issue.happens, issue.advice):
        assert text.endswith(".")
    specifiers = [SpecifierSet(specifier) for specifier in issue.requires.values()]
    closed = any(one.operator in ("<", "<=") for specifier in specifiers for one in specifier)
    assert closed or "as of" in issue.happens


def test_the_ids_are_unique():
    assert len(KNOWN_ISSUES) == len(KNOWN)


@pytest.mark.parametrize(
    ("name", "versions", "has"),
    [
        ("torch-negative-strides-abort", {"torch": "2.13.0+cpu"}, True),
        ("torch-negative-strides-abort", {"torch": "2.14.0"}, False),
        ("torch-negative-strides-abort", {"torch": "2.14.0.dev20260801+cu130"}, False),
        ("torch-negative-strides-abort", {"torch": "nightly"}, False),
        ("torch-negative-strides-refused", {"torch": "2.13.0+cpu"}, False),
        ("torch-negative-strides-refused", {"torch": "2.14.1"}, True),
        ("torch-read-only-ignored", {"torch": "2.8.0"}, False),
        ("torch-read-only-ignored", {"torch": "2.9.1"}, True),
        ("torch-no-stream-no-order", {"torch": "2.10.0.dev20251101+cu130"}, True),
        ("torch-no-stream-breaks-capture", {"torch": "2.9.1"}, True),
        ("torch-no-stream-breaks-capture", {"torch": "2.10.0"}, False),
        ("torch-numpy-2", {"torch": "2.2.2", "numpy": "2.0.2"}, True),
        ("torch-numpy-2", {"torch": "2.3.0", "numpy": "2.0.2"}, False),
        ("torch-numpy-2", {"torch": "2.2.2", "numpy": "1.26.4"}, False),
        ("torch-scikit-learn-abort", {"torch": "2.13.0"}, False),
        ("numpy-array-interface-crash", {"numpy": "2.1.0"}, True),
        ("numpy-array-interface-crash", {"numpy": "2.1.1"}, False),
        ("numpy-array-interface-crash", {"numpy": "2.0.2"}, False),
        ("numpy-imports-read-only", {"numpy": "2.2.4"}, True),
        ("numpy-imports-read-only", {"numpy": "2.2.5"}, False),
        ("cupy-unfinished-host-copy", {"cupy-cuda12x": "14.1.1"}, True),
        ("cupy-unfinished-host-copy", {"cupy": "14.2.0"}, False),
        ("cupy-torch-as-tensor-leaks", {"cupy-rocm-7-0": "14.2.0", "torch": "2.7.1"}, True),
        ("cupy-bfloat16-needs-numpy", {"cupy-cuda13x": "14.0.0", "numpy": "2.1.1"}, True),
        ("cupy-bfloat16-needs-numpy", {"cupy-cuda13x": "13.6.0", "numpy": "2.1.1"}, False),
        ("jax-transposed-wrong-values", {"jax": "0.7.1"}, True),
        ("jax-transposed-wrong-values", {"jax": "0.7.2"}, False),
        ("jax-copy-comes-late", {"jax": "0.12.0.1"}, True),
        ("jax-copy-comes-late", {"jax": "0.7.2"}, False),
        ("jax-read-only-refused", {"jax": "0.12.0.1"}, False),
        ("array-api-strict-dlpack-device", {"array-api-strict": "2.2"}, True),
        ("array-api-strict-dlpack-device", {"array-api-strict": "2.3"}, False),
    ],
)
def test_an_issue_is_that_of_the_versions(name, versions, has):
    distributions = Distributions()
    distributions.versions = {distribution: [version] for distribution, version in versions.items()}
    assert distributions.affected(KNOWN_ISSUES[name]) == (versions if has else None)


def test_the_issue_that_can_be_tried_here_is_here():
    """One entry against the library itself: torch drops the read-only flag, and the range says so."""
    a = np.zeros(2)
    a.setflags(write=False)
    torch.from_dlpack(a)[0] = 1.0
    assert (a[0] == 1.0) == (Distributions().affected(KNOWN_ISSUES["torch-read-only-ignored"]) is not None)


def aligned(length):
    raw = np.zeros(4 * length + 64, "uint8")
    start = -raw.ctypes.data % 64
    return raw[start : start + 4 * length].view("float32")


def device_put_aliases():
    import jax

    a = aligned(1000)
    copied = jax.device_put(a, may_alias=False)
    a[0] = 1
    return copied[0] == 1


def narrows():
    import jax.numpy

    return jax.numpy.asarray(np.array([2**32])).tolist() == [0]


def refuses_read_only():
    import jax.dlpack

    a = aligned(4)
    a.flags.writeable = False
    try:
        jax.dlpack.from_dlpack(a)
    except BufferError:
        return True
    return False


def exports_writable():
    import jax.numpy

    x = jax.numpy.zeros(4)
    torch.from_dlpack(x)[0] = 1
    return x[0] == 1 and Capsule(x.__dlpack__(max_version=VERSION)).version is None


def shares_other_devices():
    import array_api_strict

    return np.from_dlpack(array_api_strict.zeros(2, device=array_api_strict.Device("device1"))).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("name", "happens"),
    [
        ("jax-device-put-aliases", device_put_aliases),
        ("jax-x64-narrowing", narrows),
        ("jax-read-only-refused", refuses_read_only),
        ("jax-legacy-export", exports_writable),
        ("array-api-strict-devices-shared", shares_other_devices),
    ],
)
def test_the_issues_of_jax_and_array_api_strict_happen_here(name, happens):
    assert happens() == (Distributions().affected(KNOWN_ISSUES[name]) is not None)


def test_the_known_issues_of_each_backend_import_no_library():
    program = "import sys, interop.doctor.distributions as i\nfor n in {}: i.known_library(n)\nprint(sorted({{'numpy','torch','cupy','jax','array_api_strict'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program.format(list(BUILTIN))], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# CUDA, as libraries would see it.


def view(*buses, runtime="13.0", peers=()):
    return CudaView("13.1", runtime, "native", tuple(Card("Card", bus, peers) for bus in buses))


class Asked:
    """A library that knows who holds the memory of cuda:1, which is current."""

    def __init__(self, name):
        self.name = name

    def current_index(self):
        return 1

    def free_memory(self, device):
        assert device.index == 1
        return 1 << 30, 2 << 30

    def pools(self, device):
        return {self.name: (0, 3 << 20)}


def cuda_of_two_cards(**runtimes):
    views = {"torch": view("a", "b", peers=(1,)), "cupy": view("a", "b", runtime=runtimes.get("cupy", "13.2"))}
    return cuda_state(views, {name: Asked(name) for name in views})


def test_what_the_libraries_see_of_cuda_is_put_side_by_side():
    found = cuda_of_two_cards()
    assert found["driver"] == "13.1"
    assert found["agree"]
    assert [(one["library"], one["version"]) for one in found["runtimes"]] == [("torch", "13.0"), ("cupy", "13.2")]
    first, second = found["devices"]
    assert (first["bus"], first["peers"], first["free"], first["pools"]) == ("a", [1], None, [])
    assert (second["free"], second["total"]) == (1 << 30, 2 << 30)
    assert second["pools"] == [{"name": "torch", "used": 0, "held": 3 << 20}, {"name": "cupy", "used": 0, "held": 3 << 20}]
    assert not cuda_of_two_cards(cupy="12.9")["agree"]
    assert cuda_state({}, {}) == EMPTY


@pytest.mark.parametrize(
    ("torch_sees", "cupy_sees", "said"),
    [
        ("ab", "ab", ""),
        ("ab", "a", "torch sees 2 CUDA devices and cupy 1."),
        ("ab", "ba", "cuda:0 of torch is another card than cuda:0 of cupy"),
    ],
)
def test_libraries_that_see_other_devices_are_a_finding(torch_sees, cupy_sees, said):
    found = disagreements({"torch": view(*torch_sees), "cupy": view(*cupy_sees)})
    assert len(found) == bool(said)
    assert all(said in one and "CUDA_VISIBLE_DEVICES" in one for one in found)
    assert disagreements({"torch": view("a")}) == disagreements({}) == []


def test_the_devices_are_printed(capsys):
    from interop.cli.doctor import _Page

    _Page().cuda(cuda_of_two_cards())
    assert capsys.readouterr().out.splitlines() == [
        "",
        "CUDA: the driver knows up to 13.1; torch 13.0 (allocates with native), cupy 13.2 (allocates with native); the same major version",
        "cuda:0 Card at a; reaches the memory of cuda:1",
        "cuda:1 Card at b; 1.0 GiB of 2.0 GiB free; reaches the memory of cuda:1",
        "  pool of torch: holds 3.0 MiB, 0 bytes of it in use",
        "  pool of cupy: holds 3.0 MiB, 0 bytes of it in use",
    ]
    _Page().cuda(EMPTY)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", ["torch", "cupy"])
def test_here_without_a_device_no_library_sees_cuda(name):
    if torch.cuda.is_available():
        pytest.skip("there is a device here; see tests/gpu/test_pool.py")
    pytest.importorskip(name, reason=f"{name} is not installed")
    assert load_backend(name).cuda() is None


def test_a_library_whose_question_fails_is_a_finding(monkeypatch):
    def fail():
        raise RuntimeError("driver gone")

    monkeypatch.setattr(load_backend("torch"), "cuda", fail, raising=False)
    texts = [finding["text"] for finding in doctor.examine()["findings"]]
    assert any("asking about CUDA fails with RuntimeError: driver gone" in text for text in texts)


# The page.


def keys(value, path=""):
    """Return the path of every leaf; what libraries name themselves (versions, devices) is a leaf."""
    if isinstance(value, dict) and not path.endswith((".versions", ".unavailable")):
        return {leaf for name, inner in value.items() for leaf in keys(inner, f"{path}.{name}".lstrip("."))}
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return {leaf for inner in value for leaf in keys(inner, f"{path}[]")}
    return {path}


def test_the_page_lists_every_key(tmp_path):
    install(tmp_path, "torch", "2.4.1", "torch", "import warnings; warnings.warn('old driver'); raise OSError('broken')")
    _, answer = state(tmp_path)
    answer["cuda"] = cuda = cuda_of_two_cards()
    del cuda["devices"][0]  # not the current one, so it has no pools
    table = PAGE.partition("`interop doctor --json`\n")[2].partition("\n## ")[0]
    assert keys(answer) == set(re.findall(r"^\| `([a-z_.\[\]]+)` \|", table, re.MULTILINE))
    assert answer["schema"] == doctor.SCHEMA
    assert f"now {doctor.SCHEMA}" in PAGE
