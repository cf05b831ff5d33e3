"""JAX arrays on several devices: replicated ones lie whole on each, sharded ones are put together where that is no crossing."""

import json
import os
import subprocess
import sys
import textwrap

import pytest

pytest.importorskip("jax", reason="needs JAX")

PREPARE = """
import json
import interop, jax, numpy as np, torch
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
mesh = Mesh(np.array(jax.devices()).reshape(2, 2), ("i", "j"))
values = np.arange(16, dtype="float32").reshape(4, 4)
def put(*axes):
    return jax.device_put(values, NamedSharding(mesh, P(*axes)))
"""


def on_four_devices(code):
    """Return what a script says of JAX with four devices on the host."""
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", PREPARE + textwrap.dedent(code)], capture_output=True, text=True, timeout=120, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def test_a_replicated_array_is_shared_from_one_device():
    said = on_four_devices("""
        x = put()
        seen, result = interop.describe(x), interop.to_numpy(x, copy=False)
        print(json.dumps({
            "layout": seen.layout, "device": str(seen.device), "right": result.tolist() == values.tolist(), "writable": result.flags.writeable,
            "shared": interop.shares_memory(x, result), "torch": interop.to_torch(x).tolist() == values.tolist(),
            "itself": interop.to_jax(x) is x, "whole": x.is_fully_replicated and len(x.devices()) == 4,
            "cast": interop.to_numpy(x, dtype="int32").sum().item(),
        }))
    """)
    right = {"layout": "strided", "device": "cpu", "right": True, "writable": False, "shared": True, "torch": True}
    assert said == right | {"itself": True, "whole": True, "cast": 120}


@pytest.mark.parametrize("axes", ["'i'", "'i', 'j'", "None, 'j'", "('i', 'j')"])
def test_a_sharded_array_is_put_together_where_all_devices_are_the_host(axes):
    said = on_four_devices(f"""
        x = put({axes})
        try:
            interop.to_numpy(x)
        except interop.LayoutError as error:
            permissions = error.permissions
        try:
            interop.to_numpy(x, layout="dense", copy=False)
        except interop.CopyError as error:
            fresh = error.permissions
        results = [interop.to_numpy(x, **words) for words in (permissions, {{"policy": "coerce"}})] + [interop.to_torch(x, layout="dense").numpy()]
        print(json.dumps([permissions, fresh, [one.tolist() == values.tolist() for one in results], len(x.devices())]))
    """)
    assert said == [{"layout": "dense"}, {"copy": True}, [True, True, True], 4]
