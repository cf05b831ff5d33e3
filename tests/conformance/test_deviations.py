"""Known deviations are strict: what they do not explain, what has healed, and what fits nothing are findings."""

import re
from pathlib import Path

import pytest
from interop_conformance.adapters import load_adapters
from interop_conformance.results import deviations as module
from interop_conformance.results.deviations import Deviation, deviations, findings, known
from interop_conformance.results.files import Results
from interop_conformance.results.records import Case, Record
from packaging.specifiers import SpecifierSet

import interop

BACKENDS = Path(interop.__file__).parent / "backends"
ROOT = Path(interop.__file__).parents[1]
ENVIRONMENT = {"libraries": {"lib": {"distribution": "lib", "version": "1.5", "unavailable": ""}}, "selection": {}}


def record(outcome, dtype="float32", route="dlpack", layer="handoff", reason="why", consumer="numpy"):
    return Record(Case(layer, route, "jax", consumer, "", dtype, "compact", "plain"), outcome, reason)


def deviation(**words):
    known_words = {
        "id": "one",
        "library": "lib",
        "versions": SpecifierSet(">=1,<2"),
        "happens": "",
        "link": "",
        "outcome": "wrong",
        "match": ({"producer": ("jax",)},),
    }
    return Deviation(**{**known_words, **words})


@pytest.fixture
def listed(monkeypatch):
    def use(*entries):
        monkeypatch.setattr(module, "deviations", lambda: entries)
        module._here.cache_clear()

    yield use
    module._here.cache_clear()


def kinds(*records, **environment):
    return [finding.kind for finding in findings(Results({**ENVIRONMENT, **environment}, records))]


def test_a_bad_outcome_that_nothing_explains_is_a_finding(listed):
    listed()
    assert kinds(record("wrong")) == ["new"]
    assert kinds(record("refused")) == []


def test_one_that_is_explained_is_none(listed):
    listed(deviation())
    assert kinds(record("wrong")) == []


@pytest.mark.parametrize(
    "words", [{"outcome": "unsafe"}, {"versions": SpecifierSet(">=2")}, {"library": "other"}, {"match": ({"dtype": ("int*",)},)}]
)
def test_a_deviation_explains_only_its_own(listed, words):
    listed(deviation(**words))
    assert "new" in kinds(record("wrong"))


def test_a_healed_one_is_a_finding_also_if_only_in_part(listed):
    listed(deviation())
    assert kinds(record("shared")) == ["healed"]
    assert kinds(record("wrong"), record("refused", dtype="int8")) == ["healed"]


def test_what_is_refused_without_its_state_too_heals_nothing(listed):
    """As of a dtype that the consumer lacks: NumPy 2.5 refuses torch's bfloat16, whether a negation is pending or not."""
    listed(deviation(match=({"state": ("neg",)},)))
    pending = record("refused", reason="no such dtype")
    pending = pending._replace(case=pending.case._replace(state="neg"))
    shown = record("wrong", dtype="int8")
    shown = shown._replace(case=shown.case._replace(state="neg"))
    assert kinds(pending, shown, record("refused", reason="no such dtype")) == []
    assert kinds(pending, shown, record("refused", reason="in other words")) == ["healed"]
    assert kinds(pending, shown, record("shared", reason="")) == ["healed"]


def test_an_exception_within_the_pattern_is_taken_out_of_it(listed):
    listed(deviation(but=({"dtype": ("int8",)},)))
    assert kinds(record("wrong"), record("refused", dtype="int8")) == []


def test_one_that_fits_nothing_is_a_finding_of_a_full_run(listed):
    listed(deviation(match=({"dtype": ("float99",)},)))
    assert kinds(record("shared")) == ["stale"]
    assert kinds(record("shared"), selection={"quick": True}) == []


def test_one_about_a_library_that_is_not_here_is_none(listed):
    listed(deviation(match=({"producer": ("jax",), "consumer": ("gone",)},)))
    libraries = {**ENVIRONMENT["libraries"], "gone": {"distribution": "gone", "version": None, "unavailable": "not installed"}}
    assert kinds(record("shared"), libraries=libraries) == []


def without_gpu():
    """Return libraries that have torch, but neither CuPy nor torch on a GPU."""
    torch = {"distribution": "torch", "version": "2.11", "unavailable": ""}
    missing = {"torch-cuda": {**torch, "unavailable": "no GPU"}, "cupy": {"distribution": "cupy", "version": None, "unavailable": "no GPU"}}
    return {**ENVIRONMENT["libraries"], "torch": torch, **missing}


def test_one_adapter_of_a_library_is_enough_to_find_a_deviation_stale(listed):
    """Where one entry is about a library on both devices, it is as strict without a GPU as it was."""
    listed(deviation(match=({"producer": ("torch", "torch-cuda")},)))
    assert kinds(record("shared"), libraries=without_gpu()) == ["stale"]


def test_one_pattern_that_could_fit_is_enough_to_find_a_deviation_stale(listed):
    listed(deviation(match=({"consumer": ("elsewhere",)}, {"producer": ("cupy",)})))
    assert kinds(record("shared"), libraries=without_gpu()) == ["stale"]


