"""Memory that is allocated and freed in the order of a stream, and the pool that it comes from."""

from ctypes import byref, c_size_t, c_uint64, c_void_p

import pytest

from tests.emulated.contract.cuda import NOT_READY, SIZE, of, on_a_device

pytestmark = on_a_device

RELEASE_THRESHOLD, RESERVED, USED = 4, 5, 7  # cudaMemPoolAttr


@pytest.fixture(name="pool")
def pool_of_the_device(cuda):
    return cuda.get(c_void_p, "cudaDeviceGetDefaultMemPool", 0)


def attribute(cuda, pool, which):
    value = c_uint64()
    cuda("cudaMemPoolGetAttribute", pool, which, byref(value))
    return value.value


def allocated(cuda, function, stream, pool):
    """Return memory of a function that allocates in the order of a stream."""
    between = (pool,) if function == "cudaMallocFromPoolAsync" else ()
    return cuda.get(c_void_p, function, c_size_t(SIZE), *between, stream)


@of("cudaMallocAsync", "cudaMallocFromPoolAsync", "cuMemAllocAsync")
def test_memory_may_be_used_by_work_that_is_ordered_after_its_allocation(cuda, function, stream, other, event, pool):
    with cuda.held(stream):
        made = allocated(cuda, function, stream, pool)
        cuda("cudaMemsetAsync", made, 3, c_size_t(SIZE), stream)
        assert cuda.status("cudaStreamQuery", stream) == NOT_READY  # nothing was waited for
        cuda("cudaEventRecord", event, stream)
        cuda("cudaStreamWaitEvent", other, event, 0)
    assert cuda.read(made, other) == b"\3" * SIZE
    cuda("cudaFreeAsync", made, stream)
    cuda("cudaStreamSynchronize", stream)


@of("cudaFreeAsync", "cuMemFreeAsync")
def test_what_was_given_to_the_stream_before_may_use_it(cuda, function, stream, target, pool):
    made = allocated(cuda, "cudaMallocAsync", stream, pool)
    with cuda.held(stream):
        cuda("cudaMemsetAsync", made, 3, c_size_t(SIZE), stream)
        cuda("cudaMemcpyAsync", target, made, c_size_t(SIZE), 3, stream)
        cuda(function, made, stream)
        assert cuda.status("cudaStreamQuery", stream) == NOT_READY
    assert cuda.read(target, stream) == b"\3" * SIZE


@of("cudaDeviceGetDefaultMemPool", "cudaDeviceGetMemPool")
def test_a_device_has_a_pool(cuda, function, pool):
    assert cuda.get(c_void_p, function, 0).value == pool.value != 0


@of("cudaMemPoolSetAttribute")
def test_the_threshold_is_what_was_set(cuda, function, pool):
    before = attribute(cuda, pool, RELEASE_THRESHOLD)
    cuda(function, pool, RELEASE_THRESHOLD, byref(c_uint64(1 << 20)))
    assert attribute(cuda, pool, RELEASE_THRESHOLD) == 1 << 20
    cuda(function, pool, RELEASE_THRESHOLD, byref(c_uint64(before)))
    assert attribute(cuda, pool, RELEASE_THRESHOLD) == before


@of("cudaMemPoolGetAttribute")
def test_used_bytes_are_counted(cuda, function, stream, pool):
    before = attribute(cuda, pool, USED)
    made = allocated(cuda, "cudaMallocAsync", stream, pool)
    assert attribute(cuda, pool, USED) >= before + SIZE
    assert attribute(cuda, pool, RESERVED) >= attribute(cuda, pool, USED)
    cuda("cudaFreeAsync", made, stream)
    cuda("cudaStreamSynchronize", stream)
    assert attribute(cuda, pool, USED) == before


@of("cudaMemPoolTrimTo")
def test_memory_in_use_is_not_trimmed(cuda, function, stream, pool):
    made = allocated(cuda, "cudaMallocAsync", stream, pool)
    cuda("cudaMemsetAsync", made, 3, c_size_t(SIZE), stream)
    cuda(function, pool, c_size_t(0))
    assert cuda.read(made, stream) == b"\3" * SIZE
    assert attribute(cuda, pool, USED) >= SIZE
    cuda("cudaFreeAsync", made, stream)
