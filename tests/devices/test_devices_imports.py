import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
from fifteen_data_devices import prefetching_map, sharding_map


def test_jax_is_imported_only_when_a_call_needs_it() -> None:
    program = """
import sys
from fifteen_data_devices import padding_map, prefetching_map

assert list(prefetching_map(range(8))) == list(range(8))
assert len(padding_map([1])) == 1
assert not {"jax", "fifteen_data_loaders"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, timeout=60)


def test_loading_waiting_and_transfer_have_names_in_a_profile(tmp_path: Path) -> None:
    with jax.profiler.trace(tmp_path):
        list(prefetching_map([np.ones(3)], jax.devices()[0]))
        list(sharding_map([np.ones(4)], jax.devices()[:4]))
    (profile,) = tmp_path.rglob("*.xplane.pb")
    content = profile.read_bytes()
    assert all(f"fifteen: {what}".encode() in content for what in ("load", "wait for data"))
    assert b"fifteen: transfer" in content