@pytest.mark.parametrize("names", [("torch-cuda",), ("cupy", "torch"), ("cupy", "torch-cuda")])
def test_what_is_about_a_gpu_is_not_stale_without_one(listed, names):
    listed(deviation(match=({"producer": names},)))
    assert kinds(record("shared"), libraries=without_gpu()) == []


def test_nothing_explains_a_broken_promise_of_interop(listed):
    listed(deviation())
    assert kinds(record("wrong", route="interop")) == ["promise"]


def test_a_case_that_was_not_run_is_a_finding(listed):
    listed()
    assert kinds(record("not-run")) == ["not-run"]


def test_a_pattern_that_no_case_has_is_refused():
    with pytest.raises(ValueError, match="colour"):
        deviation(match=({"colour": ("red",)},))
    with pytest.raises(ValueError, match="broken"):
        deviation(outcome="broken")


def test_known_needs_the_outcome_as_well(listed):
    listed(deviation())
    assert known(record("wrong"), ENVIRONMENT).id == "one"
    assert known(record("crash"), ENVIRONMENT) is None


# The file itself.

DISTRIBUTIONS = {adapter.distribution or adapter.name for adapter in load_adapters().values()}


@pytest.mark.parametrize("one", deviations(), ids=lambda one: one.id)
def test_every_deviation_says_what_and_where(one):
    assert one.library in DISTRIBUTIONS
    assert one.happens.endswith((".", ")"))
    assert one.link.startswith("https://")
    assert all("layer" in pattern for pattern in one.match), "a pattern without a layer fits more than it means"


def named_in(path):
    return set(re.findall(r"deviation `([\w-]+)`", path.read_text()))


def test_every_workaround_names_its_deviation_and_the_other_way_round():
    """Both directions: when the deviation heals and is taken out, this fails until the workaround goes too."""
    by_file = {path: named_in(path) for path in BACKENDS.rglob("*.py")}
    declared = {(ROOT / one.workaround, one.id) for one in deviations() if one.workaround}
    named = {(path, name) for path, names in by_file.items() for name in names}
    assert declared
    assert named == declared


def test_a_third_partys_library_heals_nothing(listed):
    listed(deviation(match=({"consumer": ("numpy",)},)))
    of_others = record("shared")._replace(case=Case("handoff", "dlpack", "toy", "numpy", "", "int8", "compact", "plain"))
    assert kinds(record("wrong"), of_others) == []


@pytest.mark.parametrize(
    ("consumer", "outcome", "found"), [("jax", "copied", []), ("jax", "refused", ["promise"]), ("torch", "copied", ["promise"])]
)
def test_a_library_of_constant_arrays_may_be_given_a_copy(listed, consumer, outcome, found):
    listed()
    assert kinds(record("shared", reason="", consumer=consumer), record(outcome, route="interop", consumer=consumer)) == found


@pytest.mark.parametrize(
    ("reason", "found"), [("not its own: a numpy.ndarray", []), ("the suite's own fault: it is tired", ["not-run"]), ("", ["not-run"])]
)
def test_what_is_not_run_is_a_finding_unless_the_array_was_another_librarys(listed, reason, found):
    listed()
    assert kinds(record("not-run", reason=reason)) == found


def test_a_rule_that_is_gone_leaves_the_outcome_to_decide(listed):
    """A file of an older suite, or of somebody who makes rules up."""
    listed()
    gone = Case("protocol", "dlpack", "numpy", "capsule", "producer.gone", "int8", "1d", "plain")
    assert kinds(Record(gone, "refused", "")) == []
    assert kinds(Record(gone, "wrong", "")) == ["new"]


@pytest.mark.parametrize("outcome", ["refused", "copied"])
def test_interop_must_share_what_a_raw_route_shares(listed, outcome):
    """Who refuses everything has no bad outcome, and keeps no promise either."""
    listed()
    raw = record("shared", reason="")
    assert kinds(raw, record(outcome, route="interop")) == ["promise"]
    assert kinds(raw, record("shared", route="interop")) == []
    assert kinds(record("copied", reason=""), record(outcome, route="interop")) == []


def test_what_must_be_given_up_by_name_is_no_promise_to_share(listed):
    listed()
    tracked = [
        one._replace(case=one.case._replace(state="grad")) for one in (record("shared", reason=""), record("refused", route="interop"))
    ]
    assert kinds(*tracked) == []


@pytest.mark.parametrize(
    ("reason", "found"), [("TransferError: transfer", []), ("CopyError: copy", ["promise"])], ids=["the crossing", "anything else"]
)
def test_a_crossing_of_managed_memory_must_be_named_and_nothing_else(listed, reason, found):
    listed()
    raw, ours = record("shared", reason=""), record("refused", route="interop", reason=reason)
    assert kinds(*(one._replace(case=one.case._replace(state="managed")) for one in (raw, ours))) == found
    assert kinds(raw, ours) == ["promise"], "of other memory it is a broken promise"
