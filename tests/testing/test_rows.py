"""The rows of `interop.testing`: their names, which are chosen, and that nothing is imported before they are asked for."""

import re
import subprocess
import sys

import pytest

from interop.backends import BUILTIN, backend_names
from interop.testing import Row, list_rows, rows
from interop.testing.rows import check_backend, check_name, choose, split, survey

CUDA = [
    Row("numpy"),
    Row("numpy", state="readonly"),
    *(Row("torch", device, state) for device in ("cpu", "cuda:0", "cuda:1") for state in ("", "grad")),
    Row("array_api_strict", "device1"),
]
"""A machine with two GPUs, without needing one."""


def ids(found):
    return [row.id for row in found]


def test_ids_leave_out_the_cpu_and_the_empty_state():
    assert ids(CUDA) == [
        "numpy",
        "numpy:readonly",
        "torch",
        "torch:grad",
        "torch:cuda:0",
        "torch:cuda:0:grad",
        "torch:cuda:1",
        "torch:cuda:1:grad",
        "array_api_strict:device1",
    ]
    assert len(set(ids(CUDA))) == len(CUDA)


@pytest.mark.parametrize("row", CUDA, ids=lambda row: row.id)
def test_an_id_means_its_row(row):
    assert row.matches(row.id)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("numpy", ["numpy", "numpy:readonly"]),
        ("numpy:plain", ["numpy"]),
        ("numpy:readonly", ["numpy:readonly"]),
        ("torch:grad", ["torch:grad", "torch:cuda:0:grad", "torch:cuda:1:grad"]),
        ("torch:cpu", ["torch", "torch:grad"]),
        ("torch:cpu:plain", ["torch"]),
        ("torch:cuda", ["torch:cuda:0", "torch:cuda:0:grad", "torch:cuda:1", "torch:cuda:1:grad"]),
        ("torch:cuda:1", ["torch:cuda:1", "torch:cuda:1:grad"]),
        ("torch:cuda:1:grad", ["torch:cuda:1:grad"]),
        ("torch:cuda:plain", ["torch:cuda:0", "torch:cuda:1"]),
        ("array_api_strict:device1", ["array_api_strict:device1"]),
        ("torch:readonly", []),
        ("num", []),
    ],
)
def test_a_name_means_the_rows_that_have_all_its_words(name, meant):
    assert [row.id for row in CUDA if row.matches(name)] == meant


def test_a_number_belongs_to_the_device_before_it():
    assert split("torch:cuda:0:grad") == ["torch", "cuda:0", "grad"]


@pytest.mark.parametrize(
    ("backends", "devices", "chosen"),
    [
        (None, None, ids(CUDA)),
        (["numpy"], None, ["numpy", "numpy:readonly"]),
        (["torch:grad", "numpy:plain"], ["cpu"], ["numpy", "torch:grad"]),
        (None, ["cuda:1", "device1"], ["torch:cuda:1", "torch:cuda:1:grad", "array_api_strict:device1"]),
        (["torch"], ["cuda"], ["torch:cuda:0", "torch:cuda:0:grad", "torch:cuda:1", "torch:cuda:1:grad"]),
    ],
)
def test_backends_and_devices_choose_rows(backends, devices, chosen):
    assert ids(choose(rows.Survey(CUDA, {}), backends, devices)) == chosen


@pytest.mark.parametrize(
    ("backends", "devices", "message"),
    [
        (["torch:meta"], None, ["'torch:meta' is no row here", "torch:cuda:1:grad"]),
        (["cupy"], None, ["'cupy' is not here: cupy has no device"]),
        (None, ["mps"], ["no row is on 'mps'", "There are: numpy"]),
        (["numpy", "torch"], ["cuda"], ["'numpy' has no row on cuda"]),
        (["torch"], ["cpu", "cuda:2"], ["no row is on 'cuda:2'", "torch:cuda:0"]),
    ],
)
def test_what_is_asked_for_and_not_there_is_an_error(backends, devices, message):
    found = rows.Survey(CUDA, {"cupy": "cupy has no device that can be used here"})
    with pytest.raises(ValueError, match=re.escape(message[0])) as caught:
        choose(found, backends, devices)
    assert all(words in str(caught.value) for words in message), caught.value


