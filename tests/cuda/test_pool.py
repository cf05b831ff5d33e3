"""One pool for two libraries: the logic, with libraries and a driver that note what is asked of them; on CUDA it is tested in tests/gpu/test_pool.py."""

import contextlib
import ctypes
import importlib.util
import os
import shutil
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest
import torch

import interop
from interop import Device
from interop.backends.cuda.types import MemorySource
from interop.backends.torch import pool as _torch_pool
from interop.cuda import _pool, cupy_pool, memory_report, torch_pool
from interop.errors import DeviceUnavailableError

# The scope.


class Library:
    """Takes its memory from `at`, a stack for each thread."""

    def __init__(self, name, log):
        self.name, self.log, self.local = name, log, threading.local()
        self.missing = None

    def current_index(self):
        return 0

    def parse_device(self, device):
        return Device.parse(str(device), index=0)

    def why_unavailable(self, device):
        return self.missing if device.index == 0 else "one device only"

    def at(self):
        if not hasattr(self.local, "at"):
            self.local.at = [self.name]
        return self.local.at

    @contextlib.contextmanager
    def scope(self, where):
        at, depth = self.at(), len(self.at()) + 1
        at.append(where)
        self.log.append(f"{self.name} on {where}")
        try:
            yield lambda: len(at) == depth and at[-1] == where
        finally:
            at.pop()
            self.log.append(f"{self.name} off {where}")

    def free_memory(self, device):
        return 3 << 30, 4 << 30

    def pools(self, device):
        return {self.name: (512, 2 << 20)}


class Torch(Library):
    @contextlib.contextmanager
    def memory_source(self):
        yield MemorySource(is_used=lambda: True)

    @contextlib.contextmanager
    def allocate_from(self, source):
        with self.scope(f"{source.library}"):
            yield lambda: True


class CuPy(Library):
    @contextlib.contextmanager
    def memory_source(self):
        with self.scope("cuda") as is_used:
            yield MemorySource(library="cuda", is_used=is_used)

    def allocate_from(self, source):
        return self.scope("torch's")


@pytest.fixture(name="two")
def two_libraries(monkeypatch):
    log = []
    found = {"torch": Torch("torch", log), "cupy": CuPy("cupy", log)}
    monkeypatch.setattr(_pool, "load_backend", found.__getitem__)
    monkeypatch.setattr(_pool, "imported", lambda: list(found.values()))
    return SimpleNamespace(log=log, **found)


def test_cupy_takes_torchs_memory_inside_and_its_own_after(two):
    pool = torch_pool()
    assert not pool.is_active()
    with pool as entered:
        assert entered is pool
        assert pool.is_active()
        assert two.log == ["cupy on torch's"]
        assert "active" in repr(pool)
    assert not pool.is_active()
    assert repr(pool) == "<interop.cuda.torch_pool(), not active>"
    assert two.log == ["cupy on torch's", "cupy off torch's"]


def test_both_take_cudas_memory_inside_of_cupys_pool(two):
    with cupy_pool() as pool:
        assert pool.is_active()
        assert two.log == ["cupy on cuda", "torch on cuda"]
    assert two.log[2:] == ["torch off cuda", "cupy off cuda"]
    assert two.torch.at() == ["torch"]
    assert two.cupy.at() == ["cupy"]


def test_they_nest_and_only_the_innermost_is_active(two):
    outer, inner = torch_pool(), cupy_pool()
    with outer:
        with inner:
            assert (outer.is_active(), inner.is_active()) == (False, True)
            with outer:  # entered again, inside of itself
                assert (outer.is_active(), inner.is_active()) == (True, False)
            assert (outer.is_active(), inner.is_active()) == (False, True)
        assert (outer.is_active(), inner.is_active()) == (True, False)
    assert (outer.is_active(), inner.is_active()) == (False, False)
    assert two.cupy.at() == ["cupy"]


