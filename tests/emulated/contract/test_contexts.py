"""The driver's start and its contexts."""

import ctypes
import threading
from ctypes import byref, c_int, c_uint, c_void_p

from tests.emulated.contract.cuda import INVALID_CONTEXT, of, on_a_device

pytestmark = on_a_device


def current(cuda):
    return cuda.get(c_void_p, "cuCtxGetCurrent").value


def in_a_thread(work):
    """Run something in a thread of its own, where no context is current; returns what it returns."""
    results = []
    thread = threading.Thread(target=lambda: results.append(work()))
    thread.start()
    thread.join()
    return results[0]


@of("cuInit")
def test_it_may_be_started_again(cuda, function):
    assert [cuda.status(function, 0) for _ in range(2)] == [0, 0]


@of("cuCtxGetCurrent")
def test_a_thread_has_no_context_before_it_uses_the_runtime(cuda, function):
    def work():
        before = cuda.get(c_void_p, function).value
        cuda("cudaFree", None)
        return before, cuda.get(c_void_p, function).value

    before, after = in_a_thread(work)
    assert before is None
    assert after == current(cuda)


@of("cuCtxGetDevice")
def test_without_a_context_there_is_no_device(cuda, function):
    assert in_a_thread(lambda: cuda.status(function, byref(c_int()))) == INVALID_CONTEXT


@of("cuCtxSetCurrent")
def test_a_context_is_set_for_one_thread(cuda, function):
    context = current(cuda)

    def work():
        cuda(function, c_void_p(context))
        first = current(cuda)
        cuda(function, None)
        return first, current(cuda)

    assert in_a_thread(work) == (context, None)
    assert current(cuda) == context


@of("cuCtxPushCurrent_v2", "cuCtxPopCurrent_v2")
def test_contexts_are_a_stack(cuda, function):
    context = current(cuda)

    def work():
        cuda("cuCtxPushCurrent_v2", c_void_p(context))
        inside = current(cuda)
        popped = cuda.get(c_void_p, "cuCtxPopCurrent_v2").value
        return inside, popped, current(cuda), cuda.status("cuCtxPopCurrent_v2", byref(c_void_p()))

    assert in_a_thread(work) == (context, context, None, INVALID_CONTEXT)


@of("cuDevicePrimaryCtxGetState")
def test_the_runtimes_context_is_the_primary_one(cuda, function):
    flags, active = c_uint(), c_int()
    cuda(function, 0, byref(flags), byref(active))
    assert active.value == 1


@of("cuDevicePrimaryCtxRetain", "cuDevicePrimaryCtxRelease_v2")
def test_a_primary_context_is_retained_and_released(cuda, function):
    context = cuda.get(c_void_p, "cuDevicePrimaryCtxRetain", 0).value
    assert context == current(cuda)
    cuda("cuDevicePrimaryCtxRelease_v2", 0)
    cuda("cudaDeviceSynchronize")  # the runtime retains it too


@of("cudaGetDriverEntryPointByVersion")
def test_the_address_of_the_drivers_function(cuda, function):
    address, status = c_void_p(), c_int(-1)
    cuda(function, b"cuDriverGetVersion", byref(address), 12000, ctypes.c_ulonglong(0), byref(status))
    assert status.value == 0
    version = c_int()
    assert ctypes.CFUNCTYPE(c_int, c_void_p)(address.value)(ctypes.addressof(version)) == 0
    assert version.value == cuda.number("cuDriverGetVersion")
