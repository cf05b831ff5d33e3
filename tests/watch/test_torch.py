"""What torch refuses inside of a native guard, what it does not, and what the guard cannot see."""

import asyncio
import contextlib
import copy
import ctypes
import gc
import io
import itertools
import operator
import threading
import weakref

import numpy as np
import pytest
import torch
import tvm_ffi
from torch import overrides
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad
from torch.utils import _python_dispatch, dlpack
from torch.utils.checkpoint import checkpoint

import interop
from interop import GradError, TransferError
from interop._watch import torch as guard_module
from interop._watch.torch import native_guard
from tests import corpus

TRANSFERS, GRADS, COPIES = (frozenset({word}) for word in ("transfers", "grads", "copies"))
BOTH, NOTHING = TRANSFERS | GRADS, frozenset()


plain = contextlib.nullcontext


def vector():
    return torch.tensor([1.0, 2.0, 3.0])


def weight():
    return torch.nn.Parameter(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))


def void(*shape):
    return torch.empty(shape, device="meta")


# Transfers. The way to the meta device is one that every machine has.


def storage_copy():
    torch.UntypedStorage(12, device="meta").copy_(vector().untyped_storage())


CROSSING = {
    "to": lambda x: x.to("meta"),
    "to, and cast": lambda x: x.to("meta", torch.float64),
    "to a device": lambda x: x.to(torch.device("meta")),
    "to where another is": lambda x: x.to(void(1)),
    "type_as": lambda x: x.type_as(void(1)),
    "copy_": lambda x: void(3).copy_(x),
    "copy_, broadcast": lambda x: void(2, 3).copy_(x),
    "a list of copies": lambda x: torch._foreach_copy_([void(3), void(3)], [x, x]),
    "assignment": lambda x: operator.setitem(void(2, 3), 0, x),
    "assignment to a slice": lambda x: operator.setitem(void(3), slice(0, 3), x),
    "index": lambda x: void(9)[x.long()],
    "index in a tuple": lambda x: void(9, 2)[x.long(), 0],
    "assignment at an index": lambda x: operator.setitem(void(9), x.long(), 1.0),
    "index_put": lambda x: void(9).index_put((x.long(),), torch.tensor(1.0)),
    "torch.tensor": lambda x: torch.tensor(x.numpy(), device="meta"),
    "torch.as_tensor": lambda x: torch.as_tensor(x, device="meta"),
    "torch.as_tensor of an ndarray": lambda x: torch.as_tensor(x.numpy(), device="meta"),
    "torch.asarray": lambda x: torch.asarray(x, device="meta"),
    "torch.asarray, named": lambda x: torch.asarray(obj=x, device="meta"),
    "new_tensor": lambda x: void(1).new_tensor(x.numpy()),
    "a module": lambda x: torch.nn.Linear(2, 2).to("meta"),
    "the operation itself": lambda x: torch.ops.aten._to_copy(x, device="meta"),
    "a storage": lambda x: storage_copy(),
}


@pytest.mark.parametrize("state", [plain, torch.no_grad, torch.inference_mode], ids=["plain", "no_grad", "inference"])
@pytest.mark.parametrize("action", CROSSING.values(), ids=CROSSING)
def test_a_copy_to_another_device_is_refused(action, state):
    with state():
        x = vector()
        for forbidden in (NOTHING, GRADS, COPIES):
            with native_guard(forbidden):
                action(x)
        with (
            native_guard(TRANSFERS),
            pytest.raises(TransferError, match="in a guard that forbids transfers, copies from cpu to meta: ") as caught,
        ):
            action(x)
        action(x)
    assert caught.value.permissions == {}
    assert "outside of the guard that forbids transfers" in caught.value.hint


STAYING = {
    "to its own device": lambda x, m: x.to("cpu"),
    "to the device of another": lambda x, m: x.to(x),
    "cpu": lambda x, m: x.cpu(),
    "a cast": lambda x, m: x.double(),
    "a copy": lambda x, m: x.clone().copy_(x),
    "meta to meta": lambda x, m: m.to("meta").copy_(m),
    "meta to meta, and cast": lambda x, m: m.to("meta", torch.float64),
    "the raw operation": lambda x, m: torch.ops.aten._to_copy(m, dtype=torch.float64, device=torch.device("meta")),
    "a host number as an index of the raw operation": lambda x, m: m.index_put((torch.tensor(1),), torch.tensor(2.0)),
    "numbers from the host": lambda x, m: (x.sum().item(), float(x[0]), int(x[0]), bool(x[0]), x.tolist(), [1, 2, 3][x[0].long()]),
    "numpy": lambda x, m: (x.numpy(), np.asarray(x), np.from_dlpack(x), x.numpy(force=True)),
    "numbers onto a device": lambda x, m: (
        torch.tensor([1.0, 2.0], device="meta"),
        torch.as_tensor(1, device="meta"),
        m.new_tensor([1, 2]),
    ),
    "made on a device": lambda x, m: (
        torch.zeros(3, device="meta"),
        torch.full((2,), 1.0, device="meta"),
        torch.empty_like(x, device="meta"),
    ),
    "assigned numbers": lambda x, m: (operator.setitem(m, 0, 1.0), operator.setitem(m, slice(0, 2), 1.0)),
    "a host number in an operation": lambda x, m: m + torch.tensor(2.0),
    "an assigned host number": lambda x, m: operator.setitem(m, 0, torch.tensor(2.0)),
    "an index of numbers": lambda x, m: (m[1], m[0:2], m[...], m[None], m[[0, 1]], m[range(2)]),
    "an index of its device": lambda x, m: (m[torch.zeros(2, dtype=torch.long, device="meta")], x[x.long() - 1]),
    "a host number as an index": lambda x, m: m[torch.tensor(1)],
    "from_dlpack": lambda x, m: torch.from_dlpack(x, device="cpu"),
    "dl_device": lambda x, m: x.__dlpack__(dl_device=(1, 0)),
    "files": lambda x, m: torch.save(x, io.BytesIO()),
    "text": lambda x, m: f"{x} {x[0]:.2f} {m}",
}