def test_all_is_as_before_after_an_error(two):
    with pytest.raises(ZeroDivisionError), torch_pool():
        raise ZeroDivisionError
    assert two.cupy.at() == ["cupy"]

    def refuse(_):
        raise OSError("no pool")

    two.torch.allocate_from = refuse
    pool = cupy_pool()
    with pytest.raises(OSError, match="no pool"), pool:
        pytest.fail("entered")
    assert two.log[-1] == "cupy off cuda"
    assert not pool.is_active()


def test_it_is_for_one_thread(two):
    seen = []
    pool = torch_pool()

    def elsewhere():
        seen.append(pool.is_active())
        with pool:
            seen.append(pool.is_active())

    with pool:
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        assert pool.is_active()
    assert seen == [False, True]


def test_a_library_that_sees_no_device_is_said(two):
    two.cupy.missing = "CuPy sees no CUDA device"
    for make in (torch_pool, cupy_pool):
        with pytest.raises(DeviceUnavailableError, match="there is no pool on cuda:0: CuPy sees no CUDA device"), make():
            pytest.fail("entered")
    assert two.log == []


def test_the_report_names_every_pool(two):
    report = memory_report()
    assert (report.free, report.total) == (3 << 30, 4 << 30)
    assert str(report).splitlines() == [
        "cuda:0: 3.0 GiB of 4.0 GiB free",
        "  torch: holds 2.0 MiB, 512 bytes of it in use",
        "  cupy: holds 2.0 MiB, 512 bytes of it in use",
    ]
    assert torch_pool().memory_report("cuda:0") == report
    with pytest.raises(DeviceUnavailableError, match="on cuda:1: one device only; one device only"):
        memory_report("cuda:1")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a device here; see tests/gpu/test_pool.py")
def test_here_without_a_device_it_says_why():
    pytest.importorskip("cupy", reason="CuPy is not installed")
    for make in (torch_pool, cupy_pool):
        with pytest.raises(DeviceUnavailableError, match=r"no pool on cuda:0: .*torch.*; CuPy|no pool on cuda:0: CuPy.*torch"), make():
            pytest.fail("entered")
    with pytest.raises(DeviceUnavailableError, match="no memory to report"):
        interop.cuda.memory_report()


# CuPy's side.


@pytest.mark.skipif(torch.cuda.is_available(), reason="the driver is there")
def test_a_driver_that_is_not_there_is_said():
    pytest.importorskip("cupy", reason="CuPy is not installed")
    from interop.backends.cupy import pool as _cupy_pool

    _cupy_pool._driver_pool.cache_clear()
    with pytest.raises(DeviceUnavailableError, match=r"libcuda|was not built"):
        _cupy_pool._driver_pool()


# torch's side.


@pytest.fixture(name="torchs")
def recording_torch(monkeypatch):
    log = []

    def scope(word):
        @contextlib.contextmanager
        def inside(what):
            log.append(f"{word} {what}")
            yield
            log.append(f"{word} left")

        return inside

    monkeypatch.setattr(torch.cuda, "current_stream", lambda _=None: SimpleNamespace(cuda_stream=5))
    monkeypatch.setattr(torch.cuda, "ExternalStream", lambda pointer: f"external {pointer}")
    monkeypatch.setattr(torch.cuda, "default_stream", lambda: "default")
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    for name in ("device", "stream"):
        monkeypatch.setattr(torch.cuda, name, scope(name))
    return log


