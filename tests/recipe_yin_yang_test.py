"""The Yin-Yang recipes: a tiny run of each from settings to figures, and the gradients that they compare."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from roughspike.recipe.published import surrogate, yin_yang, yin_yang_nets, yin_yang_noise, yin_yang_train
from roughspike.recipe.reproduce_context import Context
from roughspike.recipe.reproduce_plan import load_recipe

pytestmark = pytest.mark.plain

TINY = {"batch": 20, "epochs": 1, "max_spikes": 4, "t1": 48e-3, "dt": 3e-3, "slots": 1}


@pytest.fixture
def few(monkeypatch):
    """40 samples in place of the published split."""

    def load(settings):
        data = yin_yang_nets.Data(*yin_yang_nets.encode(settings, *yin_yang_nets.rs.yin_yang(40, 42)))
        return dict.fromkeys(("train", "validation", "test"), data)

    monkeypatch.setattr(yin_yang_train, "load", load)
    monkeypatch.setattr(yin_yang_train, "_MAP", 9)


def tiny(name, **common):
    settings = load_recipe(name).settings
    return settings | {"common": settings["common"] | TINY | common}


@pytest.mark.slow
def test_a_tiny_run_of_the_deterministic_recipe(few, tmp_path):
    settings = tiny("yin-yang")
    first = settings["variants"]["first"] | {"sizes": [5, 6, 3], "epochs": 3, "starts": 2, "halve": [1]}
    settings["variants"] = {"first": first}
    yin_yang.run(settings, Context(tmp_path, [0, 1], shown=False))
    rows = Context(tmp_path, [0, 1]).rows
    row = rows["first-seed0"]
    assert row["epochs"] == 3 and [point[0] for point in row["curve"]] == [2, 3]
    assert 0 <= row["test"] <= 100 and row["cpu_seconds"] > 0 and row["spikes"] > 0
    assert row["curve"][1][2] != row["curve"][0][2]  # the loss moves
    assert {len(line) for line in row["map"]} == {9} and row["map"][0][0] == "." and row["map"][4][4] != "."
    assert rows["first-seed1"]["curve"][0][2] != row["curve"][0][2] and "map" not in rows["first-seed1"]
    outcome = yin_yang.show(settings, rows)
    assert outcome.table[0]["seeds"] == 2 and outcome.verdicts[0].met is False
    assert set(outcome.figures) == {"learning", "classes", "raster"}


def test_the_better_half_of_the_first_weights_goes_on(few):
    settings = tiny("yin-yang")["common"] | {"starts": 5, "halve": [2, 3, 9]}
    trainer, run = yin_yang_train.Trainer(settings, epochs=4), []
    trainer._first = lambda seed, start=0: (start, None)
    trainer._next = lambda state, seed, n: (run.append((n, state[0])) or state, 0.0, 0.0)
    trainer._share = lambda start, part, n: [1.0, 5.0, 3.0, 9.0, 2.0][start]
    (start, _), epochs, _ = trainer._chosen(0)
    assert start == 3 and epochs == 3
    assert run == [(0, k) for k in range(5)] + [(1, k) for k in range(5)] + [(2, 3), (2, 1)]


@pytest.mark.slow
def test_a_tiny_run_of_the_noisy_recipe(few, tmp_path):
    settings = tiny("yin-yang-noise", sizes=[5, 6, 3], dt=6e-3)
    settings |= {"levels": {"escape": settings["levels"]["escape"]}, "judge_dt": 3e-3}
    settings["methods"] = {"surrogate": settings["methods"]["surrogate"] | {"epochs": [1]}}
    yin_yang_noise.run(settings, Context(tmp_path, [0], shown=False))
    rows = Context(tmp_path, [0]).rows
    assert set(rows) == {"surrogate-without-epochs1-seed0"}
    row = rows["surrogate-without-epochs1-seed0"]
    assert 0 <= row["under"]["escape"] <= 100 and 0 <= row["judged"]["escape"] <= 100
    outcome = yin_yang_noise.show(settings | {"expected": []}, rows)
    assert [line["trained"] for line in outcome.table] == ["surrogate, without noise"]


def test_forced_spikes_have_the_derivative_of_the_surrogate_network():
    c = surrogate.constants(20e-3, 5e-3, 1e-3)
    current = jr.normal(jr.key(0), (30, 4, 2)) + 1.0
    spikes, v = surrogate._scan(c, current)
    on = jr.normal(jr.key(1), spikes.shape)
    found = jax.grad(lambda x: jnp.sum(on * surrogate.forced(c, x, spikes, v)))(current)
    known = jax.grad(lambda x: jnp.sum(on * surrogate._scan(c, x)[0]))(current)  # by JAX, through the scan
    assert spikes.sum() > 10 and np.allclose(found, known, rtol=1e-4, atol=1e-6)


def test_a_silent_network_has_a_gradient_only_if_it_is_kept_alive():
    settings = tiny("yin-yang", sizes=[5, 6, 3], dt=6e-3)["common"] | {"alive": 0.5}
    data = yin_yang_nets.Data(*yin_yang_nets.encode(settings, *yin_yang_nets.rs.yin_yang(10, 42)))
    weights = jax.tree.map(lambda x: 0.01 * x, yin_yang_nets.first_weights(settings, 0))

    def loss(weights, much):
        return yin_yang_nets.loss(settings | {"alive_weight": much}, weights, data)[0]

    slope = jax.jit(jax.grad(loss))
    assert np.all(np.asarray(slope(weights, 0.0)["hidden"]) == 0)
    assert np.all(np.asarray(slope(weights, 1.0)["hidden"]).sum(axis=0) < 0)  # up with what arrives


def test_shipped_settings_are_complete():
    for name in ("yin-yang", "yin-yang-delays"):
        settings = load_recipe(name).settings
        for variant in settings["variants"].values():
            merged = settings["common"] | variant
            weights = yin_yang_nets.first_weights(merged, 0)
            assert weights["hidden"].shape == (merged["sizes"][0], merged["sizes"][1])
            delays = yin_yang_nets.delays_of(weights)
            assert all(np.all(np.asarray(d) > 0) for d in delays if d is not None)
            assert (delays[0] is not None) == (merged["delays"] != "none") and variant["label"]