@pytest.mark.parametrize("state", [plain, torch.no_grad, torch.inference_mode], ids=["plain", "no_grad", "inference"])
@pytest.mark.parametrize("action", STAYING.values(), ids=STAYING)
def test_what_stays_on_its_device_is_no_transfer(action, state):
    with state():
        action(vector(), void(3))
        with native_guard(BOTH | COPIES):
            action(vector(), void(3))


def on_fake_gpu():
    """Return a fake tensor on a GPU; a build for the CPU has some of them."""
    return torch.ones(3, device="cuda")


DEVICE_TO_HOST = {
    "cpu": lambda c: c.cpu(),
    "to": lambda c: c.to("cpu", torch.float64),
    "a second device": lambda c: c.to("cuda:1"),
    "item": lambda c: c.sum().item(),
    "truth": lambda c: bool(c.sum()),
    "if": lambda c: 1 if c.sum() > 2 else 2,
    "tolist, as fake tensors have it": lambda c: c.tolist(),
    "the current device": lambda c: torch.ops.aten._to_copy(torch.ones(3, device="cuda:1"), device=torch.device("cuda")),
    "an index": lambda c: torch.ones(3)[torch.ones((), dtype=torch.long, device="cuda")],
    "a number of an operation": lambda c: torch.ones(3).add(1, alpha=c.sum()),
    "a list of copies": lambda c: torch._foreach_copy_([c], [torch.ones(3)]),
}


@pytest.mark.parametrize("state", [plain, torch.no_grad, torch.inference_mode], ids=["plain", "no_grad", "inference"])
@pytest.mark.parametrize("action", DEVICE_TO_HOST.values(), ids=DEVICE_TO_HOST)
def test_a_guard_under_fake_tensors_shows_what_would_be_moved(action, state):
    with state(), FakeTensorMode():
        c = on_fake_gpu()
        with (
            native_guard(TRANSFERS),
            pytest.raises(TransferError, match=r"copies from (cuda:0 to (cpu|cuda:1)|cpu to cuda:0|cuda:1 to cuda:0): ") as caught,
        ):
            action(c)
        assert caught.value.description.no_data == "fake"
        with native_guard(GRADS), contextlib.suppress(torch._subclasses.fake_tensor.DataDependentOutputException):
            action(c)  # whatever else torch raises


def test_under_fake_tensors_numbers_may_become_tensors_and_host_numbers_may_take_part():
    with FakeTensorMode(), native_guard(TRANSFERS):
        c = on_fake_gpu()
        assert torch.tensor([1.0, 2.0], device="cuda").device.type == "cuda"
        assert torch.as_tensor((1, np.float32(2)), device="cuda").device.type == "cuda"
        assert (c + torch.tensor(2.0)).device.type == "cuda"
        assert torch.ops.aten._to_copy(c, dtype=torch.float64, device=torch.device("cuda")).device.type == "cuda"
        with contextlib.suppress(RuntimeError):  # a build for the CPU cannot index, but that is no TransferError
            c.reshape(3, 1)[c.long(), 0]
        with pytest.raises(TransferError, match=r"^torch.tensor, .*cuda:0 to cpu"):
            torch.tensor([c.sum(), 1.0])
        with pytest.raises(TransferError, match=r"^torch.Tensor.__getitem__, .*cuda:0 to cpu"):
            torch.ones(3)[[c.sum(), 1]]
        with pytest.raises(TransferError, match=r"^torch.Tensor.tolist, .*cuda:0 to cpu"):
            torch.Tensor.tolist(c)  # not the method that fake tensors have instead


def test_a_dlpack_capsule_for_another_device():
    x = vector()
    with native_guard(TRANSFERS), pytest.raises(TransferError, match=r"^torch.Tensor.__dlpack__, .* copies from cpu to cuda:0"):
        x.__dlpack__(dl_device=(2, 0))
    with native_guard(TRANSFERS):
        assert x.__dlpack__(dl_device=(1, 0)) is not None


@pytest.mark.parametrize("forbidden", [NOTHING, BOTH], ids=["free", "guarded"])
@pytest.mark.parametrize(
    ("action", "error"),
    [
        (lambda m: m.cpu(), NotImplementedError),
        (lambda m: m.tolist(), (NotImplementedError, RuntimeError)),
        (lambda m: m.sum().item(), RuntimeError),
        (lambda m: m.numpy(), (TypeError, RuntimeError, NotImplementedError)),
        (lambda m: vector().copy_(m), NotImplementedError),
    ],
    ids=["cpu", "tolist", "item", "numpy", "copy_"],
)
def test_the_way_back_from_meta_is_refused_by_torch_itself(action, error, forbidden):
    with native_guard(forbidden), pytest.raises(error) as caught:
        action(void(3))
    assert not isinstance(caught.value, interop.InteropError)


# Gradients.


def compiled_list(p):
    return torch.compile(lambda x: (x * 2).detach().tolist(), backend="eager")(p)  # here: it imports torch's compiler


