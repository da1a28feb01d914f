"""The same results on four devices as on one, in one program that sees four processors as devices."""

from __future__ import annotations

import subprocess
import sys

import jax.random as jr
import numpy as np
import pytest
from two_processes import WORKER, both

import roughspike as rs


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
    assert np.abs(found["one:gradient"]).min() > 1e-3
    np.testing.assert_allclose(found["four:gradient"], found["one:gradient"], rtol=2e-5)


@pytest.mark.slow
def test_a_fit_is_the_same_up_to_rounding(found):
    for name in ("loss", "current", "windows"):
        np.testing.assert_allclose(found[f"four:{name}"], found[f"one:{name}"], rtol=2e-6, atol=1e-7)
    assert str(found["message"]).startswith("mesh has 4 devices and num_samples is 6, not a multiple of it: change it")


@pytest.mark.slow
def test_two_processes_give_what_one_gives(found, tmp_path):
    codes, said, _ = both("simulate", tmp_path / "two.npz")
    assert codes == [0, 0], said
    two = np.load(tmp_path / "two.npz")
    for name in ("times", "threshold", "flags"):
        np.testing.assert_array_equal(two[name], found[f"one:{name}"])
    for name in ("loss", "gradient", "current"):
        np.testing.assert_allclose(two[name], found[f"one:{name}"], rtol=2e-5, atol=1e-7)


@pytest.mark.slow
def test_pairs_of_samples_meet_across_devices(found):
    for name in ("mmd", "mmd times", "mmd horizon"):
        scale = np.abs(found[f"one:{name}"]).max()
        assert scale > 1e-4
        np.testing.assert_allclose(found[f"four:{name}"], found[f"one:{name}"], rtol=1e-4, atol=1e-5 * scale)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["particles", "bound", "ordered", "delayed"])
def test_objectives_and_recurrent_networks(found, what):
    assert np.abs(found[f"one:{what}:gradient"]).max() > 1e-3
    scale = np.abs(found[f"one:{what}:gradient"]).max()
    np.testing.assert_allclose(found[f"four:{what}:value"], found[f"one:{what}:value"], rtol=2e-5)
    np.testing.assert_allclose(
        found[f"four:{what}:gradient"], found[f"one:{what}:gradient"], rtol=1e-4, atol=2e-5 * scale
    )
    if f"one:{what}:times" in found:  # the engine of networks without delays rounds by the number of samples it runs
        times, rtol = found[f"one:{what}:times"], 1e-5 if what == "ordered" else 0.0
        assert np.isfinite(times).any()
        np.testing.assert_allclose(found[f"four:{what}:times"], times, rtol=rtol)
        np.testing.assert_array_equal(found[f"four:{what}:flags"], found[f"one:{what}:flags"])


def test_bad_meshes():
    cell = rs.Population(rs.SLIF(mu=(15.0, 0.0), v_reset=1.4), 1.5)
    with pytest.raises(ValueError, match="mesh shares out samples, and there is one: pass num_samples"):
        rs.simulate(cell, t1=1.0, dt=0.1, key=jr.key(0), mesh=rs.parallel.mesh(1))
    with pytest.raises(ValueError, match="mesh must be a jax.sharding.Mesh, got int: pass mesh=rs.parallel.mesh"):
        rs.parallel.checked(4)


def test_a_number_of_devices_that_there_is_not():
    with pytest.raises(ValueError, match="num_devices must lie between 1 and .*xla_force_host_platform_device_count"):
        rs.parallel.mesh(1000)
