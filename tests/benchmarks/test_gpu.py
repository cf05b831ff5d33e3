"""The benchmarks on a GPU, without one: their table against fakes, what the header says, and the tables for the docs."""

import re
import subprocess
import sys
from unittest.mock import MagicMock

import pytest

from benchmarks import environment, gpu
from benchmarks.environment import NoDeviceError, environment_name, gpu_environment
from benchmarks.gpu_cases import SIZES
from benchmarks.report import document, text, write
from benchmarks.runner import measure, row, unmeasured
from benchmarks.table import NOT_MEASURED, gpu_markdown, gpu_results
from benchmarks.table import main as table
from benchmarks.timing import Settings

ONCE = Settings(rounds=2, turn=0.0, launches=2)
BY_ID = {case.id: case for case in gpu.CASES}
WAYS = ("torch-to-cupy", "cupy-to-torch")


def fakes():
    """A mock for each name that the statements know."""
    made = {name: MagicMock(name=name) for name in gpu.DEVICE}
    made["one"] = MagicMock(name="one of smalls")
    made["smalls"].__iter__.side_effect = lambda: iter([made["one"]])
    return made


def measured(case, made):
    return measure([case], {name: lambda value=value: value for name, value in made.items()}, ONCE, lambda title: None)


# The cases.


@pytest.mark.parametrize("case", gpu.CASES, ids=lambda case: case.id)
def test_every_case_calls_what_it_says(case):
    made = fakes()
    rows = measured(case, made)
    assert {row["status"] for row in rows} <= {"information", "within", "over"}
    verb, argument = re.match(r"([\w.]+)\((\w+)", case.call).groups()
    called = made["tree"].convert if verb == "tree.convert" else made[verb]
    assert called.called
    assert {call.args[0] for call in called.call_args_list} <= {made[argument], made["one"]}
    assert made["torch"].cuda.synchronize.called


def test_only_transfers_wait_inside_the_loop():
    waiting = {case.id for case in gpu.CASES if case.tail}
    transfers = {case.id for case in gpu.CASES if case.bytes}
    assert waiting == transfers | {"gpu-to-host", "host-to-gpu", "gpu-cupy-to-host", "gpu-tree"}
    assert {case.drain for case in gpu.CASES if not case.tail} == {"torch.cuda.synchronize()"}


def test_every_speed_that_is_promised_has_its_budget():
    """Those of issue 6: 1.1 for a handoff, a third or 85 % of the bandwidth, a tenth for a tree."""
    budgets = {(case.id, reference.budget) for case in gpu.CASES for reference in case.references if reference.budget}
    handoffs = {(f"gpu-{way}{end}", 1.1) for way in WAYS for end in ("", "-streams", "-256mib")}
    assert budgets == handoffs | {("gpu-to-pageable-256mib", 0.333), ("gpu-to-pageable-256mib", 1.176), ("gpu-tree", 0.1)}
    assert [case.id for case in gpu.CASES if case.one_is_enough] == ["gpu-to-pageable-256mib"]


@pytest.mark.parametrize("end", ["", "-streams"])
def test_a_handoff_runs_beside_every_other_way_to_do_it(end):
    (to_cupy, *others), (to_torch, *more) = (BY_ID[f"gpu-{way}{end}"].statements for way in WAYS)
    assert (to_cupy, others) == ("to_cupy(t)", ["cupy.from_dlpack(t)", "cupy.asarray(t)"])
    assert (to_torch, more) == ("to_torch(c)", ["torch.from_dlpack(c)", "torch.as_tensor(c)"])


def test_on_two_streams_each_library_has_its_own(monkeypatch):
    torch, cupy, seen = MagicMock(), MagicMock(), []
    torch.cuda.stream.return_value.__enter__.side_effect = lambda *_: seen.append("torch")
    cupy.cuda.Stream.return_value.__enter__.side_effect = lambda *_: seen.append("cupy")
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    with gpu.DEVICE["two_streams"]()():
        assert torch.cuda.synchronize.called
        torch.cuda.stream.assert_called_once_with(torch.cuda.Stream.return_value)
        cupy.cuda.Stream.assert_called_once_with(non_blocking=True)
        assert seen == ["torch", "cupy"]
    assert torch.cuda.stream.return_value.__exit__.called
    assert cupy.cuda.Stream.return_value.__exit__.called
    assert {case.id for case in gpu.CASES if case.scope == "two_streams()"} == {f"gpu-{way}-streams" for way in WAYS}
    assert all("order nothing" in BY_ID[f"gpu-{way}-streams"].note for way in WAYS)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("way", "copy"),
    [
        ("to-pageable", "pinned_{0}.copy_(t_{0})"),
        ("to-pinned", "pinned_{0}.copy_(t_{0})"),
        ("from-pageable", "there_{0}.copy_(pinned_{0})"),
        ("from-pinned", "there_{0}.copy_(pinned_{0})"),
    ],
)
def test_every_way_and_size_runs_beside_a_plain_page_locked_copy(way, copy, size):
    case = BY_ID[f"gpu-{way}-{size}"]
    assert copy.format(size) in case.statements
    assert (case.bytes, case.note) == (SIZES[size][1], SIZES[size][0])
    assert case.least == (3 if size == "2gib" else None)


