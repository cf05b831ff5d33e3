"""Large crossings in chunks: the order of things and the values, with host memory on both sides; on CUDA it is tested in tests/gpu/test_transfer.py."""

import mmap
from pathlib import Path

import pytest
import torch

from interop import Device
from interop.backends.cuda import staging as _staging
from interop.backends.torch import backend as torch_file
from interop.backends.torch import copies as _torch_copies
from interop.backends.torch import describe

CPU = Device("cpu")


@pytest.fixture(name="chunk", autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(_staging, "CHUNK", 64)
    monkeypatch.setattr(_staging, "WORTH", 128)
    monkeypatch.setattr(_staging, "LARGE", 100)
    return 64


@pytest.mark.parametrize("nbytes", [0, 1, 64, 65, 128, 129, 1000])
def test_every_byte_goes_through_once_and_in_order(nbytes):
    log = []
    _staging.through(nbytes, lambda *chunk: log.append(("first", *chunk)), lambda *chunk: log.append(("second", *chunk)))
    for kind in ("first", "second"):
        chunks = [one[2:] for one in log if one[0] == kind]
        assert [byte for low, high in chunks for byte in range(low, high)] == list(range(nbytes))
    for at, (kind, *chunk) in enumerate(log):
        if kind == "second":
            assert ("first", *chunk) in log[:at]
        else:  # its slot is free again
            before = [one for one in log[:at] if one[1] == chunk[0]]
            assert len(before) % 2 == 0


def test_two_chunks_are_under_way_at_a_time():
    log = []
    _staging.through(256, lambda slot, *_: log.append(f"first {slot}"), lambda slot, *_: log.append(f"second {slot}"))
    assert log == ["first 0", "first 1", "second 0", "first 0", "second 1", "first 1", "second 0", "second 1"]


def flags_of(address):
    """Return the kernel's flags of the mapping that an address lies in."""
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        words = line.split()
        if "-" in words[0] and not words[0].endswith(":"):
            low, high = (int(word, 16) for word in words[0].split("-"))
            inside = low <= address < high
        elif inside and words[0] == "VmFlags:":
            return words[1:]
    return []


@pytest.mark.skipif(not hasattr(mmap, "MADV_HUGEPAGE"), reason="this system has no large pages that could be asked for")
@pytest.mark.parametrize("asked", [True, False])
def test_large_pages_are_asked_for(monkeypatch, asked):
    monkeypatch.setattr(_staging, "LARGE", 4 << 20)
    fresh = torch.empty(64 << 20, dtype=torch.uint8)
    if asked:
        _staging.with_large_pages(fresh.data_ptr(), fresh.nbytes)
    assert ("hg" in flags_of(fresh.data_ptr() + (32 << 20))) == asked
    fresh.fill_(3)
    assert bool((fresh == 3).all())


@pytest.mark.parametrize("size", [0, 1, 5000, (4 << 20) + 1])
def test_a_hint_about_memory_of_any_size_changes_nothing(size):
    x = torch.arange(size, dtype=torch.int64)[1:].clone()
    _staging.with_large_pages(x.data_ptr(), x.nbytes)
    assert x.equal(torch.arange(size, dtype=torch.int64)[1:])


def test_a_system_without_large_pages_is_let_be(monkeypatch):
    monkeypatch.setattr(_staging, "_madvise", lambda: None)
    _staging.with_large_pages(1 << 40, 64 << 20)  # of which the system would say that it is nobody's


@pytest.mark.parametrize("rows", [2, 3])
def test_what_is_large_but_not_worth_two_buffers_goes_at_once_into_large_pages(log, monkeypatch, rows):
    asked = []
    monkeypatch.setattr(_staging, "with_large_pages", lambda *where: asked.append(where))
    x = torch.arange(10.0 * rows).reshape(rows, 10).T
    made = _torch_copies.to_host(x)
    assert made.equal(x)
    assert made.stride() == x.stride()
    assert asked == ([(made.data_ptr(), x.nbytes)] if rows == 3 else [])
    assert log == []


class Event:
    """Notes what is asked of it; each belongs to a buffer."""

    log: list

    def __init__(self):
        self.number = len([one for one in self.log if one[0] == "made"])
        self.log.append(("made", self.number))

    def record(self):
        self.log.append(("record", self.number))

    def synchronize(self):
        self.log.append(("wait", self.number))


@pytest.fixture(name="log")
def host_for_a_device(monkeypatch):
    """Let the host's memory stand in for page-locked memory and for the device's."""
    log = []
    monkeypatch.setattr(Event, "log", log, raising=False)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    plain = torch.empty

    def empty(*shape, pin_memory=False, **words):
        log.append(("empty", *shape, pin_memory)) if pin_memory else None
        return plain(*shape, **words)

    plain_like = torch.empty_like

    def empty_like(x, *, pin_memory=False, **words):
        log.append(("empty like", pin_memory)) if pin_memory else None
        return plain_like(x, **words)

    monkeypatch.setattr(torch, "empty", empty)
    monkeypatch.setattr(torch, "empty_like", empty_like)
    return log


def without_pinning(x):
    return _torch_copies.to_device(x, torch.device("cpu"))


GRID = torch.arange(600.0).reshape(20, 30)
CASES = {
    "plain": GRID,
    "transposed": GRID.T,
    "permuted": torch.arange(720.0).reshape(8, 9, 10).permute(1, 2, 0),
    "a part": GRID[3:17],
    "channels last": torch.arange(960.0).reshape(2, 6, 8, 10).to(memory_format=torch.channels_last),
    "bool": GRID > 5,
    "bfloat16": GRID.bfloat16(),
    "complex": torch.complex(GRID, -GRID),
    "float8": GRID.to(torch.float8_e5m2),
    "int8": torch.arange(601, dtype=torch.int8),
}


@pytest.mark.parametrize("way", [_torch_copies.to_host, without_pinning], ids=["to host", "to device"])
@pytest.mark.parametrize("name", CASES)
def test_the_values_and_the_layout_arrive(log, way, name):
    x = CASES[name]
    made = way(x)
    assert ("empty", 64, True) in log
    assert made.data_ptr() != x.data_ptr()
    assert made.stride() == x.stride()
    assert made.dtype == x.dtype
    assert made.contiguous().view(torch.uint8).equal(x.contiguous().view(torch.uint8))


@pytest.mark.parametrize(
    "x",
    [
        GRID[:, ::2],
        torch.ones(30).expand(20, 30),
        torch.complex(GRID, GRID).conj(),
        torch.complex(GRID, GRID).conj().imag,
        GRID.to_sparse(),
    ],
    ids=["gaps", "repeats", "conj", "neg", "sparse"],
)
def test_what_is_not_plain_memory_goes_torchs_way(log, x):
    for way in (_torch_copies.to_host, without_pinning):
        made = way(x)
        assert made.to_dense().resolve_conj().resolve_neg().equal(x.to_dense().resolve_conj().resolve_neg())
    assert log == []


def test_what_is_small_goes_through_page_locked_memory_of_its_size(log):
    """torch's own way would wait for all that the stream has to do."""
    x = torch.arange(12.0).reshape(3, 4).T
    made = without_pinning(x)
    assert made.equal(x)
    assert made.stride() == x.stride()
    assert log == [("empty like", True)]
    assert _torch_copies.to_host(x).equal(x)
    assert len(log) == 1


def test_a_buffer_is_emptied_when_its_chunk_is_there(log):
    _torch_copies.to_host(torch.arange(64.0))  # four chunks
    said = [one for one in log if one[0] in ("record", "wait")]
    assert said == [("record", 0), ("record", 1), ("wait", 0), ("record", 0), ("wait", 1), ("record", 1), ("wait", 0), ("wait", 1)]


def test_a_buffer_is_filled_when_its_chunk_has_left(log):
    without_pinning(torch.arange(64.0))
    said = [one for one in log if one[0] in ("record", "wait")]
    assert said == [("wait", 0), ("record", 0), ("wait", 1), ("record", 1)] * 2


def tracked():
    return torch.ones(100, requires_grad=True)


class Sub(torch.Tensor):
    pass


@pytest.mark.parametrize(
    ("x", "is_staged"),
    [(GRID, True), (tracked(), False), (torch.ones(100).as_subclass(Sub), False), (torch.nn.Parameter(GRID, requires_grad=False), False)],
    ids=["plain", "tracked", "subclass", "parameter"],
)
def test_only_memory_is_staged(monkeypatch, x, is_staged):
    """What torch or a class has to know of goes torch's way, which keeps the graph."""
    import contextlib

    asked = []
    monkeypatch.setattr(_torch_copies, "to_host", lambda y: asked.append(y) or y)
    monkeypatch.setattr(torch_file.kinds, "runs_on", lambda _: Device("cuda", 0))
    monkeypatch.setattr(torch_file.backend, "_to_host", lambda *_: contextlib.nullcontext(), raising=False)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    torch_file.backend.transfer(x, CPU, None)
    assert bool(asked) == is_staged


def test_a_dual_tensor_and_functorch_go_torchs_way():
    import torch.autograd.forward_ad as fwad

    assert describe.is_memory_only(GRID)
    with fwad.dual_level():
        assert not describe.is_memory_only(fwad.make_dual(torch.ones(3), torch.ones(3)))
    seen = []
    torch.func.vmap(lambda y: seen.append(describe.is_memory_only(y)) or y)(torch.ones(3))
    assert seen == [False]
