"""What a consumer works on survives the tensor that it came from: a capsule holds an alias, and not the caller's tensor.

DLPack's export keeps the tensor, and `x.data = y` gives that tensor another storage. A consumer on the old one would read freed memory.
"""

import gc

import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef

from interop.backends import load_backend
from interop.backends.cuda.types import DeviceConsumer
from interop.backends.torch import handoff as _torch_handoff

COUNT = 1 << 16


def assign(x):
    x.data = torch.zeros(2)


def assign_half(x):
    x.data = x.data.half()


def swap(x):
    torch.utils.swap_tensors(x, torch.zeros(3))


LETS_GO = {
    "x.data = y": assign,
    "x.data = x.data.half()": assign_half,
    "x.set_(y)": lambda x: x.set_(torch.zeros(2)),
    "swap_tensors": swap,
    "del x": lambda x: None,
}


@pytest.mark.parametrize("lets_go", LETS_GO)
def test_a_consumer_keeps_the_memory_that_the_source_lets_go_of(lets_go):
    x = torch.full((COUNT,), 3.0)
    storage = StorageWeakRef(x.untyped_storage())
    consumed = torch.from_dlpack(load_backend("torch").export(x, None))
    LETS_GO[lets_go](x)
    del x
    gc.collect()
    assert not storage.expired()
    assert consumed.unique().tolist() == [3.0]
    del consumed
    gc.collect()
    assert storage.expired()


def test_without_an_alias_the_memory_is_gone():
    """The negative control: torch's own export. Looked at without reading the memory, which is nobody's."""
    x = torch.full((COUNT,), 3.0)
    storage = StorageWeakRef(x.untyped_storage())
    consumed = torch.from_dlpack(x)
    x.data = torch.zeros(2)
    assert storage.expired()
    del consumed


@pytest.mark.parametrize("lets_go", ["half", "cpu", "double"])
def test_a_module_that_is_converted_leaves_its_parameters_memory_to_the_consumer(lets_go):
    module = torch.nn.Linear(64, 64)
    before = module.weight.detach().clone()
    storage = StorageWeakRef(module.weight.untyped_storage())
    consumed = torch.from_dlpack(load_backend("torch").export(module.weight.data, None))
    getattr(module, lets_go)()
    gc.collect()
    assert not storage.expired()
    assert torch.equal(consumed, before)


def test_the_fast_path_exports_an_alias_too_and_keeps_its_storage_for_the_stream(monkeypatch):
    exported, lent = [], []
    monkeypatch.setattr(_torch_handoff, "to_dlpack", lambda one: exported.append(one) or "capsule")
    monkeypatch.setattr(_torch_handoff, "defer_release", lambda one, capsule, *_: lent.append(one) or capsule)
    monkeypatch.setattr(_torch_handoff, "_raw_pointer", lambda _: 7)
    monkeypatch.setattr(_torch_handoff, "_stream", lambda index, pointer: None)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)

    class OnCUDA(torch.Tensor):
        is_cuda = True

        def get_device(self):
            return 0

    x = torch.full((COUNT,), 3.0).as_subclass(OnCUDA)
    consumer = DeviceConsumer(frozenset({"float32"}), lambda _: 7, lambda capsule, _: capsule)
    assert _torch_handoff.export_to(x, {torch.float32}, consumer) == "capsule"
    assert [one.untyped_storage()._cdata for one in (*exported, *lent)] == [x.untyped_storage()._cdata] * 2
    x.data = torch.zeros(2)
    assert exported[0].numel() == lent[0].numel() == COUNT


def test_the_source_is_untouched():
    x = torch.ones(3)
    before = x._version, x.requires_grad, x.data_ptr()
    torch.from_dlpack(load_backend("torch").export(x, None)).add_(1)
    assert (x._version, x.requires_grad, x.data_ptr()) == before
    assert x.tolist() == [2.0] * 3
