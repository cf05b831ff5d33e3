"""Libraries from outside: a run over an honest one has no false finding, its liars are found, and what it prints or dies of ends no run."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from interop_conformance.results.deviations import known
from interop_conformance.results.records import Case, Record
from interop_conformance.running.environment import environment_of

ROOT = Path(__file__).parents[2]
LOUD, BARE = ("tests.conformance.strangers." + name for name in ("loud:Loud", "bare:Bare"))


def run(adapter, *words, status):
    """Return the answer of a run with an adapter more, of which nothing but JSON may be on standard output."""
    command = [sys.executable, "-m", "interop", "conformance", "run", "--adapter", adapter, "--json", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stdout[-1500:] + done.stderr[-1500:]
    return json.loads(done.stdout)


def found(answer):
    """Return what was found, without the arrays that it was found on."""
    return {(*one["about"].split("/")[2:5], one["text"].partition(":")[0]) for one in answer["findings"]}


# Honest ones.


@pytest.mark.slow
@pytest.mark.parametrize("side", ["producer", "consumer"])
def test_a_library_that_prints_has_the_results_of_one_that_does_not(side):
    """It prints lines like those between the processes: from Python, to the descriptor and from C, at import, in prepare, in cases, at exit."""
    answer = run(LOUD, f"--{side}", "loud", "--quick", status=int(side == "producer"))
    # Its one fault: the destructor of its capsules runs Python, which loses the exception with which pyarrow refuses one.
    faults = [one for one in answer["findings"] if "returned NULL without setting an exception" not in one["text"]]
    assert faults == []
    assert answer["summary"]["outcomes"]["shared"] > 200
    assert answer["summary"]["outcomes"]["not-run"] == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("side", "true"),
    [
        ("producer", {("bare", "capsule", "producer.keywords", "unexplained"), ("bare", "jax", "{}", "unexplained")}),
        ("consumer", {("capsule", "bare", "consumer.max-version-passed", "wrong")}),
    ],
)
def test_a_library_with_next_to_nothing_is_found_to_lack_just_what_it_must_have(side, true):
    """No keywords of its own, legacy capsules without a context, no 0-d arrays, views of NumPy's. JAX passes it ``stream``, which it does not know."""
    answer = run(BARE, f"--{side}", "bare", "--quick", status=1)
    dtypes = {parts[2] for one in answer["findings"] if (parts := one["about"].split("/")[2:5])[1] == "jax"}
    assert found(answer) == {tuple(part.format(dtype) for part in row) for row in true for dtype in (dtypes or {""})}


@pytest.mark.parametrize(
    ("layout", "reason"),
    [
        ("broadcast", "not its own: numpy.ndarray is no array of the library's"),
        ("unaligned", "not its own: numpy.ndarray is no array of the library's"),
        ("0d", "not its own: numpy.float32 is no array of the library's"),
    ],
)
def test_an_array_that_is_not_the_librarys_own_is_not_run(layout, reason, tmp_path):
    run(BARE, "--case", f"handoff/*/bare/numpy/float32/{layout}/plain", "--output", str(tmp_path), status=0)
    (path,) = tmp_path.iterdir()
    from interop_conformance.results.files import read

    records = [record for record in read(path).records if record.case.dtype]
    assert {(record.outcome, record.reason) for record in records} == {("not-run", reason)}


def test_a_library_without_arrays_of_no_axes_need_not_take_any():
    answer = run(BARE, "--case", "protocol/dlpack/capsule/bare/consumer.scalar-0d/*", status=0)
    assert answer["summary"]["outcomes"]["not-run"] == 1


def test_keywords_that_an_adapter_does_not_support_are_neutral():
    cases = [f"protocol/dlpack/capsule/bare/consumer.{name}/*" for name in ("keywords", "copy-*", "passes-*", "device-cpu*")]
    answer = run(BARE, *(word for case in cases for word in ("--case", case)), status=0)
    outcomes = {name: count for name, count in answer["summary"]["outcomes"].items() if count}
    assert set(outcomes) == {"unsupported"}
    assert outcomes["unsupported"] > 6


# Liars.


@pytest.mark.parametrize(
    ("adapter", "case", "outcome"),
    [
        ("bare:Forgetful", "protocol/dlpack/capsule/bare/consumer.context-null/float32/compact/plain", "unsafe"),
        ("bare:Shifted", "handoff/dlpack/bare/numpy/float32/1d/plain", "wrong"),
        ("bare:Shifted", "handoff/dlpack/bare/torch/float32/1d/plain", "wrong"),
        ("loud:Deaf", "handoff/dlpack/numpy/loud/float32/compact/read-only", "unsafe"),
        ("loud:Deaf", "protocol/dlpack/capsule/loud/consumer.readonly-kept/float32/compact/plain", "unsafe"),
        ("loud:Mortal", "handoff/dlpack/loud/torch/int8/compact/plain", "crash"),
    ],
)
def test_a_liar_is_found(adapter, case, outcome):
    answer = run(f"tests.conformance.strangers.{adapter}", "--case", case, status=1)
    assert [(one["kind"], one["about"], one["text"].partition(":")[0]) for one in answer["findings"]] == [("new", case, outcome)]


