"""JAX's memory and JAX's time: what is kept, what is finished when, and which of its modes and devices are meant."""

import gc
import mmap
import subprocess
import sys
import textwrap
import types
import warnings
import weakref

import array_api_strict
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import interop
from interop import Device, DeviceUnavailableError, convert, describe, explain, shares_memory
from interop.backends import load_backend
from interop.backends.jax import backend as jax_file
from interop.backends.jax import memory as _jax_memory
from interop.dlpack import VERSION, Capsule, producer_of
from tests.corpus import aligned
from tests.enumeration import values_of

CPU = Device("cpu")

BACKEND = load_backend("jax")


def donated(x):
    jax.jit(lambda y: y + 1, donate_argnums=0)(x).block_until_ready()


def run(code, **environment):
    """Run a program in a process of its own, where JAX is told something before it starts."""
    settings_ = "\n".join(f"import os; os.environ[{name!r}] = {value!r}" for name, value in environment.items())
    program = f"{settings_}\n{textwrap.dedent(code)}"
    return subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True).stdout


# Work that is not done yet.


def later(n=400, rounds=30):
    """Return a function of JAX that takes a while; called, it returns at once."""
    step = jax.jit(lambda x: jax.lax.fori_loop(0, rounds, lambda _, c: jnp.sin(c) @ c / n, x))
    start = jnp.ones((n, n))
    meant = np.asarray(step(start))
    return lambda: step(start), meant


def test_results_are_finished_before_they_are_handed_over():
    begin, meant = later()
    for target in ("numpy", "torch", "array_api_strict"):
        for words in ({}, {"copy": True}, {"dtype": "float64"}):
            assert np.array_equal(values_of(convert(begin(), target, **words)), meant)


def test_looking_does_not_wait():
    begin, _ = later(600, 60)
    pending = begin()
    assert describe(pending).shape == (600, 600)
    assert explain(pending, "torch").ok
    assert not pending.is_ready()
    pending.block_until_ready()
    assert pending.is_ready()  # the negative control


LATE = {
    "copy": (lambda x: x, {"copy": True}),
    "landing": (lambda x: x[1:], {}),
    "gaps": (lambda x: x[::2], {}),
    "cast": (lambda x: x, {"dtype": "float16"}),
    "cast by JAX": (torch.from_numpy, {"dtype": "float8_e3m4"}),
}


@pytest.mark.parametrize("how", LATE)
def test_what_is_written_to_the_source_afterwards_does_not_arrive_in_a_copy(how):
    view, words = LATE[how]
    begin, _ = later(300, 20)
    for size in (100, 1_000_000):
        source = aligned(size, values=1)
        x = view(source)
        pending = begin()
        result = convert(x, "jax", **words)
        source[:] = 2
        assert np.asarray(result).astype("float32").max() == 1
        pending.block_until_ready()


def test_nor_in_a_copy_within_jax():
    begin, _ = later(300, 20)
    for words in ({"copy": True}, {"dtype": "float16"}):
        source = aligned(1000, values=1)
        shared = convert(source, "jax", copy=False, readonly="share")
        pending = begin()
        result = convert(shared, "jax", **words)
        source[:] = 2
        assert np.asarray(result).max() == 1
        pending.block_until_ready()


def test_in_jax_itself_it_arrives():
    """The negative control: https://github.com/NVIDIA/DALI/issues/5617. Not at every try, so several."""
    begin, _ = later(300, 20)
    seen = set()
    for _ in range(10):
        source = aligned(1000, values=1)
        pending = begin()
        result = jnp.array(source, copy=True)
        source[:] = 2
        seen.add(float(np.asarray(result).max()))
        pending.block_until_ready()
    assert 2.0 in seen


# Memory.


def owner_of(array):
    """Return what owns the memory that an ndarray lies on."""
    while array.base is not None:
        array = array.base
    return array


@pytest.mark.parametrize("by_way_of", [lambda a: a, lambda a: convert(a, "torch"), lambda a: array_api_strict.asarray(a)[...]])
def test_jax_keeps_the_memory_that_it_is_given_and_lets_it_go(by_way_of):
    source = aligned(5000, values=7)
    gone = weakref.ref(owner_of(source))
    result = convert(by_way_of(source), "jax", copy=False, readonly="share")
    assert shares_memory(result, source)
    del source
    gc.collect()
    poison()
    assert gone() is not None
    assert result.tolist() == [7.0] * 5000
    del result
    gc.collect()
    jnp.zeros(3).block_until_ready()  # what was given to JAX is let go with its next work
    gc.collect()
    assert gone() is None


def poison():
    """Use the memory that was let go, and let it go again."""
    for _ in range(50):
        np.full(5000, -1.0, "float32"), jnp.full(5000, -1.0).block_until_ready(), torch.full((5000,), -1.0)