def test_the_rows_of_this_machine():
    found = ids(list_rows(["numpy", "torch", "jax", "array_api_strict"], ["cpu", "device1", "device2"]))
    assert found == [
        "numpy",
        "numpy:readonly",
        "torch",
        "torch:grad",
        "jax",
        "array_api_strict",
        "array_api_strict:device1",
        "array_api_strict:device2",
    ]


def test_the_order_is_the_backends_own_whatever_was_asked_for_first():
    assert ids(list_rows(["torch:plain", "numpy:plain"], ["cpu"])) == ["numpy", "torch"]


def test_a_backend_without_a_device_says_so(monkeypatch):
    cupy = rows.load_backend("cupy")
    monkeypatch.setattr(type(cupy), "devices", lambda self: ())
    monkeypatch.setattr(type(cupy), "why_unavailable", lambda self, device: "the driver is too old")
    assert survey(["cupy"]) == ([], {"cupy": "cupy has no device that can be used here: the driver is too old"})


@pytest.mark.parametrize("error", [ImportError("no libtoy.so"), AttributeError("mixed files"), RuntimeError("driver")])
def test_a_broken_backend_of_a_third_party_says_why(monkeypatch, error):
    def load(name):
        raise error

    monkeypatch.setattr(rows, "load_backend", load)
    assert survey(["toy"]).missing == {"toy": f"toy cannot be loaded: {type(error).__name__}: {error}"}


def test_a_bug_of_ours_is_not_told_as_a_broken_installation(monkeypatch):
    """The negative control."""
    monkeypatch.setattr(rows, "load_backend", lambda name: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        survey(["toy"])


def test_a_library_that_is_not_installed_is_found_out_without_importing(monkeypatch):
    monkeypatch.setattr(rows.importlib.util, "find_spec", lambda name: None if name == "jax" else object())
    check_backend("numpy:readonly")
    with pytest.raises(ValueError, match=r"jax is not installed \(pip install 'array-interop\[jax\]'\). Installed: numpy, torch"):
        check_backend("jax")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("torhc", "'torhc' is not a backend; did you mean 'torch'?"),
        ("numpy:writeable", "'writeable' is not a state or a device of numpy"),
        ("numpy:read-only", "did you mean 'readonly'?"),
        ("numpy:cuda", "'cuda' is not a state or a device of numpy"),
    ],
)
def test_a_name_that_no_machine_has_is_an_error(name, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        check_name(name, ["numpy"])


@pytest.mark.parametrize("name", ["numpy", "numpy:plain", "numpy:readonly", "numpy:cpu", "torch", "torch:anything"])
def test_other_names_are_taken_and_what_is_not_loaded_is_not_judged(name):
    check_name(name, ["numpy"])


@pytest.mark.parametrize("name", ["torch:cuda", "torch:cuda:7", "torch:mps", "torch:grad"])
def test_a_device_need_not_be_on_this_machine_to_be_named_in_a_mark(name):
    check_name(name, ["torch"])


def loaded_after(statement):
    code = f"{statement}\nimport sys; print(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


LIBRARIES = {*BUILTIN, "optree", "ml_dtypes", "array_api_compat"}


def test_importing_the_kit_imports_no_library_and_no_pytest():
    loaded = loaded_after("import interop.testing, interop.testing.rows")
    assert not loaded & (LIBRARIES | {"pytest"})
    assert not loaded_after("import interop.testing.plugin") & LIBRARIES


def test_listing_rows_imports_what_is_asked_for():
    """The negative control."""
    loaded = loaded_after("from interop.testing import list_rows; list_rows(['numpy', 'array_api_strict'])")
    assert loaded & LIBRARIES >= {"numpy", "array_api_strict"}
    assert not loaded & {"torch", "jax", "cupy"}


def test_every_backend_is_surveyed():
    found = survey()
    assert {row.backend for row in found.rows} | set(found.missing) == set(backend_names())
