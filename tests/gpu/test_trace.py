"""The CUDA calls of a handoff, as CUPTI sees them: an event between two streams, and nothing else. Run by ``make gpu``."""

import json
import os
from pathlib import Path

import pytest
import torch

from interop import to_cupy, to_torch
from tests.gpu.work import calls_within, drain, named, profiled, quiet, reduced, work_within

ORDER = ["cudaEventRecord", "cudaStreamWaitEvent"]
HANDOFFS = 3


@pytest.fixture(scope="module", name="blind")
def unseen():
    """Return the libraries whose calls the profiler does not see: each has a CUDA runtime of its own."""
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
    torchs, cupys = torch.cuda.Event(), cupy.cuda.Event(disable_timing=True)

    def control():
        named("torch", torchs.record)
        named("CuPy", cupys.record)

    profiled(control)  # the first profile of a process starts CUPTI, and may miss what comes at once
    trace = profiled(control)
    return [name for name in ("torch", "CuPy") if "cudaEventRecord" not in work_within(trace, name)]


@pytest.fixture(name="cp")
def cupy_module(blind):
    if blind:
        pytest.skip(f"the profiler sees no CUDA calls of {' and '.join(blind)} here")
    quiet()
    return pytest.importorskip("cupy", reason="CuPy is not installed")


def case(cp, direction, streams):
    """Return what hands over, with what it needs: a source, and current streams for it."""
    of_torch = torch.cuda.Stream() if streams == 2 else torch.cuda.default_stream()
    of_cupy = cp.cuda.Stream(non_blocking=True) if streams == 2 else cp.cuda.Stream.null
    tensor, array = torch.ones(1 << 20, device="cuda"), cp.ones(1 << 20, "float32")

    def hand_over():
        return to_cupy(tensor) if direction == "torch to CuPy" else to_torch(array)

    def work(name):
        with torch.cuda.stream(of_torch), of_cupy:
            hand_over()
            drain()
            # What was made is let go of outside: its pool asks the stream then how far it has come.
            return [named(f"{name} {n}", hand_over) for n in range(HANDOFFS)]

    return work


@pytest.mark.gpu
@pytest.mark.parametrize("streams", [1, 2])
@pytest.mark.parametrize("direction", ["torch to CuPy", "CuPy to torch"])
def test_a_handoff_makes_no_call_but_for_order(cp, direction, streams, record_property):
    work = case(cp, direction, streams)
    work("rehearsal")
    made = []
    trace = profiled(lambda: made.extend(work("handoff")))
    assert len(made) == HANDOFFS
    record_property("calls_of_a_handoff", " ".join(calls_within(trace, "handoff 0")) or "none")
    record_property("handoffs_count", HANDOFFS)
    assert [work_within(trace, f"handoff {n}") for n in range(HANDOFFS)] == [ORDER if streams == 2 else []] * HANDOFFS


@pytest.mark.gpu
@pytest.mark.parametrize("direction", ["torch to CuPy", "CuPy to torch"])
def test_a_copy_and_a_wait_are_seen(cp, direction, record_property):
    """The negative control: what a handoff does not do shows."""
    tensor, array = torch.ones(1 << 20, device="cuda"), cp.ones(1 << 20, "float32")
    copy = (lambda: to_cupy(tensor, copy=True)) if direction == "torch to CuPy" else (lambda: to_torch(array, copy=True))
    copy()

    def control():
        named("copy", copy)
        named("wait", torch.cuda.synchronize)

    trace = profiled(control)
    copied, waited = work_within(trace, "copy"), work_within(trace, "wait")
    record_property("calls_of_copy", " ".join(copied))
    assert any("Memcpy" in call or "Launch" in call for call in copied), copied
    assert any("Synchronize" in call for call in waited), waited


@pytest.mark.gpu
def test_the_trace_is_written(cp):
    """For people: the handoffs of both directions on two streams, and a copy beside them."""
    folder = os.environ.get("INTEROP_GPU_TRACES")
    if not folder:
        pytest.skip("INTEROP_GPU_TRACES names no folder")
    both = [case(cp, direction, 2) for direction in ("torch to CuPy", "CuPy to torch")]
    tensor = torch.ones(1 << 20, device="cuda")
    made = []

    def handoffs():
        for direction, work in zip(("torch to CuPy", "CuPy to torch"), both, strict=True):
            made.extend(work(f"handoff, {direction}"))
        made.append(named("copy=True, torch to CuPy", lambda: to_cupy(tensor, copy=True)))

    handoffs()
    trace = reduced(profiled(handoffs))
    text = json.dumps(trace, indent=0)
    assert "handoff, CuPy to torch 0" in text
    assert len(text) < 64 << 10
    Path(folder).mkdir(parents=True, exist_ok=True)
    (Path(folder) / "handoff.trace.json").write_text(text + "\n", encoding="utf-8")


@pytest.fixture(name="no_waiting")
def errors_for_waiting():
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    yield
    torch.cuda.set_sync_debug_mode(before)


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore:Synchronization debug mode")  # torch says that it is a prototype
def test_torch_finds_nothing_that_waits(no_waiting):
    cp = pytest.importorskip("cupy", reason="CuPy is not installed")
    tensor, array = torch.ones(8, device="cuda"), cp.ones(8, "float32")
    with torch.cuda.stream(torch.cuda.Stream()), cp.cuda.Stream(non_blocking=True):
        made = [to_cupy(tensor), to_torch(array)]
    made += [to_cupy(tensor), to_torch(array), to_cupy(tensor, stream=torch.cuda.Stream())]
    assert len(made) == 5
    with pytest.raises(RuntimeError, match="synchronizing CUDA operation"):  # the negative control
        tensor[0].item()


# Without a device: how a trace is read.


def event(cat, name, ts, dur=1.0, **more):
    return {"ph": "X", "cat": cat, "name": name, "ts": ts, "dur": dur, "pid": 4711, "tid": 7, **more}


TRACE = {
    "hostname": "secret",
    "traceEvents": [
        {"ph": "M", "name": "process_name", "args": {"name": "/secret/python"}},
        event("user_annotation", "handoff", 100.0, 50.0),
        event("user_annotation", "handoff", 200.0, 50.0),
        event("cuda_runtime", "cudaStreamWaitEvent_v3020", 130.0, args={"path": "/secret"}),
        event("cuda_runtime", "cudaEventRecordWithFlags", 120.0),
        event("cuda_runtime", "cudaStreamIsCapturing", 110.0),
        event("cuda_runtime", "cudaMemcpyAsync", 160.0),
        event("cpu_op", "aten::copy_", 125.0),
        event("cuda_driver", "cuLaunchKernel", 210.0),
        event("kernel", "void copy<float>()", 220.0, stream=7),
    ],
}


def test_calls_are_those_within_the_name_and_in_order():
    device = ["cuLaunchKernel", "(kernel)"]
    assert calls_within(TRACE, "handoff") == ["cudaStreamIsCapturing", "cudaEventRecord", "cudaStreamWaitEvent", *device]
    assert work_within(TRACE, "handoff") == ["cudaEventRecord", "cudaStreamWaitEvent", *device]
    with pytest.raises(AssertionError, match="nothing named 'other'"):
        calls_within(TRACE, "other")


def test_a_reduced_trace_says_nothing_of_the_machine():
    text = json.dumps(reduced(TRACE))
    assert "secret" not in text
    assert "4711" not in text
    assert [one["ts"] for one in reduced(TRACE)["traceEvents"] if one["cat"] == "user_annotation"] == [0.0, 100.0]