@pytest.mark.parametrize("end", ["collected", "deleted", "donated"])
@pytest.mark.parametrize("target", ["numpy", "torch", "array_api_strict"])
def test_a_view_keeps_jaxs_memory(target, end):
    x = jnp.full(5000, 7.0) + 0
    view = convert(x, target, copy=False, readonly="share")
    assert shares_memory(view, x)
    if end == "deleted":
        x.delete()
    elif end == "donated":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # JAX says that the donated buffer was not usable
            donated(x)
    del x
    gc.collect()
    poison()
    assert values_of(view).tolist() == [7.0] * 5000


def test_jax_does_not_write_to_what_it_was_given_not_even_when_it_is_donated():
    with mmap.mmap(-1, 4096, prot=mmap.PROT_READ) as pages:  # a write would end the process
        source = np.frombuffer(pages, "float32")
        result = convert(source, "jax", copy=False)
        assert shares_memory(result, source)
        assert jax.jit(lambda y: y.at[0].set(7), donate_argnums=0)(result)[0] == 7
        assert source[0] == 0
        del result, source
        gc.collect()


def test_read_only_stays_read_only():
    x = jnp.arange(4.0)
    assert describe(x).readonly
    view = convert(x, "numpy")
    assert not view.flags.writeable
    with pytest.raises(ValueError, match="WRITEABLE"):
        view.flags.writeable = True
    assert not convert(x, "array_api_strict")._array.flags.writeable
    assert not convert(view, "numpy").flags.writeable
    tensor = convert(x, "torch")
    tensor += 1
    assert x.tolist() == [0, 1, 2, 3]
    with pytest.raises(interop.ReadOnlyError):
        convert(x, "torch", copy=False)
    convert(x, "torch", readonly="share")[0] = 5  # permitted by name
    assert view[0] == 5


def test_gradients_are_not_left_behind_in_silence():
    tensor = torch.ones(64, requires_grad=True)
    with pytest.raises(interop.GradError) as caught:
        convert(tensor, "jax")
    assert caught.value.permissions == {"grad": "detach"}
    assert convert(tensor, "jax", grad="detach").tolist() == [1.0] * 64