LOSING = {
    "detach": lambda p: p.detach().numpy(),
    "torch.detach": lambda p: torch.detach(p).numpy(),
    "detach_": lambda p: (p * 2).detach_().numpy(),
    "detach, torch function disabled": lambda p: detached_below(p).numpy(),
    "data": lambda p: p.data.numpy(),
    "views": lambda p: p.detach().reshape(-1)[1:].cpu().numpy(),
    "views before": lambda p: p.view(-1)[1:].detach().numpy(),
    "a computed value": lambda p: (p * 2).exp().detach().numpy(),
    "asarray": lambda p: np.asarray(p.detach()),
    "asarray, and cast": lambda p: np.asarray(p.detach(), dtype="float64"),
    "a numpy function": lambda p: np.linalg.norm(p.detach()),
    "__array__": lambda p: p.detach().__array__(),
    "from_dlpack": lambda p: np.from_dlpack(p.detach()),
    "__dlpack__": lambda p: p.detach().__dlpack__(),
    "tolist": lambda p: p.detach().tolist(),
    "tolist, tracked": lambda p: p.tolist(),
    "force": lambda p: p.numpy(force=True),
    "force, computed": lambda p: (p * 2).numpy(force=True),
    "a clone": lambda p: p.detach().clone().numpy(),
    "a cast": lambda p: p.detach().double().numpy(),
    "a cast of complex": lambda p: p.to(torch.complex64).detach().to(torch.complex128).real.numpy(),
    "made contiguous": lambda p: p.detach().T.contiguous().numpy(),
    "conjugated": lambda p: p.to(torch.complex64).detach().conj().resolve_conj().numpy(),
    "a copy into a buffer": lambda p: torch.empty(2, 2).copy_(p.detach()).numpy(),
    "a list of copies": lambda p: foreach_copied(p.detach()).numpy(),
    "parts": lambda p: p.detach().unbind()[1].numpy(),
    "a state": lambda p: holder(p).state_dict()["p"].numpy(),
    "another type": lambda p: p.detach().view(torch.int32).numpy(),
    "no_grad": torch.no_grad()(lambda p: p.numpy()),
    "no_grad, views": torch.no_grad()(lambda p: p[0].view(-1).numpy()),
    "no_grad, a clone": torch.no_grad()(lambda p: p.clone().numpy()),
    "no_grad, a cast": torch.no_grad()(lambda p: p.double().numpy()),
    "no_grad, a buffer": torch.no_grad()(lambda p: torch.empty(2, 2).copy_(p).numpy()),
    "inference mode": torch.inference_mode()(lambda p: p.numpy()),
    "inference mode, detached": torch.inference_mode()(lambda p: p.detach().numpy()),
    "inference mode, a cast": torch.inference_mode()(lambda p: p.to(torch.float64).numpy()),
    "inference mode, like another": torch.inference_mode()(lambda p: p.type_as(torch.ones(1, dtype=torch.float64)).numpy()),
    "inference mode, a reshape": torch.inference_mode()(lambda p: p.T.reshape(-1).numpy()),
    "compiled": compiled_list,
}


def foreach_copied(x):
    buffer = torch.empty(2, 2)
    torch._foreach_copy_([buffer], [x])
    return buffer


def detached_below(p):
    with torch._C.DisableTorchFunction():
        return p.detach()


def holder(p):
    module = torch.nn.Module()
    module.p = p
    return module


@pytest.mark.parametrize("action", LOSING.values(), ids=LOSING)
def test_a_tracked_value_does_not_leave_torch(action):
    for forbidden in (NOTHING, TRANSFERS, COPIES):
        with native_guard(forbidden):
            assert action(weight()) is not None
    with (
        native_guard(GRADS),
        pytest.raises(GradError, match=r"in a guard that forbids grads, exports (without its gradient|values of a tracked)") as caught,
    ):
        action(weight())
    assert action(weight()) is not None
    assert caught.value.permissions == {}
    assert "outside of the guard that forbids grads" in caught.value.hint


REFUSED_BY_TORCH = {
    "numpy": lambda p: p.numpy(),
    "asarray": np.asarray,
    "from_dlpack": np.from_dlpack,
}


@pytest.mark.parametrize("action", REFUSED_BY_TORCH.values(), ids=REFUSED_BY_TORCH)
def test_what_torch_refuses_is_refused_in_the_words_of_the_guard(action):
    with pytest.raises((RuntimeError, BufferError)) as caught:
        action(weight())
    assert not isinstance(caught.value, GradError)
    with native_guard(GRADS), pytest.raises(GradError):
        action(weight())


KEEPING = {
    "detach stays in torch": lambda p, x: (p.detach() * 2 + p).sum().backward(),
    "data stays in torch": lambda p, x: p.data.mul_(2),
    "a copy of the model": lambda p, x: copy.deepcopy(holder(p)),
    "plain tensors": lambda p, x: (x.numpy(), np.asarray(x), np.from_dlpack(x), x.tolist(), x.detach().numpy(), x.data.numpy()),
    "from plain memory": lambda p, x: torch.from_numpy(np.ones(3)).clone().numpy(),
    "computed under no_grad": torch.no_grad()(lambda p, x: (p * 2).numpy()),
    "computed in inference mode": torch.inference_mode()(lambda p, x: (p * 2).view(-1).numpy()),
    "computed from detached": lambda p, x: (p.detach() * 2).numpy(),
    "a statistic of detached": lambda p, x: (p.detach().mean(0).numpy(), torch.stack([p.detach().sum()]).numpy()),
    "no gradient to lose": lambda p, x: (p.argmax().numpy(), (p > 1).numpy(), p.long().numpy(), p.detach().long().numpy()),
    "no gradient to lose, under no_grad": torch.no_grad()(lambda p, x: p.long().numpy()),
    "a logged loss": lambda p, x: (p.sum().item(), p.sum().detach().item(), float(p[0, 0].detach()), p.sum().tolist()),
    "truth": lambda p, x: bool(p.sum() > 0),
    "text": lambda p, x: f"{p} {p.detach()} {p[0, 0].detach():.1f}",
    "files": lambda p, x: torch.save(p, io.BytesIO()),
    "its own gradient": lambda p, x: ((p * p).sum().backward(), p.grad.numpy()),
    "an attribute that is not there": lambda p, x: hasattr(p.detach(), "__cuda_array_interface__"),
    "a leaf taken out": lambda p, x: (p.detach(), p.requires_grad_(False).numpy()),
    "a leaf set out": lambda p, x: (p.data, setattr(p, "requires_grad", False), p.numpy()),
    "a frozen module": lambda p, x: (p.detach(), holder(p).requires_grad_(False).p.numpy()),
    "other memory": lambda p, x: (p.detach(), x.numpy()),
}


