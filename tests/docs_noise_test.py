"""The page on noise says what its JSON file says, and the JSON file what the library does."""

import importlib.util
import json
import sys

import jax
import numpy as np
import pytest


@pytest.fixture(scope="module")
def docs(root):
    """Name of a script in docs -> its module."""
    pytest.importorskip("matplotlib")
    sys.path.insert(0, str(root / "docs"))

    def load(name):
        spec = importlib.util.spec_from_file_location(name, root / "docs" / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    yield load
    sys.path.remove(str(root / "docs"))


@pytest.fixture(scope="module")
def result(root):
    return json.loads((root / "docs" / "noise.json").read_text())


def test_tables_are_those_of_the_runs(docs, root, result):
    pictures = docs("noise_pictures")
    page = (root / "docs" / "noise.md").read_text(encoding="utf-8")
    assert pictures.with_tables(page, result) == page, "run python docs/noise_pictures.py"
    assert set(pictures.tables(result)) == {m[2] for m in pictures.SLOT.finditer(page)}


def test_claims_of_the_page(result):
    """What the prose says of the numbers, so that a new run that says otherwise is seen."""
    for row in result["by_sigma"] + result["by_beta"]:  # on common paths: the mean derivative is that of the mean
        error = np.hypot(row["sem"], row["difference_sem"])
        assert np.all(np.abs(np.subtract(row["mean"], row["difference"])) < 3 * error), row
    spread = [row["sd"][2] for row in result["by_sigma"]]
    assert spread == sorted(spread)
    ratio = [row["sd"][2] / -row["mean"][2] for row in result["by_beta"]]
    assert 0 < np.argmin(ratio) < len(ratio) - 1
    gap = [abs(row["mean"][2] - result["lif"]["slope"][2]) for row in result["limit"]]
    assert gap == sorted(gap, reverse=True) and gap[-1] < 0.01
    hard = result["hard"]
    assert hard[-1]["pathwise"] > 0.5 * hard[0]["pathwise"]  # both negative: it vanishes
    assert abs(hard[-1]["difference"] / hard[0]["difference"] - 1) < 0.1
    free = result["surrogate"][0]
    assert free["reset"] == 0 and abs(free["kinds"]["escape"]["length"] - 1) < 0.05


def test_deterministic_limit(docs, result):
    """A row of the table again, from the library: sigma = 0, beta = 80."""
    runs = docs("noise_runs")
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        row = runs.spike_slopes(0.0, 80.0, 50)
    wanted = next(r for r in result["limit"] if r["beta"] == 80)
    np.testing.assert_allclose(row["mean"], wanted["mean"], atol=5 * max(row["sem"]))
    np.testing.assert_allclose(row["mean"], row["difference"], atol=5e-4)