@pytest.mark.parametrize("rule", ["deleter-called", "deleter-once", "deleter-not-early", "deleter-thread", "deleter-on-refusal"])
def test_who_skips_the_deleter_without_a_context_is_found_by_the_one_rule(rule):
    """Crafted capsules have a context, so that the other rules are not about it."""
    answer = run("tests.conformance.strangers.bare:Forgetful", "--case", f"protocol/*/consumer.{rule}/*", "--consumer", "bare", status=0)
    assert answer["summary"]["total"] == 1


# A process that dies.


def test_an_array_that_ends_the_process_ends_its_case_only():
    answer = run("tests.conformance.strangers.loud:Mortal", "--case", "handoff/dlpack/loud/numpy/int*/compact/plain", status=1)
    outcomes = {name: count for name, count in answer["summary"]["outcomes"].items() if count}
    assert outcomes == {"shared": 3, "crash": 1, "unsupported": 1}
    assert [one["about"] for one in answer["findings"]] == ["handoff/dlpack/loud/numpy/int8/compact/plain"]


@pytest.mark.parametrize(
    ("adapter", "reason"),
    [
        ("Unprepared", "the process that prepared loud ended with status -6"),
        ("Broken", "loud cannot be prepared: ImportError: libloud.so: cannot open\\x1b[31m shared object file"),
    ],
)
def test_a_library_that_cannot_be_prepared_takes_only_its_own_cases_with_it(adapter, reason):
    cases = ("--case", "handoff/dlpack/*/numpy/int8/compact/plain", "--producer", "loud", "--producer", "numpy")
    answer = run(f"tests.conformance.strangers.loud:{adapter}", *cases, status=1)
    assert [(one["about"], one["text"]) for one in answer["findings"]] == [("handoff/dlpack/loud/numpy/int8/compact/plain", reason)]
    assert answer["summary"]["outcomes"]["shared"] == 1


# Known deviations of the others.


@pytest.fixture(scope="module")
def environment():
    from interop_conformance.adapters import load_adapters

    return environment_of(load_adapters(), {})


def explained(environment, producer, consumer, dtype, layout, state, outcome, reason):
    one = known(Record(Case("handoff", "dlpack", producer, consumer, "", dtype, layout, state), outcome, reason), environment)
    return one and one.id


STRIDE = "SIGABRT: what():  Storage size calculation overflowed with sizes=[2, 3] and strides=[-3, 1]"


@pytest.mark.parametrize(
    ("producer", "consumer", "words", "deviation"),
    [
        # A consumer's holds for whatever producer, and whatever its array's state.
        ("bare", "torch", ("float32", "reversed", "plain", "crash", STRIDE), "torch-negative-stride-abort"),
        ("bare", "torch", ("float32", "reversed", "grad", "crash", STRIDE), "torch-negative-stride-abort"),
        ("bare", "torch", ("float32", "5d", "read-only", "unsafe", "read-only memory became writeable"), "torch-readonly-ignored"),
        ("bare", "jax", ("float64", "transposed", "read-only", "wrong", "float64 became float32"), "jax-x64-narrowing"),
        ("bare", "numpy", ("bfloat16", "1d", "read-only", "unexplained", "RuntimeError: Unsupported dtype in DLTensor."), "numpy-dtype-runtimeerror"),
        ("bare", "array-api-strict", ("bfloat16", "1d", "plain", "unexplained", "RuntimeError: Unsupported dtype in DLTensor."), "numpy-dtype-runtimeerror"),
        # What the protocol layer found of it, for the same reason.
        ("bare", "pyarrow", ("int8", "1d", "plain", "unexplained", "ValueError: PyCapsule_GetPointer called with incorrect name"), "pyarrow-no-legacy"),
        # A producer's holds for whatever consumer.
        ("torch", "bare", ("float32", "1d", "vmap", "unexplained", "RuntimeError: Batching rule not implemented for x"), "torch-vmap-error"),
        ("jax", "bare", ("int8", "1d", "plain", "unsafe", "read-only memory became writeable"), "jax-readonly-legacy"),
        ("numpy", "bare", ("int8", "1d", "masked", "unsafe", "the mask is lost"), "numpy-mask-export"),
        # Another fault in the same place, or the other side's, is a new one.
        ("bare", "torch", ("float32", "reversed", "plain", "crash", "SIGSEGV"), None),
        ("bare", "torch", ("float32", "1d", "plain", "wrong", "other values"), None),
        ("bare", "numpy", ("float32", "1d", "read-only", "unsafe", "read-only memory became writeable"), None),
        ("bare", "numpy", ("int8", "1d", "masked", "unsafe", "the mask is lost"), None),
        ("torch", "bare", ("float32", "5d", "plain", "unsafe", "read-only memory became writeable"), None),
        ("numpy", "bare", ("float32", "reversed", "plain", "crash", STRIDE), None),
        ("bare", "bare", ("float32", "reversed", "plain", "crash", STRIDE), None),
    ],
)  # fmt: skip
def test_a_known_deviation_holds_with_a_library_that_it_does_not_name(environment, producer, consumer, words, deviation):
    assert explained(environment, producer, consumer, *words) == deviation