@pytest.mark.parametrize("action", KEEPING.values(), ids=KEEPING)
def test_what_loses_no_gradient_is_not_refused(action):
    action(weight(), vector())
    with native_guard(BOTH):
        action(weight(), vector())


@pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad=True to a scalar")  # torch's opinion of float(loss)
def test_a_number_of_a_tracked_tensor_is_no_array():
    with native_guard(BOTH):
        assert float(weight().sum()) == 10.0
        assert weight()[0, 0].tolist() == 1.0
        with pytest.raises(GradError):
            weight()[0].tolist()


DUAL = {
    "numpy": lambda d: d.numpy(),
    "detach": lambda d: d.detach().numpy(),
    "data": lambda d: np.asarray(d.data),
}


@pytest.mark.parametrize("action", DUAL.values(), ids=DUAL)
def test_a_forward_mode_tangent_is_a_gradient(action):
    def run():
        with forward_ad.dual_level():
            return action(forward_ad.make_dual(vector(), torch.ones(3)))

    assert run().tolist() == [1.0, 2.0, 3.0]
    with native_guard(GRADS), pytest.raises(GradError):
        run()
    with native_guard(GRADS), forward_ad.dual_level():
        assert action(vector()).tolist() == [1.0, 2.0, 3.0]


def test_a_dual_tensor_that_crosses_is_described():
    with (
        native_guard(BOTH),
        forward_ad.dual_level(),
        pytest.raises(TransferError, match=r"copies from cpu to meta: .*, carries a tangent\."),
    ):
        forward_ad.make_dual(vector(), torch.ones(3)).to("meta")


def test_a_storage_that_takes_the_place_of_a_dead_one_is_not_taken_for_it():
    places = set()
    with native_guard(GRADS):
        for _ in range(500):
            p = torch.nn.Parameter(torch.ones(4))
            p.detach()
            del p
            fresh = torch.ones(4)
            places.add(fresh.data_ptr())
            assert fresh.numpy().tolist() == [1.0] * 4
    assert len(places) < 500  # the memory did come back


def test_what_is_remembered_of_dead_storages_does_not_grow(monkeypatch):
    made = []

    class Counted(guard_module._Storages):
        def __init__(self):
            super().__init__()
            made.append(self)

    monkeypatch.setattr(guard_module, "_Storages", Counted)
    with native_guard(GRADS):
        for _ in range(1000):
            (weight() * 2).detach()
        assert 0 < len(made[0].refs) <= 64
        kept = [weight() for _ in range(200)]
        assert all(p.detach() is not None for p in kept)
        assert len(made[0].refs) >= 200
    assert len(made[0].refs) == 0


# The three harmless things that are refused: when one of these passes, the docstring changes.


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return torch.from_numpy(x.detach().numpy() * 2)

    @staticmethod
    def backward(ctx, grad):
        return grad * 2


def untracked_alias(p):
    plain_memory = torch.ones(3)
    torch.nn.Parameter(plain_memory).detach()
    return plain_memory.numpy()


HARMLESS = {
    "torch from torch": lambda p: torch.from_dlpack(p.detach()),
    "an autograd function": lambda p: Doubled.apply(p).sum().backward(),
    "an untracked alias": untracked_alias,
}


@pytest.mark.parametrize("action", HARMLESS.values(), ids=HARMLESS)
def test_harmless_and_refused_all_the_same(action):
    action(weight())
    with native_guard(GRADS), pytest.raises(GradError):
        action(weight())


# What it cannot see. Each of these lets values out; when one is refused, torch has learnt to show it, and the docstring changes.


def detached_before():
    d = weight().detach()
    with native_guard(BOTH):
        return d.numpy()


def by_address():
    p = weight()
    with native_guard(BOTH):
        return (ctypes.c_float * 4).from_address(p.data_ptr())[:]


def in_a_hook():
    p, seen = weight(), []
    p.register_hook(lambda grad: seen.append(p.detach().numpy().copy()))
    with native_guard(BOTH):
        (p * 2).sum().backward()
    return seen[0]


def in_a_transformation():
    seen = []
    with native_guard(BOTH):
        torch.func.grad(lambda x: (seen.append(x.detach().tolist()), x.sum())[1])(weight().detach())
    return seen[0]


def saved():
    file = io.BytesIO()
    with native_guard(BOTH):
        torch.save(weight(), file)
    file.seek(0)
    return torch.load(file).tolist()


def without_torch_function():
    with native_guard(BOTH), torch._C.DisableTorchFunction():
        return weight().detach().numpy()


def in_a_thread():
    out = []
    with native_guard(BOTH):
        thread = threading.Thread(target=lambda: out.append((weight().detach().numpy(), torch.ones(2).to("meta"))[0]))
        thread.start()
        thread.join()
    return out[0]


def guarded(action):
    def run():
        with native_guard(BOTH):
            return action()

    return run