def test_arrays_have_the_size_that_their_case_says():
    assert {size: nbytes for size, (_, nbytes) in SIZES.items()} == {"16mib": 16 << 20, "256mib": 256 << 20, "2gib": 2 << 30}
    array = gpu.DEVICE["a_16mib"]()
    assert array.nbytes == SIZES["16mib"][1]
    assert array.all(), "untouched pages are one page of zeros"


def test_what_takes_long_comes_last():
    ids = list(BY_ID)
    assert ids[:4] == ["gpu-torch-to-cupy", "gpu-cupy-to-torch", "gpu-torch-to-cupy-streams", "gpu-cupy-to-torch-streams"]
    assert all(one.endswith("-2gib") for one in ids[-4:])
    with_budget = [place for place, case in enumerate(gpu.CASES) if any(reference.budget for reference in case.references)]
    assert max(with_budget) < 8
    assert gpu.SETTINGS.seconds == 3


# What the numbers belong to.

REPORTED = "580.65.06, 143771 MiB, Disabled, 5, 5, 16, 16, 1980 MHz, 1980 MHz\n"
QUERY = "driver_version,memory.total,mig.mode.current,pcie.link.gen.current,pcie.link.gen.max,pcie.link.width.current,pcie.link.width.max,clocks.sm,clocks.max.sm"
NOTHING = {"driver": None, "memory": None, "mig": None, "pcie": None, "clocks": None}


def nvidia_smi(monkeypatch, answer):
    """Put in an nvidia-smi; `answer` is given the fields, and returns its output and exit status, or raises."""
    asked = []

    def run(command, **how):
        assert (command[0], command[2]) == ("nvidia-smi", "--format=csv,noheader")
        asked.append(command[1].removeprefix("--query-gpu=").split(","))
        out, status = answer(asked[-1])
        return subprocess.CompletedProcess(command, status, out, "")

    monkeypatch.setattr(environment.subprocess, "run", run)
    return asked


def reported():
    return environment._told_by_nvidia_smi()


def test_the_device_and_its_link_are_asked_for_at_once(monkeypatch):
    asked = nvidia_smi(monkeypatch, lambda fields: (REPORTED + "another, device\n", 0))
    assert reported() == {
        "driver": "580.65.06",
        "memory": "143771 MiB",
        "mig": "Disabled",
        "pcie": {"generation": 5, "generation_max": 5, "width": 16, "width_max": 16},
        "clocks": {"sm": "1980 MHz", "sm_max": "1980 MHz"},
    }
    assert [",".join(fields) for fields in asked] == [QUERY]


def test_what_nvidia_smi_does_not_tell_is_none(monkeypatch):
    nvidia_smi(monkeypatch, lambda fields: ("580.65.06, 8192 MiB, [N/A], [Unknown Error], 4, 8, 16, [Not Supported], 900 MHz\n", 0))
    found = reported()
    assert (found["mig"], found["pcie"]["generation"], found["clocks"]["sm"]) == (None, None, None)
    assert (found["memory"], found["pcie"]["width"], found["clocks"]["sm_max"]) == ("8192 MiB", 8, "900 MHz")


def test_a_field_that_nvidia_smi_does_not_know_costs_only_itself(monkeypatch):
    def answer(fields):
        for name in ("mig.mode.current", "clocks.sm"):
            if name in fields:
                return f'Field "{name}" is not a valid field to query.\n', 2
        return "470.1, 8192 MiB, 3, 3, 16, 16, 900 MHz\n", 0

    asked = nvidia_smi(monkeypatch, answer)
    found = reported()
    assert (found["driver"], found["mig"], found["clocks"], found["pcie"]["width_max"]) == (
        "470.1",
        None,
        {"sm": None, "sm_max": "900 MHz"},
        16,
    )
    assert len(asked) == 3


@pytest.mark.parametrize("error", [FileNotFoundError("nvidia-smi"), subprocess.TimeoutExpired("nvidia-smi", 20)])
def test_without_nvidia_smi_the_rest_is_told(monkeypatch, error):
    def answer(fields):
        raise error

    nvidia_smi(monkeypatch, answer)
    assert reported() == NOTHING


def test_an_nvidia_smi_that_fails_tells_nothing(monkeypatch):
    asked = nvidia_smi(monkeypatch, lambda fields: ("NVIDIA-SMI has failed\n", 9))
    assert reported() == NOTHING
    assert len(asked) == 1