def test_torchs_memory_belongs_to_a_stream_and_its_error_is_pythons(torchs, monkeypatch):
    def allocate(*args):
        torchs.append(args)
        if args[0] == 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return 77

    monkeypatch.setattr(torch.cuda, "caching_allocator_alloc", allocate)
    monkeypatch.setattr(torch.cuda, "caching_allocator_delete", torchs.append)
    assert _torch_pool.allocate(64, 1, 5) == 77
    assert torchs == [(64, 1, 5)]
    del torchs[:]
    # Inside of a MemPool torch would take new memory on its current stream.
    assert _torch_pool.allocate(64, 1, 6) == 77
    assert torchs == ["device 1", "stream external 6", (64, 1, 6), "stream left", "device left"]
    del torchs[:]
    assert _torch_pool.allocate(64, 1, 0) == 77
    assert torchs[:3] == ["device 1", "stream default", (64, 1, 0)]
    with pytest.raises(MemoryError, match="CUDA out of memory") as caught:
        _torch_pool.allocate(3, 1, 5)
    assert not isinstance(caught.value, RuntimeError)
    _torch_pool.release(77)
    assert torchs[-1] == 77


@pytest.fixture(name="pools")
def recording_pools(torchs, monkeypatch):
    class Pluggable:
        def __init__(self, *args):
            torchs.append(args)

        def allocator(self):
            return self

    numbers = iter(range(100))

    @contextlib.contextmanager
    def using(pool):
        torchs.append(f"in {pool}")
        yield
        torchs.append(f"out of {pool}")

    monkeypatch.setattr(torch.cuda.memory, "CUDAPluggableAllocator", Pluggable)
    monkeypatch.setattr(torch.cuda, "MemPool", lambda _: next(numbers))
    monkeypatch.setattr(torch.cuda, "use_mem_pool", using)
    monkeypatch.setattr(_torch_pool, "_idle", {})
    _torch_pool._allocator.cache_clear()
    yield torchs
    _torch_pool._allocator.cache_clear()


def test_a_pool_of_torchs_is_used_again_and_never_given_up(pools):
    """torch aborts when one goes while anybody is in another (pytorch#146431)."""
    for _ in range(2):
        with _torch_pool.allocate_from("some.so"), _torch_pool.allocate_from("some.so"):  # it is in it already
            pools.append("inside")
    assert pools == [("some.so", "allocate", "release"), *["in 0", "inside", "out of 0"] * 2]
    assert _torch_pool._idle == {("some.so", 0): [0]}


def test_two_threads_have_two_pools(pools):
    both = threading.Barrier(2, timeout=30)

    def work():
        with _torch_pool.allocate_from("some.so"):
            both.wait()

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(one for one in pools if str(one).startswith("in")) == ["in 0", "in 1"]
    assert sorted(_torch_pool._idle["some.so", 0]) == [0, 1]


# The C functions, with a driver that notes what it is asked.

DRIVER = """
#include <stdint.h>
#include <stdio.h>
#include <string.h>
static char said[4096];
static int depth;
int capturing, failing, gone, unanswered;  /* set by the test */
#define SAY(...) snprintf(said + strlen(said), sizeof said - strlen(said), __VA_ARGS__)
const char *requests(void) { static char copy[4096]; strcpy(copy, said); said[0] = 0; return copy; }
int contexts_left(void) { return depth; }
int cuInit(unsigned flags) { return 0; }
int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return ordinal > 1; }
int cuDevicePrimaryCtxRetain(void **context, int device) { SAY("retain %d;", device); *context = (void *)(uintptr_t)(100 + device); return 0; }
int cuCtxPushCurrent_v2(void *context) { depth++; return 0; }
int cuCtxPopCurrent_v2(void **context) { depth--; return 0; }
int cuCtxSynchronize(void) { SAY("wait;"); return 0; }
int cuStreamIsCapturing(void *stream, int *status) { *status = capturing && stream == (void *)7; return unanswered; }
int cuThreadExchangeStreamCaptureMode(int *mode) { static int now; int before = now; now = *mode; *mode = before; SAY("mode %d;", now); return 0; }
int cuMemAlloc_v2(uint64_t *pointer, size_t size) { SAY("alloc %zu;", size); *pointer = 4096; return failing; }
int cuMemFree_v2(uint64_t pointer) { SAY("free %lu;", (unsigned long)pointer); return 0; }
int cuMemAllocAsync(uint64_t *pointer, size_t size, void *stream) { SAY("async %zu on %p;", size, stream); *pointer = 8192; return failing; }
int cuMemFreeAsync(uint64_t pointer, void *stream) { SAY("back %lu on %p;", (unsigned long)pointer, stream); return gone; }
"""