UNSEEN = {
    "detached before the block": detached_before,
    "handed to interop": guarded(lambda: interop.to_numpy(weight().detach())),
    "to_dlpack": guarded(lambda: torch.from_dlpack(dlpack.to_dlpack(weight().detach()))),
    "to_dlpack, tracked": guarded(lambda: torch.from_dlpack(dlpack.to_dlpack(weight()))),
    "the exchange table": guarded(lambda: np.from_dlpack(tvm_ffi.from_dlpack(weight().detach()))),
    "an address": by_address,
    "a storage": guarded(lambda: np.array(weight().untyped_storage().tolist(), dtype="uint8").view("float32")),
    "a file": saved,
    "sparse values": guarded(lambda: (weight() * 1).to_sparse().detach().values().numpy()),
    "made dense": guarded(lambda: (weight() * 1).to_sparse().detach().to_dense().numpy()),
    "a hook": in_a_hook,
    "detached in a transformation": in_a_transformation,
    "torch function disabled": without_torch_function,
    "a thread": in_a_thread,
}


@pytest.mark.parametrize("action", UNSEEN.values(), ids=UNSEEN)
def test_what_goes_unseen(action):
    values = action()
    values = values.tolist() if hasattr(values, "tolist") else values
    assert np.ravel(values).tolist() == [1.0, 2.0, 3.0, 4.0]


@pytest.mark.usefixtures("dynamo")
def test_a_copy_inside_of_a_compiled_kernel_goes_unseen():
    def send(x):
        return (x * 2).to("meta")

    x = vector()
    with native_guard(BOTH):
        assert torch.compile(send, backend="inductor")(x).is_meta
        with pytest.raises(TransferError):
            torch.compile(send, backend="aot_eager")(x)
        with pytest.raises(TransferError):
            send(x)


def test_copies_in_hooks_and_where_torch_function_is_disabled_are_seen():
    p, sent = weight(), []
    p.register_hook(lambda grad: sent.append(grad.to("meta")))
    (p * 2).sum().backward()
    with native_guard(TRANSFERS), pytest.raises(TransferError, match=r"^torch.Tensor.backward \(aten._to_copy"):
        (p * 2).sum().backward()
    assert len(sent) == 1
    with native_guard(TRANSFERS):
        torch.tensor([1.0], device="meta")  # from numbers, which may: but only this call
        with torch._C.DisableTorchFunction(), pytest.raises(TransferError, match=r"^aten._to_copy"):
            vector().to("meta")


# The words.


def test_a_refusal_says_what_was_called_on_what_and_what_to_do():
    with native_guard(BOTH), pytest.raises(TransferError) as caught:
        weight().to("meta")
    assert caught.value.message == (
        "torch.Tensor.to (aten._to_copy.default), in a guard that forbids transfers, copies from cpu to meta: "
        "torch.nn.parameter.Parameter float32[2, 2] on cpu, requires grad."
    )
    assert caught.value.description.shape == (2, 2)
    with native_guard(BOTH), pytest.raises(GradError) as caught:
        weight().detach()[0].numpy()
    assert str(caught.value) == (
        "torch.Tensor.numpy, in a guard that forbids grads, exports values of a tracked tensor, taken out of their graph in this block: "
        "torch.Tensor float32[2] on cpu.\n\n"
        "Hint: Do it through interop, outside of the guard that forbids grads."
    )
    with (
        native_guard(BOTH),
        pytest.raises(GradError, match=r"^torch.Tensor.__array__, .* exports without its gradient: .*, requires grad\."),
    ):
        np.asarray(weight())


# It keeps to its block.


def stacks():
    return (
        overrides._get_current_function_mode_stack(),
        _python_dispatch._get_current_dispatch_mode_stack(),
        _python_dispatch.is_in_torch_dispatch_mode(),
        guard_module._watching.get(),
    )


BARE = ([], [], False, ())


@pytest.mark.parametrize("forbidden", [NOTHING, COPIES], ids=["nothing", "copies"])
def test_nothing_is_installed_where_nothing_is_to_be_seen(forbidden):
    with native_guard(forbidden):
        assert stacks() == BARE
    with native_guard(GRADS):
        assert stacks() != BARE


@pytest.mark.parametrize("raised", [None, KeyError, TransferError, GradError, KeyboardInterrupt], ids=str)
def test_torch_is_as_before_after_the_block(raised):
    before = stacks()
    with contextlib.suppress(raised or ()), native_guard(BOTH):
        if raised is TransferError:
            torch.ones(2).to("meta")
        elif raised is GradError:
            weight().detach().numpy()
        elif raised:
            raise raised
    assert stacks() == before
    assert weight().detach().numpy().tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert torch.ones(2).to("meta").is_meta


def test_a_refusal_inside_of_the_block_does_not_end_it():
    with native_guard(BOTH):
        for _ in range(3):
            with pytest.raises(TransferError):
                torch.ones(2).to("meta")
            with pytest.raises(GradError):
                weight().detach().numpy()
        assert torch.ones(2).numpy().tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("outer", "inner"), list(itertools.product([TRANSFERS, GRADS, BOTH, NOTHING], repeat=2)), ids=lambda f: "+".join(sorted(f)) or "nothing"
)
def test_blocks_nest(outer, inner):
    def check(forbidden):
        for word, error, action in (
            ("transfers", TransferError, lambda: torch.ones(2).to("meta")),
            ("grads", GradError, lambda: weight().detach().numpy()),
        ):
            with pytest.raises(error) if word in forbidden else plain():
                action()

    with native_guard(outer):
        check(outer)
        d = weight().detach()
        with native_guard(inner):
            check(outer | inner)
            with pytest.raises(GradError) if "grads" in outer else plain():
                d.numpy()  # detached in the outer block: the inner one need not know
        check(outer)
    check(NOTHING)


def test_other_threads_work_as_ever_and_have_their_own_blocks():
    inside, checked = threading.Event(), threading.Event()
    failures = []

    def other():
        try:
            inside.wait()
            torch.ones(2).to("meta")
            with native_guard(GRADS):
                torch.ones(2).to("meta")
                with pytest.raises(GradError):
                    weight().detach().numpy()
            weight().detach().numpy()
        except BaseException as error:  # carried to the test's own thread
            failures.append(error)
        finally:
            checked.set()

    thread = threading.Thread(target=other)
    thread.start()
    with native_guard(TRANSFERS):
        inside.set()
        checked.wait()
        with pytest.raises(TransferError):
            torch.ones(2).to("meta")
        weight().detach().numpy()
    thread.join()
    assert failures == []


