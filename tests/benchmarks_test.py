"""The yardsticks of the benchmarks measure what they claim to."""

import sys

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import roughspike as rs

pytestmark = pytest.mark.plain


@pytest.fixture(scope="module")
def benchmarks(root):
    """The folder on the path, for as long as this module runs."""
    pytest.importorskip(
        "diffrax", reason="the published algorithm is written on diffrax: pip install roughspike[bench]"
    )
    sys.path.insert(0, str(root / "benchmarks"))
    import lean
    import measure
    import published

    yield lean, measure, published
    sys.path.remove(str(root / "benchmarks"))
    for name in ("lean", "measure", "published"):
        del sys.modules[name]


def test_closed_form_signature_equals_ours(benchmarks):
    _, _, published = benchmarks
    times = jnp.array([[0.2, 0.9, 1.1], [0.4, 5.0, 5.0], [5.0, 5.0, 5.0]])
    closed = jax.vmap(lambda x: published.signature_depth_3(x, 5.0))(times)
    train = rs.SpikeTrain(jnp.where(times < 5.0, times, jnp.inf)[:, None], 0.0, 5.0)
    ours = rs.signature(rs.marcus_lift(train), 3)
    np.testing.assert_allclose(closed, ours, rtol=1e-5, atol=1e-5)


def test_lean_scan_has_eulers_bias_and_no_other(benchmarks):
    lean, _, published = benchmarks
    setting = published.Setting()
    times = jax.jit(lambda key: lean.spike_times(jnp.float32(1.5), lean.draw(key, setting, 8192), setting))(jr.key(0))
    # 8192 samples: standard errors 0.8e-3, 1.1e-3, 1.4e-3; exact .2306 .4589 .6909, Euler's bias -.0052 -.0106 -.0161;
    # a reset that waits for the end of its step adds half a step to each later time
    np.testing.assert_allclose(jnp.mean(times, axis=1), [0.2254, 0.4533, 0.6848], atol=4e-3)


@pytest.mark.slow
def test_published_algorithm_agrees_with_the_lean_scan_in_law(benchmarks):
    _, _, published = benchmarks
    setting = published.Setting(max_spikes=2)
    times = published.forward(setting, 2048)(jnp.float32(1.5), jr.key(1))
    np.testing.assert_allclose(jnp.mean(times, axis=0), [0.2254, 0.4483], atol=9e-3)  # standard errors 1.7e-3, 2.2e-3


@pytest.mark.slow
def test_published_gradient_is_finite_without_spikes(benchmarks):
    _, _, published = benchmarks
    setting = published.Setting(t1=1.0)
    recorded = jnp.full((4, 3), 0.5)
    loss, slope = published.first_spikes_gradient(setting, 4)(jnp.float32(0.2), jr.key(0), recorded)
    assert np.isfinite(loss) and np.isfinite(slope)


def test_machine_facts_name_no_machine(benchmarks):
    import platform

    _, measure, _ = benchmarks
    facts = measure.machine()
    assert facts["cores"] >= 1 and facts["jax"] and platform.node() not in facts.values()


def test_the_page_shows_the_results_on_disk(benchmarks, root):
    import page

    assert (root / "docs" / "how-fast.md").read_text() == page.page(), "run: python benchmarks/page.py"
