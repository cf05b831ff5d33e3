"""The fast path between two libraries on one stream: its guards and its order, with stand-ins; on CUDA it is tested in tests/gpu/test_order.py."""

from types import SimpleNamespace

import pytest
import torch

from interop._engine import fastpath as quick
from interop._engine.fastpath import guarded, table
from interop.backends import load_backend
from interop.backends.cuda.types import DeviceConsumer
from interop.backends.torch import handoff as _torch_handoff
from interop.backends.torch import release as _torch_release


@pytest.fixture(name="log")
def what_happened():
    return []


def consumer(log, pointer=7):
    def current(index):
        log.append(f"stream of {index}")
        return pointer

    def take(capsule, index):
        log.append(f"take {capsule} on {index}")
        return "array"

    return DeviceConsumer(frozenset({"float32"}), current, take)


def tensor(**changes):
    """Return what a plain tensor on cuda:1 says."""
    said = {"is_cuda": True, "layout": torch.strided, "dtype": torch.float32}
    asked = {"is_conj": False, "is_neg": False, "data_ptr": 1 << 40, "get_device": 1}
    said.update({name: value for name, value in changes.items() if name in said})
    asked.update({name: value for name, value in changes.items() if name in asked})
    log = changes.get("log", [])
    methods = {name: (lambda value=value: value) for name, value in asked.items()}
    made = SimpleNamespace(**said, **methods, record_stream=lambda stream: log.append(f"keep for {stream}"))
    made.detach = lambda: made
    return made


class Stream:
    def __init__(self, name, log):
        self.name, self.log = name, log

    def __str__(self):
        return self.name

    def wait_stream(self, other):
        self.log.append(f"{self} waits for {other}")


@pytest.fixture(name="torchs")
def torch_on_a_device(monkeypatch, log):
    monkeypatch.setattr(_torch_handoff, "_raw_pointer", lambda _: 7)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(_torch_handoff, "address_of", lambda x: x.data_ptr())
    monkeypatch.setattr(_torch_handoff, "_stream", lambda index, pointer: Stream(f"{pointer} of {index}", log))
    monkeypatch.setattr(_torch_release, "_records", lambda: True)
    monkeypatch.setattr(_torch_handoff, "to_dlpack", lambda _: log.append("export") or "capsule")
    return lambda x, pointer=7: _torch_handoff.export_to(x, {torch.float32}, consumer(log, pointer))


def test_a_tensor_is_handed_over_where_nothing_has_to_wait(torchs, log):
    assert torchs(tensor(log=log)) == "array"
    # Kept for the stream on which both work now: it may have been allocated on another.
    assert log == ["stream of 1", "export", "keep for 7 of 1", "take capsule on 1"]


def test_a_freed_storage_has_no_data_also_with_an_offset():
    x = torch.arange(6.0)
    parts = [x, x[2:], x[:0]]
    assert [_torch_handoff.has_data(one) for one in parts] == [True, True, False]
    x.untyped_storage().resize_(0)
    assert [one.data_ptr() != 0 for one in parts] == [False, True, False]
    assert not any(map(_torch_handoff.has_data, parts))


def test_a_lazy_copy_is_not_carried_out_by_asking():
    x = torch._lazy_clone(torch.ones(3))
    assert not _torch_handoff.has_data(x)
    assert torch._C._is_cow_tensor(x)


@pytest.mark.parametrize(
    "changes",
    [
        {"is_cuda": False},
        {"layout": torch.sparse_coo},
        {"dtype": torch.float64},
        {"is_conj": True},
        {"is_neg": True},
        {"data_ptr": 0},
        {"get_device": 0},
    ],
    ids=str,
)
def test_a_tensor_that_needs_a_look_goes_the_general_way(torchs, log, changes):
    assert torchs(tensor(**changes)) is None
    assert "export" not in log


def test_another_stream_waits_for_torchs_first(torchs, log):
    assert torchs(tensor(log=log), 8) == "array"
    assert log == ["stream of 1", "8 of 1 waits for 7 of 1", "export", "keep for 8 of 1", "take capsule on 1"]


@pytest.fixture
def built(monkeypatch):
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)


def test_a_torch_without_cuda_takes_and_gives_nothing(monkeypatch):
    """Its functions for streams would be errors beside a CuPy that has a device."""
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: False)
    assert load_backend("torch").as_consumer() is None
    assert load_backend("torch").export_to(consumer([])) == {}


def test_tracked_tensors_and_modes_are_not_even_looked_at(built, monkeypatch):
    from torch.utils._python_dispatch import TorchDispatchMode

    asked = []
    monkeypatch.setattr(_torch_handoff, "export_to", lambda x, *_: asked.append(x) or "array")
    attempt = guarded(load_backend("torch").export_to(consumer([]))[torch.Tensor])
    plain = torch.ones(2)
    assert attempt(plain) == "array"
    assert attempt(torch.ones(2, requires_grad=True)) is None
    with torch.no_grad():
        assert attempt(torch.ones(2, requires_grad=True)) is None
    with TorchDispatchMode():
        assert attempt(plain) is None
    seen = []
    torch.func.vmap(lambda x: seen.append(attempt(x)) or x)(torch.ones(2, 2))
    assert seen == [None]
    with torch.autograd.forward_ad.dual_level():
        assert attempt(plain) is None
    assert len(asked) == 1


def test_what_a_library_refuses_goes_the_general_way(built, monkeypatch):
    def refuse(*_):
        raise NotImplementedError("no bfloat16")

    monkeypatch.setattr(_torch_handoff, "export_to", refuse)
    assert guarded(load_backend("torch").export_to(consumer([]))[torch.Tensor])(torch.ones(2)) is None


def test_both_ways_are_learnt_when_both_libraries_are_there(built, monkeypatch):
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
    monkeypatch.setattr(quick, "_tables", {})
    monkeypatch.setattr(quick, "_with_streams", [])
    for name in ("torch", "cupy"):
        quick.register(load_backend(name))
    assert torch.Tensor in table("cupy")
    assert torch.nn.Parameter in table("cupy")
    assert cupy.ndarray in table("torch")
    assert table("cupy")[torch.Tensor](torch.ones(2)) is None  # on the host


def test_the_pointer_is_found_without_torchs_own_function(monkeypatch):
    monkeypatch.setattr(torch.cuda, "current_stream", lambda index: SimpleNamespace(cuda_stream=10 + index))
    assert _torch_handoff._pointer(1) == 11