@pytest.mark.parametrize("first_out", [0, 1])
def test_the_tasks_of_an_event_loop_have_each_their_own_block(first_out):
    async def guarded_task(forbidden, entered, leave):
        with native_guard(forbidden):
            entered.set()
            await leave.wait()
            with pytest.raises(TransferError) if forbidden == TRANSFERS else plain():
                torch.ones(2).to("meta")
            with pytest.raises(GradError) if forbidden == GRADS else plain():
                weight().detach().numpy()

    async def main():
        entered, leave = (tuple(asyncio.Event() for _ in range(2)) for _ in range(2))
        tasks = []
        for n, forbidden in enumerate((TRANSFERS, GRADS)):
            tasks.append(asyncio.create_task(guarded_task(forbidden, entered[n], leave[n])))
            await entered[n].wait()
        # Outside of both, in the same thread.
        torch.ones(2).to("meta")
        weight().detach().numpy()
        for n in (first_out, 1 - first_out):
            leave[n].set()
            await tasks[n]

    asyncio.run(main())
    assert stacks()[:2] == ([], [])


def test_a_task_that_the_block_starts_is_in_it():
    async def child():
        with pytest.raises(TransferError):
            torch.ones(2).to("meta")

    async def main():
        with native_guard(TRANSFERS):
            await asyncio.create_task(child())

    asyncio.run(main())


def test_no_tensor_is_kept_alive():
    def dies(tensor, storage):
        gc.collect()
        return tensor() is None and torch.UntypedStorage._expired(storage)

    def used():
        p = weight()
        d = p.detach()
        for action in (d.numpy, lambda: d.to("meta"), lambda: operator.setitem(d, 0, 1.0)):
            with contextlib.suppress(GradError, TransferError):
                action()
        return weakref.ref(p), p.untyped_storage()._weak_ref()

    block = native_guard(BOTH)
    with block:
        assert dies(*used())  # not even while it lasts
        p = weight()
        d = p.detach()
        held = weakref.ref(p), d.untyped_storage()._weak_ref()
        assert not dies(*held)
    del p, d
    assert dies(*held)


# It gets along with the rest of torch.


def test_training_on_one_device():
    def train():
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
        results = []
        for kind in (torch.optim.SGD, torch.optim.Adam, torch.optim.LBFGS):
            optimizer = kind(model.parameters(), lr=0.01)
            x, y = torch.randn(16, 4), torch.randn(16, 1)

            def closure(optimizer=optimizer, x=x, y=y):
                optimizer.zero_grad()
                loss = torch.nn.functional.mse_loss(model(x), y)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                return loss

            results.append(optimizer.step(closure).item())
        model.load_state_dict(model.state_dict())
        return results

    free = train()
    with native_guard(BOTH):
        assert train() == free


def double_backward():
    p = weight()
    (first,) = torch.autograd.grad((p**3).sum(), p, create_graph=True)
    first.sum().backward()


OTHERS = {
    "vmap": lambda: torch.func.vmap(lambda x: x.detach() * 2 + x[0])(torch.ones(2, 3)),
    "grad": lambda: torch.func.grad(lambda x: (x.detach() * x).sum())(torch.ones(3)),
    "vmap of grad": lambda: torch.func.vmap(torch.func.grad(lambda x: (x * x).sum()))(torch.ones(2, 3)),
    "jvp": lambda: torch.func.jvp(torch.sin, (torch.ones(3),), (torch.ones(3),)),
    "hessian": lambda: torch.func.hessian(lambda x: (x**3).sum())(torch.ones(2)),
    "functionalize": lambda: torch.func.functionalize(lambda x: x.clone().add_(1))(torch.ones(2)),
    "checkpoint": lambda: checkpoint(torch.sin, weight(), use_reentrant=False).sum().backward(),
    "cond": lambda: torch.cond(torch.ones(2).sum() > 1, torch.sin, torch.cos, (torch.ones(2),)),
    "double backward": double_backward,
    "make_fx": lambda: torch.fx.experimental.proxy_tensor.make_fx(lambda x: x.sin().detach())(torch.ones(2)),
    "export": lambda: torch.export.export(torch.nn.Linear(2, 2), (torch.ones(1, 2),)),
    "sparse": lambda: (torch.eye(2).to_sparse() @ torch.ones(2, 2)).detach().sum(),
    "quantized dtype": lambda: torch.ones(2).to(torch.float8_e4m3fn).to(torch.float32),
    "a lazy module": lambda: torch.nn.LazyLinear(2)(torch.ones(1, 3)),
    "a subclass": lambda: torch.ones(2).as_subclass(Loud).sin().detach().numpy(),
    "a mode on top": lambda: with_mode(Counting()),
}


class Loud(torch.Tensor):
    pass