@pytest.fixture(name="driver", scope="module")
def recording_driver(tmp_path_factory):
    compiler = shutil.which("cc")
    built = importlib.util.find_spec("interop.native.async_pool")
    if compiler is None or built is None:
        assert not os.environ.get("INTEROP_REQUIRE_C"), "interop.native.async_pool was not built, although it has to be here"
        pytest.skip("there is no C compiler here")
    folder = tmp_path_factory.mktemp("driver")
    (folder / "driver.c").write_text(DRIVER)
    made = folder / "libdriver.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-w", str(folder / "driver.c"), "-o", str(made)], check=True)
    # A copy of its own, so that the driver of this machine is not replaced.
    path = shutil.copy(built.origin, folder / f"async_pool{''.join(importlib.machinery.EXTENSION_SUFFIXES[:1])}")
    spec = importlib.util.spec_from_file_location("copy.async_pool", path)
    module = importlib.util.module_from_spec(spec)
    module.load(str(made))
    driver, pool = ctypes.CDLL(str(made)), ctypes.CDLL(str(path))
    driver.requests.restype = ctypes.c_char_p
    pool.allocate.restype, pool.allocate.argtypes = ctypes.c_void_p, (ctypes.c_ssize_t, ctypes.c_int, ctypes.c_void_p)
    pool.release.restype, pool.release.argtypes = None, (ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int, ctypes.c_void_p)
    return SimpleNamespace(own=driver, pool=pool, module=module, folder=folder, compiler=compiler)


@pytest.fixture(name="requests")
def what_it_was_asked(driver):
    pool = driver.pool
    pool.release(pool.allocate(1, 0, None), 1, 0, None)  # the context is retained once
    driver.own.requests()

    def set_to(name, value):
        ctypes.c_int.in_dll(driver.own, name).value = value

    yield SimpleNamespace(set=set_to, requests=lambda: driver.own.requests().decode(), pool=pool)
    for name in ("capturing", "failing", "gone", "unanswered"):
        set_to(name, 0)
    assert driver.own.contexts_left() == 0


def test_memory_is_taken_and_given_back_in_the_order_of_a_stream(requests):
    assert requests.pool.allocate(64, 0, 5) == 8192
    requests.pool.release(8192, 64, 0, 5)
    assert requests.requests() == "async 64 on 0x5;back 8192 on 0x5;"
    requests.pool.release(None, 0, 0, 5)
    assert requests.requests() == ""


def test_each_device_has_its_context(requests):
    requests.pool.allocate(64, 1, None)
    requests.pool.allocate(64, 1, None)
    assert requests.requests().count("retain 1;") <= 1
    assert requests.pool.allocate(64, 2, None) is None
    assert requests.pool.allocate(64, -1, None) is None
    assert requests.pool.allocate(64, 64, None) is None
    assert requests.requests() == ""


def test_without_memory_it_is_null(requests):
    requests.set("failing", 2)
    assert requests.pool.allocate(64, 0, 5) is None
    requests.set("capturing", 1)
    assert requests.pool.allocate(64, 0, 7) is None


def test_what_is_allocated_during_a_capture_is_not_the_graphs(requests):
    requests.set("capturing", 1)
    assert requests.pool.allocate(64, 0, 7) == 4096
    assert requests.requests() == "mode 2;alloc 64;mode 0;"
    assert requests.pool.allocate(64, 0, 5) == 8192  # another stream
    assert requests.requests() == "async 64 on 0x5;"


