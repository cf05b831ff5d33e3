"""Handoffs and transfers at random, on many streams and in several threads, on memory that is let go of at once. Run by ``make gpu``.

Each value belongs to one round alone: one that is read too early is of before, and one that is read from memory that was handed out again is
-1. With `interop.backends._cupy_lent.lent` and `_torch_lent.lent` taken out it fails within a second on the emulated device (tests/emulated).
"""

import gc
import random
import threading
import time

import pytest
import torch

import interop

pytestmark = pytest.mark.gpu

COUNT = 1 << 14
SECONDS = 12
TICKS = 2_000_000  # about a millisecond


@pytest.fixture(name="cp")
def cupy_module():
    """Return CuPy, with its kernels compiled."""
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
    cupy.full(COUNT, 3, "float32").copy()
    torch.full((COUNT,), 3.0, device="cuda").clone()
    torch.cuda.synchronize()
    return cupy


class Round:
    """Two libraries with a stream each, on one device, and a value."""

    def __init__(self, cp, chance, device):
        self.cp, self.chance, self.device = cp, chance, device
        self.torchs, self.cupys = torch.cuda.Stream(), cp.cuda.Stream(non_blocking=True)
        self.value = chance.randrange(1, 1000)

    def delay(self, stream):
        with torch.cuda.stream(stream):
            torch.cuda._sleep(self.chance.randrange(1, 4) * TICKS)

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


def test_every_value_is_that_of_its_round(cp):
    wrong, rounds = [], []

    def work(seed):
        chance, end = random.Random(seed), time.monotonic() + SECONDS
        while time.monotonic() < end:
            index = chance.randrange(torch.cuda.device_count())
            with torch.cuda.device(index), cp.cuda.Device(index):
                one = Round(cp, chance, torch.device("cuda", index))
                how = chance.choice(["torch_to_cupy", "cupy_to_torch", "torch_to_host", "cupy_to_host"])
                try:
                    read = getattr(one, how)()
                except BaseException as error:
                    wrong.append((how, repr(error)))
                    raise
                rounds.append(how)
                if not (read == one.value).all():
                    wrong.append((how, one.value, read[:3].tolist()))
                del read, one
            if chance.random() < 0.05:
                gc.collect()

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    torch.cuda.synchronize()
    assert wrong == []
    assert len(set(rounds)) == 4