class Counting(overrides.TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


def with_mode(mode):
    with mode, torch.device("cpu"):
        return torch.ones(2).numpy()


@pytest.mark.parametrize("action", OTHERS.values(), ids=OTHERS)
def test_the_rest_of_torch_works_in_the_block(action):
    action()
    before = stacks()
    with native_guard(BOTH):
        action()
    assert stacks() == before


@pytest.mark.parametrize("action", [lambda x: x.numpy(), lambda x: x.tolist(), np.asarray], ids=["numpy", "tolist", "asarray"])
def test_tensors_of_a_transformation(action):
    def vmapped():
        torch.func.vmap(action)(torch.ones(2, 3))

    with pytest.raises((RuntimeError, ValueError)) as outside:
        vmapped()
    with native_guard(BOTH), pytest.raises(type(outside.value)) as inside:
        vmapped()
    assert str(outside.value) == str(inside.value)  # torch refuses these itself
    with native_guard(BOTH), pytest.raises(GradError, match=r"no data \(grad\)"):
        torch.func.grad(lambda x: (action(x), x.sum())[1])(vector())


def test_a_view_that_a_third_party_defines():
    with torch.library._scoped_library("interop_guarded", "FRAGMENT") as library:
        library.define("row(int i, Tensor(a) x) -> Tensor(a)")
        library.define("nothing(Tensor(a) x) -> Tensor(a)?")
        library.impl("row", lambda i, x: x[i], "CompositeExplicitAutograd")
        library.impl("nothing", lambda x: None, "CompositeExplicitAutograd")
        p = weight()
        with native_guard(BOTH):
            assert torch.ops.interop_guarded.nothing(p.detach()) is None
            row = torch.no_grad()(torch.ops.interop_guarded.row)(1, p.detach().clone())
            assert torch.ops.interop_guarded.row(1, torch.eye(2)).numpy().tolist() == [0, 1]
            with pytest.raises(GradError):
                row.numpy()


@pytest.mark.parametrize("order", ["outside", "inside"])
def test_fake_tensors(order):
    fake, watch = FakeTensorMode(), native_guard(BOTH)
    with contextlib.ExitStack() as stack:
        for context in (fake, watch) if order == "outside" else (watch, fake):
            stack.enter_context(context)
        x = torch.ones(3) + 1
        assert isinstance(x, torch._subclasses.FakeTensor)
        assert interop.describe(x).no_data == "fake"
        with pytest.raises(TransferError):
            x.to("meta")
    with native_guard(BOTH):
        converted = fake.from_tensor(vector())
        assert converted.shape == (3,)
        assert FakeTensorMode().from_tensor(weight()).requires_grad


# torch.compile.


class Backend:
    """Compiles nothing; counts what it was asked to compile, and how often that ran."""

    def __init__(self):
        self.compiled = self.ran = 0

    def __call__(self, graph, inputs):
        self.compiled += 1

        def run(*args):
            self.ran += 1
            return graph(*args)

        return run


@pytest.fixture
def dynamo():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.usefixtures("dynamo")
@pytest.mark.parametrize("fullgraph", [False, True])
@pytest.mark.parametrize("called_before", [True, False])
def test_a_compiled_function_stays_compiled(called_before, fullgraph):
    backend = Backend()
    compiled = torch.compile(lambda x: x.sin() + x[0], backend=backend, fullgraph=fullgraph)
    x = vector()
    expected = compiled(x) if called_before else x.sin() + x[0]
    for _ in range(10):
        with native_guard(BOTH):
            torch.testing.assert_close(compiled(x), expected)
        torch.testing.assert_close(compiled(x), expected)
    assert backend.compiled == 2  # once without function modes, once for the blocks
    assert backend.ran == 20 + called_before


@pytest.mark.usefixtures("dynamo")
def test_operations_of_a_compiled_function_are_seen():
    compiled = torch.compile(lambda x: (x * 2).to("meta"), backend="eager")
    assert compiled(vector()).is_meta
    with native_guard(BOTH), pytest.raises(TransferError):
        compiled(vector())
    assert compiled(vector()).is_meta


@pytest.mark.usefixtures("dynamo")
def test_compiled_training():
    p = weight()
    with native_guard(BOTH):
        torch.compile(lambda x: (x * x).sum(), backend="aot_eager")(p).backward()
    torch.testing.assert_close(p.grad, 2 * weight().detach())


@pytest.mark.usefixtures("dynamo")
def test_compiled_numpy_code_works_or_fails_as_under_any_function_mode():
    compiled = torch.compile(lambda x: x.numpy() * 2, backend="eager")
    assert compiled(vector()).tolist() == [2.0, 4.0, 6.0]
    fails = pytest.raises(torch._dynamo.exc.TorchRuntimeError, match="'ndarray' object has no attribute")  # pytorch#140884
    for block in (Counting(), native_guard(BOTH)):
        torch._dynamo.reset()
        with block, fails if torch.__version__ < "2.15" else plain():
            assert compiled(vector()).tolist() == [2.0, 4.0, 6.0]


# interop's own conversions, inside of the block.


@pytest.mark.parametrize("forbidden", [TRANSFERS, GRADS, BOTH], ids=lambda forbidden: "+".join(sorted(forbidden)))
def test_conversions_of_interop_are_not_seen(forbidden):
    p, a = weight(), np.arange(3.0)
    with native_guard(forbidden):
        x = vector()
        assert interop.shares_memory(x, interop.to_numpy(x))
        assert interop.shares_memory(p, interop.to_numpy(p, grad="detach"))
        assert interop.shares_memory(a, interop.to_torch(a))
        assert interop.to_numpy(p, grad="detach", copy=True, dtype="float64").tolist() == [[1, 2], [3, 4]]
        assert interop.to_numpy(torch.eye(2).to_sparse(), layout="dense").tolist() == [[1, 0], [0, 1]]
        assert interop.to_numpy(torch.ones(1, dtype=torch.complex64).conj()).tolist() == [1]
        assert interop.to_torch(p) is p
        with pytest.raises(GradError, match="to_numpy"):
            interop.to_numpy(p)
        # and they leave nothing behind that would be held against the tensors
        assert x.numpy().tolist() == [1, 2, 3]


@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental", "ignore:The PyTorch API of MaskedTensors")  # torch's own
@pytest.mark.parametrize("source", [*corpus.TORCH_SOURCES, *corpus.FOREIGN_SOURCES], ids=str)
def test_interop_sees_and_does_the_same_in_the_block(source):
    def outcome():
        x = source.make()
        seen = str(interop.describe(x)), str(interop.explain(x, "numpy"))
        try:
            return *seen, interop.to_numpy(x, policy="coerce").tolist()
        except interop.InteropError as error:
            return *seen, str(error)

    with source.inside():
        free = outcome()
        with native_guard(BOTH):
            assert outcome() == free


# On a real device.


def cuda():
    return torch.arange(3.0, device="cuda")


ON_GPU = {
    "cpu": lambda: cuda().cpu(),
    "to the host": lambda: cuda().to("cpu", non_blocking=True),
    "to the device": lambda: vector().to("cuda"),
    "cuda": lambda: vector().cuda(),
    "copy_ to the host": lambda: vector().copy_(cuda()),
    "copy_ from the host": lambda: cuda().copy_(vector()),
    "assignment": lambda: operator.setitem(cuda(), slice(0, 3), vector()),
    "item": lambda: cuda().sum().item(),
    "truth": lambda: bool(cuda().sum()),
    "float": lambda: float(cuda().sum()),
    "index": lambda: [1, 2, 3, 4][cuda()[1].long()],
    "tolist": lambda: cuda().tolist(),
    "force": lambda: cuda().numpy(force=True),
    "a host index": lambda: cuda()[torch.tensor([0, 1])],
    "an ndarray": lambda: torch.tensor(np.ones(3), device="cuda"),
    "an ndarray, asarray": lambda: torch.asarray(np.ones(3), device="cuda"),
    "numbers off the device": lambda: torch.tensor([cuda()[0], cuda()[1]]),
    "dl_device": lambda: cuda().__dlpack__(dl_device=(1, 0)),
    "from_dlpack": lambda: torch.from_dlpack(cuda(), device="cpu"),
    "a file": lambda: torch.save(cuda(), io.BytesIO()),
}


@pytest.mark.gpu
@pytest.mark.parametrize("state", [plain, torch.no_grad, torch.inference_mode], ids=["plain", "no_grad", "inference"])
@pytest.mark.parametrize("action", ON_GPU.values(), ids=ON_GPU)
def test_on_a_gpu_a_transfer_is_refused(action, state):
    with state():
        action()
        with native_guard(GRADS):
            action()
        with native_guard(TRANSFERS), pytest.raises(TransferError, match=r"copies from (cuda:0 to cpu|cpu to cuda:0)"):
            action()


STAYING_ON_GPU = {
    "arithmetic": lambda c: (c + 1, c * torch.tensor(2.0), c @ c, c.cuda(), c.to("cuda"), c.to("cuda:0")),
    "numbers": lambda c: (torch.tensor([1.0, 2.0], device="cuda"), torch.as_tensor(1, device="cuda"), c.new_tensor([1]), c.new_tensor(2.0)),
    "assignments": lambda c: (operator.setitem(c, 0, 1.0), operator.setitem(c, slice(0, 2), 1.0), operator.setitem(c, c > 1, 0.0)),
    "indices": lambda c: (c[0], c[0:2], c[[0, 1]], c[c > 0], c[c.long()], c[torch.tensor(1)], c.reshape(3, 1)[c.long(), 0]),
    "sizes": lambda c: (c.nonzero(), torch.unique(c), torch.equal(c, c), torch.allclose(c, c)),
    "text": lambda c: f"{c}",
    "streams": lambda c: (torch.cuda.synchronize(), c.__dlpack__(), c.__cuda_array_interface__),
    "pinned memory": lambda c: torch.ones(3).pin_memory().numpy(),
}


@pytest.mark.gpu
def test_on_a_gpu_a_module_does_not_move():
    torch.nn.Linear(2, 2).cuda()
    with native_guard(TRANSFERS), pytest.raises(TransferError, match=r"copies from cpu to cuda:0"):
        torch.nn.Linear(2, 2).cuda()


@pytest.mark.gpu
@pytest.mark.parametrize("action", STAYING_ON_GPU.values(), ids=STAYING_ON_GPU)
def test_on_a_gpu_what_stays_is_not_refused(action):
    with native_guard(BOTH):
        action(cuda())


def on_gpu():
    return torch.nn.Parameter(cuda())


LOSING_ON_GPU = {
    "the idiom": lambda p: p.detach().cpu().numpy(),
    "no_grad": torch.no_grad()(lambda p: p.cpu().numpy()),
    "pinned": lambda p: torch.empty(3, pin_memory=True).copy_(p.detach()).numpy(),
    "force": lambda p: p.numpy(force=True),
    "tolist": lambda p: p.detach().tolist(),
    "__dlpack__": lambda p: p.detach().__dlpack__(),
    "the CUDA array interface": lambda p: p.detach().__cuda_array_interface__,
}


@pytest.mark.gpu
@pytest.mark.parametrize("action", LOSING_ON_GPU.values(), ids=LOSING_ON_GPU)
def test_on_a_gpu_a_tracked_value_does_not_leave_torch(action):
    action(on_gpu())
    with native_guard(GRADS), pytest.raises(GradError):
        action(on_gpu())


@pytest.mark.gpu
def test_on_a_gpu_a_backward_pass_in_autograds_own_threads_is_seen():
    def loss():
        return (on_gpu().cpu() * 2).sum()

    loss().backward()
    crossing, staying = loss(), (on_gpu() * 2).sum()
    with native_guard(BOTH):
        staying.backward()
        with pytest.raises(TransferError):
            crossing.backward()


@pytest.mark.gpu
def test_on_a_gpu_training_stays():
    with native_guard(BOTH):
        model = torch.nn.Linear(4, 1, device="cuda")
        for kind in (torch.optim.SGD, torch.optim.Adam):
            optimizer = kind(model.parameters(), lr=0.01)
            torch.nn.functional.mse_loss(model(torch.randn(8, 4, device="cuda")), torch.randn(8, 1, device="cuda")).backward()
            optimizer.step()