def test_what_comes_back_during_a_capture_waits_for_its_end(requests):
    requests.set("capturing", 1)
    requests.pool.release(8192, 64, 0, 7)
    assert requests.requests() == ""
    requests.pool.release(4096, 64, 0, 5)
    assert requests.requests() == "back 4096 on 0x5;"
    requests.set("capturing", 0)
    requests.pool.release(1024, 64, 0, 5)
    assert requests.requests() == "back 1024 on 0x5;back 8192 on 0x7;"
    requests.pool.release(2048, 64, 0, 5)
    assert requests.requests() == "back 2048 on 0x5;"


def test_without_a_stream_there_is_no_order_and_all_is_waited_for(requests):
    requests.set("gone", 400)
    requests.pool.release(8192, 64, 0, 5)
    assert requests.requests() == "back 8192 on 0x5;mode 2;wait;free 8192;mode 0;"


def test_where_the_driver_does_not_say_whether_it_captures_the_careful_way_is_taken(requests):
    requests.set("unanswered", 906)  # CUDA_ERROR_STREAM_CAPTURE_IMPLICIT: another stream captures
    assert requests.pool.allocate(64, 0, 5) == 4096
    requests.pool.release(8192, 64, 0, 5)
    assert requests.requests() == "mode 2;alloc 64;mode 0;"
    requests.set("unanswered", 400)  # CUDA_ERROR_INVALID_HANDLE: the stream is gone, and no capture of it ends
    requests.set("gone", 400)
    assert requests.pool.allocate(64, 0, 5) == 4096
    requests.pool.release(None, 0, 0, 5)
    assert requests.requests() == "mode 2;alloc 64;mode 0;back 8192 on 0x5;mode 2;wait;free 8192;mode 0;"


MALLOC = """
#include <stddef.h>
int failing;  /* set by the test */
extern void *__libc_malloc(size_t);
void *malloc(size_t size) { return failing && size == 32 ? NULL : __libc_malloc(size); }
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the allocator is replaced as the GNU C library lets one do it")
def test_memory_is_given_back_where_there_is_none_to_remember_it_by(driver):
    (driver.folder / "malloc.c").write_text(MALLOC)
    shim = driver.folder / "malloc.so"
    subprocess.run([driver.compiler, "-shared", "-fPIC", str(driver.folder / "malloc.c"), "-o", str(shim)], check=True)
    code = f"""if True:
        import ctypes
        import interop.native.async_pool as module
        module.load({str(driver.folder / "libdriver.so")!r})
        driver, pool, shim = ctypes.CDLL({str(driver.folder / "libdriver.so")!r}), ctypes.CDLL(module.__file__), ctypes.CDLL({str(shim)!r})
        driver.requests.restype = ctypes.c_char_p
        pool.release.restype, pool.release.argtypes = None, (ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int, ctypes.c_void_p)
        failing, capturing = ctypes.c_int.in_dll(shim, "failing"), ctypes.c_int.in_dll(driver, "capturing")
        failing.value = 1
        pool.release(8192, 64, 0, 5)
        capturing.value = 1
        pool.release(8192, 64, 0, 7)
        failing.value = capturing.value = 0
        pool.release(1024, 64, 0, 5)
        print(driver.requests().decode())
    """
    environment = os.environ | {"LD_PRELOAD": str(shim)}
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert ran.stdout.strip() == "retain 0;back 8192 on 0x5;back 1024 on 0x5;"


def test_a_driver_that_lacks_something_is_refused(driver):
    with pytest.raises(OSError, match="nowhere"):
        driver.module.load("nowhere.so")
    (driver.folder / "half.c").write_text("int cuInit(unsigned flags) { return 0; }")
    half = driver.folder / "half.so"
    subprocess.run([driver.compiler, "-shared", "-fPIC", str(driver.folder / "half.c"), "-o", str(half)], check=True)
    code = f"""if True:
        import interop.native.async_pool as pool
        try:
            pool.load({str(half)!r})
        except OSError as error:
            print(error)
    """
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "half.so has no cuDeviceGet" in ran.stdout, ran.stderr
