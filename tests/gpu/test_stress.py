"""Handoffs and transfers at random, on many streams and in several threads, on memory that is let go of at once. Run by ``make gpu``.

Each value belongs to one round alone: one that is read too early is of before, and one that is read from memory that was reused is
-1.
"""

import gc
import random
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

import interop
from interop.backends.torch import handoff as _torch_handoff
from tests.gpu.work import cycles, quiet

pytestmark = pytest.mark.gpu

COUNT = 1 << 14
SECONDS = 5


@pytest.fixture(name="cp")
def cupy_module():
    """Return CuPy, with its kernels compiled."""
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
    cupy.full(COUNT, 3, "float32").copy()
    torch.full((COUNT,), 3.0, device="cuda").clone()
    cycles(1)  # measured before there are threads
    quiet()
    return cupy


class Round:
    """Two libraries with a stream each, on one device, and a value."""

    def __init__(self, cp, chance, device):
        self.cp, self.chance, self.device = cp, chance, device
        self.torchs, self.cupys = torch.cuda.Stream(), cp.cuda.Stream(non_blocking=True)
        self.value = chance.randrange(1, 1000)

    def delay(self, stream):
        with torch.cuda.stream(stream):
            torch.cuda._sleep(cycles(self.chance.randrange(1, 4)))

    @property
    def as_torchs(self):
        return torch.cuda.ExternalStream(self.cupys.ptr)

    def tensor(self):
        made = torch.empty(COUNT, device=self.device)
        self.delay(self.torchs)
        return made.fill_(self.value)

    def array(self):
        made = self.cp.empty(COUNT, "float32")
        self.delay(self.as_torchs)
        made.fill(self.value)
        return made

    def torch_to_cupy(self):
        with torch.cuda.stream(self.torchs):
            tensor = self.tensor()
            with self.cupys:
                array = interop.to_cupy(tensor, copy=self.chance.choice([None, True]))
                del tensor
                self.delay(self.as_torchs)
                read = array.copy()
                del array
            torch.full((COUNT,), -1.0, device=self.device)
        with self.cupys:
            return read.get()

    def cupy_to_torch(self):
        with self.cupys:
            array = self.array()
            with torch.cuda.stream(self.torchs):
                tensor = interop.to_torch(array)
                del array
                self.delay(self.torchs)
                read = tensor.clone()
                del tensor
            self.cp.full(COUNT, -1, "float32")
        self.torchs.synchronize()
        return read.cpu().numpy()

    def torch_to_host(self):
        with torch.cuda.stream(self.torchs):
            tensor = self.tensor()
            stream = self.chance.choice([None, self.cupys])
            transfer = interop.to_numpy(tensor[:: self.chance.choice([1, 2])], device="cpu", blocking=False, stream=stream)
            del tensor
            torch.full((COUNT,), -1.0, device=self.device)
        del stream, self.cupys
        return transfer.result()

    def cupy_to_host(self):
        with self.cupys:
            array = self.array()
            transfer = interop.to_numpy(array[:: self.chance.choice([1, 2])], device="cpu", blocking=False)
            del array
            self.cp.full(COUNT, -1, "float32")
        return transfer.result()


def rounds(cp, seed, seconds, to_the_first):
    """Convert at random for a while, or until something is wrong; return what was done, and what of it was wrong."""
    done, wrong = [], []
    chance, end = random.Random(seed), time.monotonic() + seconds
    while time.monotonic() < end and not (wrong and to_the_first):
        index = chance.randrange(torch.cuda.device_count())
        with torch.cuda.device(index), cp.cuda.Device(index):
            one = Round(cp, chance, torch.device("cuda", index))
            how = chance.choice(["torch_to_cupy", "cupy_to_torch", "torch_to_host", "cupy_to_host"])
            read = getattr(one, how)()
            done.append(how)
            if not (read == one.value).all():
                wrong.append((how, one.value, read[:3].tolist()))
            del read, one
        if chance.random() < 0.05:
            gc.collect()
    return done, wrong


def in_threads(cp, seconds, *, to_the_first=False):
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda seed: rounds(cp, seed, seconds, to_the_first), range(4)))
    torch.cuda.synchronize()
    return [one for done, _ in found for one in done], [one for _, wrong in found for one in wrong]


def test_every_value_is_that_of_its_round(cp, record_property):
    done, wrong = in_threads(cp, SECONDS)
    record_property("rounds_count", len(done))
    assert wrong == []
    assert len(set(done)) == 4


def test_without_the_protection_some_are_not(cp, monkeypatch):
    """The negative control."""
    from interop.backends.cupy import handoff as _cupy_handoff

    monkeypatch.setattr(_cupy_handoff, "defer_release", lambda x, stream, asked: x.__dlpack__(stream=asked, max_version=(1, 0)))
    monkeypatch.setattr(_torch_handoff, "defer_release", lambda x, capsule, *_: capsule)
    assert in_threads(cp, SECONDS, to_the_first=True)[1] != []