def test_the_device_is_busy_while_it_is_asked(monkeypatch):
    torch, cupy, seen = MagicMock(), MagicMock(), []
    torch.cuda.get_device_name.return_value = "Test Device 9"
    torch.cuda._sleep.side_effect = seen.append
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    nvidia_smi(monkeypatch, lambda fields: seen.append("asked") or (REPORTED, 0))
    facts = gpu_environment()
    assert seen == [2_000_000_000, "asked"]
    assert (facts["gpu"], facts["driver"], facts["pcie"]["width"]) == ("Test Device 9", "580.65.06", 16)
    assert {"cpu", "cores", "versions"} <= set(facts)


def test_an_environment_has_a_file_name_of_plain_letters():
    facts = {"gpu": "Tesla/T4 (rev 2)", "versions": {"torch": "2.10.0"}}
    assert environment_name(facts) == "tesla-t4-rev-2-torch2.10-cupy"


def test_without_a_device_the_benchmarks_say_so(capsys):
    def probe():
        raise NoDeviceError("torch does not see one")

    assert gpu.main([], probe) == gpu.NO_DEVICE == 3
    assert capsys.readouterr().err == "no CUDA device: torch does not see one\n"


# The tables.

FACTS = {
    "gpu": "Test Device 9",
    "driver": "580.65.06",
    "memory": "143771 MiB",
    "mig": "Disabled",
    "pcie": {"generation": 4, "generation_max": 5, "width": 16, "width_max": 16},
    "clocks": {"sm": "1755 MHz", "sm_max": "1980 MHz"},
    "python": "3.12.3",
    "cpu": "Abacus",
    "cores": 16,
    "quick_path": "compiled",
    "versions": {"torch": "2.11.0", "cupy-cuda13x": "14.2.0"},
}


def report():
    """A latency, a rate, and one of each that was not measured."""
    latency, rate, missed = (BY_ID[one] for one in ("gpu-torch-to-cupy", "gpu-to-pageable-256mib", "gpu-to-pinned-2gib"))
    numbers = {"value": 1.04, "low": 1.0, "high": 1.1, "call_ns": 2_100, "reference_ns": 2_000, "rounds": 151, "status": "within"}
    fast = {"value": 0.2, "low": 0.19, "high": 0.21, "call_ns": 26_843_546, "reference_ns": 134_217_728, "rounds": 16, "status": "within"}
    rows = [row(latency, latency.references[0], **numbers), *unmeasured(latency, "stopped after 90 seconds")[1:]]
    rows += [row(rate, rate.references[0], **fast), *unmeasured(rate, "OSError: no", "failed")[1:], *unmeasured(missed, "not reached")]
    return document(rows, FACTS)


def test_the_tables_for_the_docs_show_times_and_rates():
    made = gpu_markdown(report())
    assert "| `to_cupy(t)`, 8x8, one stream | 2.1 µs | `cupy.from_dlpack(t)` | 2.0 µs | 1.04 | 1.00 to 1.10 | ≤ 1.1 | within |" in made
    assert (
        '| `to_numpy(t_256mib, device="cpu")` | 256 MiB | 10.0 | `t_256mib.cpu().numpy()` | 2.0 | 0.20 | 0.19 to 0.21 | ≤ 0.333 | within |'
        in made
    )
    cells = [len(re.findall(r"(?<!\\)\|", line)) for line in made.splitlines() if line.startswith("|")]
    assert cells == [9] * 4 + [10] * 5


def test_the_tables_for_the_docs_say_what_was_not_measured():
    lines = [line for line in gpu_markdown(report()).splitlines() if "not measured" in line]
    reasons = ("not run: stopped after 90 seconds", "failed: OSError: no", "not run: not reached")
    assert [reason in line for reason, line in zip(reasons, lines, strict=True)] == [True] * 3


def test_the_tables_for_the_docs_say_what_was_measured_where():
    made = gpu_markdown(report())
    assert "torch 2.11.0, cupy-cuda13x 14.2.0; Test Device 9, Abacus." in made
    assert (
        "143771 MiB of memory, PCIe 4.0 x16 (at most 5.0 x16), SM clock 1755 MHz (at most 1980 MHz), MIG disabled, driver 580.65.06, 16 cores of the host."
    ) in made
    bare = {key: FACTS[key] for key in ("gpu", "python", "cpu", "versions")}
    assert "PCIe" not in gpu_markdown(document(report()["rows"], bare))


def test_the_tables_of_a_folder(tmp_path, capsys):
    assert gpu_results(tmp_path) == NOT_MEASURED
    write(report(), tmp_path / "cpu.json")
    assert gpu_results(tmp_path) == NOT_MEASURED
    write(report(), tmp_path / "gpu-test-device-9.json")
    assert gpu_results(tmp_path) == gpu_markdown(report()).rstrip()
    assert table([str(tmp_path / "gpu-test-device-9.json")]) == 0
    assert capsys.readouterr().out == gpu_markdown(report())


def test_the_table_on_the_screen_shows_rates():
    line = next(line for line in text(report()).splitlines() if "t_256mib.cpu()" in line)
    assert "26.8 ms (10.0 GB/s)" in line
    assert "134.2 ms (2.0 GB/s)" in line
