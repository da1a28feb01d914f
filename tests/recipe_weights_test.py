"""Recipes of weights and digits: the fast expected signature, Newton's method, and files of images."""

from __future__ import annotations

import gzip

import jax.numpy as jnp
import numpy as np
import pytest

import roughspike as rs
from roughspike.recipe.published import digits, digits_data, firing_rates
from roughspike.recipe.published.holberg2024_fig2_likelihood import _blocks, _derivatives, layer_of, newton
from roughspike.recipe.published.holberg2024_fig2_model import _expected_signature, _steps, signature_loss
from roughspike.recipe.reproduce_context import Context
from roughspike.recipe.reproduce_page import svg
from roughspike.recipe.reproduce_plan import load_recipe

pytestmark = pytest.mark.plain


def trains(samples, neurons, seed=0):
    rng = np.random.default_rng(seed)
    times = np.sort(rng.uniform(0, 1, (samples, neurons, 3)), axis=-1)
    return np.where(np.arange(3) < rng.integers(0, 4, (samples, neurons, 1)), times, np.inf)


def test_products_of_matrices_give_the_expected_signature():
    times = trains(4, 2)
    steps = jnp.stack([_steps(jnp.asarray(x), jnp.asarray(99), 1.0, 6) for x in times])
    expected = rs.expected_signature(rs.SpikeTrain(times), 3)
    np.testing.assert_allclose(_expected_signature(steps), expected, atol=1e-6)
    one, other = trains(1, 2, 1), trains(1, 2, 2)
    fewer = min(np.isfinite(x).sum() for x in (one, other))
    capped = []
    for x in (one, other):  # both keep as many spikes as the one with fewer
        last = np.sort(x.ravel())[fewer - 1]
        capped.append(rs.expected_signature(rs.SpikeTrain(np.where(x <= last, x, np.inf)), 3))
    found = signature_loss(jnp.asarray(one), jnp.asarray(other), 1.0, 6)
    np.testing.assert_allclose(found, np.mean((capped[0] - capped[1]) ** 2), rtol=1e-4)


def test_newton_ends_at_the_maximum():
    settings = load_recipe("holberg2024-fig2").settings
    settings = settings | {"likelihood": {"dt": 0.05, "rounds": 12, "block": 40}}
    layer = layer_of(settings, trains(80, 2, 3), trains(80, 2, 4))
    start = np.full((2, 2), 0.5)
    curve = newton(settings, layer, start, 80, shrink=False)
    slope, curvature = _derivatives(layer, _blocks(layer, 80, 40), curve.weights[-1])
    first, _ = _derivatives(layer, _blocks(layer, 80, 40), start)
    assert curve.megabytes > 0
    assert np.abs(slope).max() < 0.05 and np.abs(slope).max() < 1e-3 * np.abs(first).max()
    assert np.linalg.eigvalsh(curvature).min() > 0
    shrunk = newton(settings, layer, start, 80, shrink=True).weights[-1]
    assert np.ptp(shrunk) < np.ptp(curve.weights[-1])


def test_data_of_a_flagged_simulation_are_refused():
    settings = load_recipe("firing-rates").settings
    settings = settings | {
        "trials": 2,
        "grid": {"t1": 0.4, "dt": 0.2},
        "neuron": settings["neuron"] | {"mu": [5.0, 4.0]},
    }
    with pytest.raises(RuntimeError, match="simulation of the data failed: make dt smaller"):
        firing_rates._task(settings | {"teacher": 60.0}, 0)


def test_digits_from_spike_times_to_table_and_figure(tmp_path):
    """scikit-learn's digits, one epoch on a few of them."""
    pytest.importorskip("sklearn")
    settings = load_recipe("digits").settings
    common = {"sizes": [64, 12, 10], "batch": 25, "max_spikes": 4}
    few = {"train": 100, "validation": 25, "test": 25}
    settings = settings | {"data": settings["data"] | few, "common": settings["common"] | common}
    context = Context(tmp_path, [0], 1, "", shown=False)
    digits.run(settings, context)
    assert {row["variant"] for row in context.rows.values()} == {"exact", "surrogate"}
    assert all(0 <= row["test"] <= 100 and len(row["image"]) == 8 for row in context.rows.values())
    outcome = digits.show(settings, context.rows)
    assert [line["gradient"] for line in outcome.table] == ["exact", "surrogate"]
    drawn, row = outcome.figures["digits"].axes[0].lines[0], context.rows["exact-seed0"]
    np.testing.assert_allclose(drawn.get_ydata(), [point[4] for point in row["curve"]])
    assert svg(outcome.figures["digits"]).startswith("<?xml")


def idx(array):
    head = b"\0\0\x08" + bytes([array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return head + array.astype(np.uint8).tobytes()


def test_mnist_is_read_from_idx_and_npz_files(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", 6), ("test", 4)):
        arrays[f"x_{part}"] = rng.integers(0, 256, (count, 5, 5)).astype(np.uint8)
        arrays[f"y_{part}"] = rng.integers(0, 10, count).astype(np.uint8)
    names = dict(zip(("x_train", "y_train", "x_test", "y_test"), digits_data._IDX.values(), strict=True))
    for key, name in names.items():
        if key == "x_train":
            (tmp_path / f"{name}.gz").write_bytes(gzip.compress(idx(arrays[key])))
        else:
            (tmp_path / name).write_bytes(idx(arrays[key]))
    np.savez(tmp_path / "mnist.npz", **arrays)
    for found in (digits_data.read_mnist(tmp_path), digits_data.read_mnist(tmp_path / "mnist.npz")):
        for part in ("train", "test"):
            np.testing.assert_allclose(found[part].ink, arrays[f"x_{part}"].reshape(-1, 25) / 255, rtol=1e-6)
            np.testing.assert_array_equal(found[part].labels, arrays[f"y_{part}"])
    own = {"source": str(tmp_path), "train": 4, "validation": 2, "test": 3, "split": 0}
    split = digits_data.load_digits(own)
    assert [len(split[part].labels) for part in ("train", "validation", "test")] == [4, 2, 3]
    times = digits_data.spike_times(np.array([[1.0, 0.5, 0.0]]), 0.02)
    np.testing.assert_allclose(times[0, :, 0], [0.0, 0.01, np.inf])

    with pytest.raises(ValueError, match="6 training images, and the recipe wants 7: lower train"):
        digits_data.load_digits(own | {"validation": 3})
    with pytest.raises(ValueError, match="no file or folder .*nowhere: put the four IDX files"):
        digits_data.read_mnist(tmp_path / "nowhere")
    labels = tmp_path / names["y_test"]
    labels.write_bytes(labels.read_bytes()[:-1])
    with pytest.raises(ValueError, match="should hold .* and does not: it is cut short"):
        digits_data.read_mnist(tmp_path)
    labels.write_bytes(b"something else")
    with pytest.raises(ValueError, match="is no IDX file of bytes"):
        digits_data.read_mnist(tmp_path)
    labels.unlink()
    with pytest.raises(ValueError, match=r"has no file t10k-labels-idx1-ubyte or"):
        digits_data.read_mnist(tmp_path)
    np.savez(tmp_path / "mnist.npz", x_train=arrays["x_train"])
    with pytest.raises(ValueError, match="has no array x_test"):
        digits_data.read_mnist(tmp_path / "mnist.npz")