def test_a_permuted_array_is_described_as_it_lies():
    x = aligned((2, 3, 4)).transpose(2, 0, 1)
    result = convert(x, "jax", copy=False, readonly="share")
    assert describe(result).strides == tuple(step // 4 for step in x.strides)
    assert not shares_memory(result, aligned((2, 3, 4)))
    assert convert(result, "torch", readonly="share").stride() == describe(result).strides
    assert np.array_equal(jax.jit(lambda y: jnp.einsum("ijk->kij", y))(result), np.einsum("ijk->kij", x))


# Device memory comes in the newest form of a capsule, and goes on in the one that every JAX takes. Seen on the host's memory.


def test_a_capsule_of_the_newest_form_is_taken_kept_and_let_go():
    tensor = torch.arange(64.0)
    meant = tensor.tolist()
    given = producer_of(tensor.__dlpack__(max_version=VERSION))
    assert Capsule(given.__dlpack__()).version is not None
    before = len(_jax_memory._kept)
    result = BACKEND.from_dlpack(given, CPU)
    assert result.unsafe_buffer_pointer() == tensor.data_ptr()
    del tensor, given
    gc.collect()
    poison()
    assert result.tolist() == meant
    assert len(_jax_memory._kept) == before + 1
    del result
    gc.collect()
    jnp.zeros(3).block_until_ready()
    gc.collect()
    assert len(_jax_memory._kept) == before


def test_what_jax_does_not_take_is_let_go():
    before = len(_jax_memory._kept)
    for refused in (False, True):
        tensor = torch.zeros(8, 8)[:, ::2]
        given = _jax_memory.legacy(producer_of(tensor.__dlpack__(max_version=VERSION)))
        assert len(_jax_memory._kept) == before + 1
        if refused:
            with pytest.raises(Exception, match="compact"):
                jax.dlpack.from_dlpack(given)
        del given
        gc.collect()
        assert len(_jax_memory._kept) == before


def test_a_legacy_capsule_is_handed_on_as_it_is():
    given = producer_of(torch.zeros(64).__dlpack__())
    assert _jax_memory.legacy(given) is given


def test_memory_that_jax_holds_at_the_end_of_the_program_does_no_harm():
    code = """
    import torch
    from interop.backends import Device, load_backend
    from interop.dlpack import VERSION, producer_of
    kept = load_backend("jax").from_dlpack(producer_of(torch.arange(64.0).__dlpack__(max_version=VERSION)), Device("cpu"))
    print(float(kept[1]))
    """
    assert run(code).strip() == "1.0"


def test_jax_cannot_be_told_to_work_on_a_stream(monkeypatch):
    fake = types.SimpleNamespace(get_stream_for_external_ready_events=lambda: 7)
    monkeypatch.setattr(jax_file, "_native", lambda device: fake)
    assert BACKEND.stream_pointer(None, Device("cuda")) == 7
    assert BACKEND.stream_pointer(-1, Device("cuda")) == -1
    assert BACKEND.stream_pointer(None, CPU) is None
    for stream in (1, 2, 12345):
        with pytest.raises(interop.StreamError, match="streams of its own") as caught:
            BACKEND.stream_pointer(stream, Device("cuda"))
        assert caught.value.hint == "Leave stream out."


# Modes of JAX that are about other work.


def test_a_transfer_guard_does_not_stop_a_conversion():
    x, a = jnp.arange(4.0), aligned(4)
    with jax.transfer_guard("disallow_explicit"):
        assert convert(x, "numpy").tolist() == convert(x, "torch").tolist() == [0, 1, 2, 3]
        for words in ({}, {"copy": True}, {"dtype": "int8"}):
            assert convert(a, "jax", **words).tolist() == [1, 2, 3, 4]
            assert convert(a[1:], "jax", **words).tolist() == [2, 3, 4]
        assert convert(np.zeros((0, 2), "float32"), "jax").shape == (0, 2)
        assert convert(x, "jax", copy=True).shape == (4,)
        with pytest.raises(Exception, match="Disallowed"):  # the negative control
            jax.device_put(a)


def test_nan_checks_do_not_stop_a_conversion():
    a = aligned(4, values=np.nan)
    with jax.debug_nans(True), jax.debug_infs(True):
        for words in ({}, {"copy": True}, {"dtype": "float16"}):
            assert np.isnan(np.asarray(convert(a, "jax", **words))).all()
            assert np.isnan(convert(convert(a, "jax"), "numpy", **words)).all()
        assert np.isnan(np.asarray(convert(convert(a, "torch"), "jax", dtype="float8_e5m2")).astype("float32")).all()
        with pytest.raises(FloatingPointError):  # the negative control
            jnp.array(a, copy=True) + 1


# Devices.


def test_other_devices_of_the_host_and_arrays_over_several():
    said = run(
        """
        import numpy as np, jax, jax.numpy as jnp, interop
        from jax.sharding import AxisType, NamedSharding, PartitionSpec
        from interop import convert, describe, explain, shares_memory

        first, second = jax.devices()
        mesh = jax.make_mesh((2,), ("x",), axis_types=(AxisType.Explicit,))
        x, a = jnp.arange(8.0), np.arange(8, dtype="float32")
        there = jax.device_put(x, second)
        for spec in (PartitionSpec("x"), PartitionSpec()):
            spread = jax.device_put(x, NamedSharding(mesh, spec))
            assert (describe(spread).layout == "sharded") == bool(spec) and str(describe(spread).device) == "cpu"
            for target in ("numpy", "torch", "array_api_strict"):
                assert explain(spread, target).permissions == ({"layout": "dense"} if spec else {})
                assert np.asarray(convert(spread, target, policy="coerce")).tolist() == x.tolist()
            assert convert(spread, "jax") is spread
            assert convert(spread, "jax", copy=True).sharding == spread.sharding
            assert convert(jax.device_put(spread, first), "numpy").tolist() == x.tolist()

        # An array on the second is the host's as well; what arrives is on the first.
        assert shares_memory(convert(there, "numpy"), there) and convert(there, "jax", device="cpu") is there
        assert convert(there, "jax", copy=True).devices() == {second}
        assert convert(a, like=there).devices() == {first}
        try:
            convert(a, "jax", device=second)
        except interop.DeviceUnavailableError as error:
            print(error.hint)

        # Modes that are about other work.
        with jax.default_device(second):
            assert jnp.array(x, copy=True).devices() == {second}  # the negative control
            for words in ({}, {"copy": True}, {"dtype": "int8"}):
                assert convert(a, "jax", **words).devices() == {first}
            assert convert(x, "jax", copy=True).devices() == {first}
        with jax.set_mesh(mesh):
            assert len(jnp.array(x, copy=True).devices()) == 2  # the negative control
            for words in ({}, {"copy": True}, {"dtype": "int8"}):
                assert convert(a, "jax", **words).devices() == {first}
                assert convert(x, "numpy", **words).tolist() == x.tolist()
            assert convert(x, "jax", copy=True).devices() == {first}
        print("done")
        """,
        XLA_FLAGS="--xla_force_host_platform_device_count=2",
    )
    assert said.splitlines() == [
        "Leave device out, and say it to JAX afterwards: jax.device_put(result, jax.devices('cpu')[1]).",
        "done",
    ]


class Faked:
    """A device of JAX's that is not here."""

    def __init__(self, platform, index, version="cuda 13000"):
        self.platform, self.local_hardware_id, self.id = platform, index, index
        self.client = types.SimpleNamespace(platform_version=version)


def test_devices_are_told_by_their_number_on_this_machine(monkeypatch):
    assert jax_file._device(Faked("gpu", 1)) == Device("cuda", 1)
    assert jax_file._device(Faked("gpu", 0, "rocm 60300")) == Device("rocm", 0)
    assert jax_file._device(Faked("tpu", 2, "libtpu")) == Device("ext", 2)
    # A process that sees the second GPU only.
    monkeypatch.setattr(jax, "local_devices", lambda backend=None: [Faked("gpu", 1)])
    assert BACKEND.native_device(Device("cuda", 1)).local_hardware_id == 1
    with pytest.raises(DeviceUnavailableError, match="JAX has cuda:1 here"):
        BACKEND.native_device(Device("cuda", 0))


@pytest.mark.parametrize(("kind", "layout"), [("device", "strided"), ("pinned_host", "pinned_host"), ("unpinned_host", "unpinned_host")])
def test_an_array_of_a_gpu_that_lies_in_host_memory_is_no_array_of_the_gpu(kind, layout):
    sharding = types.SimpleNamespace(device_set={Faked("gpu", 0)}, memory_kind=kind)
    x = types.SimpleNamespace(sharding=sharding, is_fully_addressable=True)
    assert jax_file._layout(x) == layout
    on_host = jax.device_put(jnp.ones(3), jax.sharding.SingleDeviceSharding(jax.devices("cpu")[0], memory_kind=kind))
    assert describe(on_host).layout == "strided"  # the host's memory is all of one kind
    assert convert(on_host, "numpy").tolist() == [1, 1, 1]


def test_importing_the_backend_starts_no_client():
    code = "import interop.backends.jax.backend; from jax._src import xla_bridge; print(xla_bridge.backends_are_initialized())"
    assert run(code).strip() == "False"


# What can be written is not shared with what takes it to be constant.


def ways():
    """Writable memory of every kind, at a multiple of 64 and beside one: the array, and what writes to it."""
    for offset in (0, 4):
        raw = np.zeros(64 * 4 + 128, "uint8")
        start = -raw.ctypes.data % 64 + offset
        a = raw[start : start + 256].view("float32")
        view = a.view()
        view.flags.writeable = False
        tracked = torch.from_numpy(a).requires_grad_()
        yield from ((x, a) for x in (a, view, np.broadcast_to(a, (1, 64)), torch.from_numpy(a), array_api_strict.asarray(a)))
        yield convert(tracked, "numpy", grad="detach"), a  # read-only, and the optimizer writes to it


@pytest.mark.parametrize("verb", [lambda x, **words: convert(x, "jax", **words), interop.to_jax])
def test_a_later_write_does_not_show_in_an_array_of_jax(verb):
    for x, memory in ways():
        result = verb(x)
        assert explain(x, "jax").bytes_copied == 256
        memory[:] = 1
        assert np.asarray(result).max() == 0
        memory[:] = 0
        with pytest.raises(interop.ReadOnlyError, match="JAX arrays are immutable") as caught:
            verb(x, readonly="error")
        assert caught.value.permissions == {"copy": True}
        with pytest.raises(interop.ReadOnlyError, match="so it needs a copy, and copy=False") as caught:
            verb(x, copy=False)
        assert caught.value.permissions == {"copy": True}
        with pytest.raises(interop.ReadOnlyError) as caught:
            verb(x, policy="strict")
        assert caught.value.permissions == {"copy": True}
        assert not shares_memory(verb(x, policy="strict", **caught.value.permissions), x)


def test_it_is_shared_by_name_and_under_a_guard_offered():
    """The control: a write shows where sharing was asked for."""
    x = aligned(64)
    x[:] = 0
    with interop.guard(copies="error"):
        with pytest.raises(interop.ReadOnlyError, match="must not be written to afterwards") as caught:
            convert(x, "jax")
        assert caught.value.permissions == {"readonly": "share"}
        result = convert(x, "jax", **caught.value.permissions)
    x[:] = 1
    assert np.asarray(result).max() == 1


def test_constant_memory_is_shared_with_jax():
    """Nobody can write to it: memory of JAX's own that went through NumPy, bytes, a read-only array without a writable base."""
    x = aligned(64)
    x.flags.writeable = False
    assert explain(x, "jax").shares_memory  # nobody else refers to what it is a view of
    assert explain(convert(jnp.arange(64.0), "numpy"), "jax").shares_memory
    assert not describe(np.frombuffer(bytes(64), "float32")).writable_base
    base, again = x.base, None
    assert describe(x).writable_base
    del base
    assert not describe(x).writable_base
    again = x[1:]
    assert describe(x).writable_base  # by its base, through which the other view can be made writable
    del again
