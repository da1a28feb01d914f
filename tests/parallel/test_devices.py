"""The same results on four devices as on one, in one program that sees four processors as devices."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import roughspike as rs

WORKER = Path(__file__).with_name("worker.py")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    out = tmp_path_factory.mktemp("devices") / "found.npz"
    ended = subprocess.run([sys.executable, WORKER, "devices", out], capture_output=True, text=True, timeout=900)
    assert ended.returncode == 0, ended.stderr[-3000:]
    return dict(np.load(out))


@pytest.mark.slow
def test_a_simulation_is_the_same_bit_for_bit(found):
    assert np.isfinite(found["one:times"]).sum() > 50
    for name in ("times", "threshold", "flags", "batch"):
        np.testing.assert_array_equal(found[f"four:{name}"], found[f"one:{name}"])


@pytest.mark.slow
def test_a_gradient_is_that_of_one_device(found):
    # a sum over devices that is taken once too often makes it four times too large
    for name in [n for n in found if n.startswith("one:batch gradient") or n in ("one:gradient", "one:mmd times")]:
        assert np.abs(found[name]).max() > 1e-6 or found[name].size < 3
        scale = np.abs(found[name]).max()
        np.testing.assert_allclose(found[name.replace("one", "four")], found[name], rtol=2e-5, atol=2e-6 * scale)


@pytest.mark.slow
def test_a_fit_is_the_same_up_to_rounding(found):
    for name in ("loss", "current", "windows"):
        np.testing.assert_allclose(found[f"four:{name}"], found[f"one:{name}"], rtol=2e-6)


@pytest.mark.slow
def test_pairs_of_samples_meet_across_devices(found):
    for name in ("mmd", "mmd times", "mmd horizon"):
        scale = np.abs(found[f"one:{name}"]).max()
        assert scale > 1e-4
        np.testing.assert_allclose(found[f"four:{name}"], found[f"one:{name}"], rtol=1e-4, atol=1e-5 * scale)


CELL = rs.Population(rs.SLIF(mu=(15.0, 0.0), v_reset=1.4), 1.5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mesh": 4}, "mesh must be a jax.sharding.Mesh, got int: pass mesh=rs.parallel.mesh"),
        ({"mesh": "one"}, "mesh shares out samples, and there is one: pass num_samples"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_bad_meshes(options, message):
    import jax.random as jr

    from roughspike.networks.simulate import simulate

    mesh = rs.parallel.mesh(1) if options["mesh"] == "one" else options["mesh"]
    plain = getattr(simulate, "__wrapped__", simulate)
    with pytest.raises(ValueError, match=message):
        plain(CELL, t1=1.0, dt=0.1, key=jr.key(0), mesh=mesh)


def test_shares_that_do_not_come_out_even():
    class Four:
        size = 4

    with pytest.raises(ValueError, match="mesh has 4 devices and num_samples is 6, not a multiple of it: change it"):
        rs.parallel.check_shares(Four(), 6, "num_samples", "change it")
    with pytest.raises(ValueError, match="num_devices must lie between 1 and .*xla_force_host_platform_device_count"):
        rs.parallel.mesh(1000)
