"""Selecting leaves: by any selector, with their declared constraints, and with errors that say what to do."""

from __future__ import annotations

import fit_toys
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from roughspike.fit.trainable import Trainable, parameters


def test_names_units_and_places_of_nested_leaves():
    cell = fit_toys.toy(fit_toys.parts())
    chosen = Trainable.select(cell, lambda m: [m.current.parts[1].tau, (m.mu, m.current.parts[0].gain)])
    assert chosen.names == ("mu", "current.parts[0].gain", "current.parts[1].tau")
    assert chosen.units == ("1/time", "", "time")
    assert [p.name for p in parameters(cell)][-1] == "current.parts[1].signal"


def test_free_coordinates_and_back():
    cell = fit_toys.toy(fit_toys.parts())
    chosen = Trainable.select(cell, lambda m: (m.mu, m.current.parts[1].tau))
    free = chosen.to_free(cell)
    np.testing.assert_allclose(free["current.parts[1].tau"], np.log(0.25))
    again = chosen.to_model({k: v + 1.0 for k, v in free.items()}, cell)
    np.testing.assert_allclose(again.mu, [2.0 * np.e, 0.0])  # the structural zero stays
    np.testing.assert_allclose(again.current.parts[1].tau, 0.25 * np.e)
    assert again.current.parts[0].gain is cell.current.parts[0].gain
    assert again.current.parts[1].signal is cell.current.parts[1].signal


def test_to_model_is_differentiable_and_legal():
    cell = fit_toys.toy(fit_toys.parts())
    chosen = Trainable.select(cell, lambda m: m.current.parts[0].tau)
    slope = jax.grad(lambda free: chosen.to_model(free, cell).current.parts[0].tau)(chosen.to_free(cell))
    np.testing.assert_allclose(slope["current.parts[0].tau"], 0.5)  # d exp(x) / dx at log 0.5
    low = chosen.to_model({"current.parts[0].tau": jnp.array(-20.0)}, cell)
    assert low.current.parts[0].tau > 0


def test_a_submodule_gives_its_declared_leaves_and_no_others():
    cell = fit_toys.toy(fit_toys.parts())
    names = tuple(f"current.parts[{k}].{x}" for k in (0, 1) for x in ("gain", "tau"))
    assert Trainable.select(cell, lambda m: m.current).names == names
    assert Trainable.select(cell).names == ("mu", *names)  # sigma = 0 is switched off, signals are no parameters


def test_an_array_without_a_constraint_is_any_real_number():
    cell = fit_toys.toy(jnp.array([-1.0, 0.0]))
    chosen = Trainable.select(cell, lambda m: m.current)
    assert chosen.names == ("current",)
    np.testing.assert_array_equal(chosen.to_free(cell)["current"], [-1.0, 0.0])


def test_selecting_twice_is_selecting_once():
    assert Trainable.select(fit_toys.toy(), lambda m: (m.mu, m.current, [m.mu], m)).names == ("mu", "current")


def test_equal_values_are_different_leaves():
    same = jnp.array(0.3)
    pair = fit_toys.Parts((fit_toys.Gain(same, same, np.ones(1)), fit_toys.Gain(same, same, np.ones(1))))
    assert Trainable.select(pair, lambda m: m.parts[1].gain).names == ("parts[1].gain",)


@pytest.mark.plain
def test_a_python_number_becomes_strongly_typed():
    model = fit_toys.Gain(1.0, 2.0, np.ones(1))
    free = Trainable.select(model).to_free(model)
    assert not any(x.weak_type for x in free.values())


@pytest.mark.parametrize(
    ("selector", "message"),
    [
        (lambda m: (), r"selects nothing.*return leaves or submodules"),
        (lambda m: m.rest, r"None in this model: give it a value first"),
        (lambda m: 2 * m.current, r"selector failed with TypeError.*transform nothing"),
        (lambda m: m.mu[0], r"selector failed with TypeError.*transform nothing"),
        (lambda m: m.curent, r"selector failed with AttributeError: .*curent.*return leaves"),
        (lambda m: m.count, r"3 is not a leaf of the model: return leaves"),
        (lambda m: fit_toys.toy().mu, r"is not a leaf of the model: return leaves"),
        (lambda m: m.sigma, r"sigma is 0 in every entry.*start from a small nonzero value.*leave it out"),
    ],
)
def test_bad_selectors(selector, message):
    with pytest.raises(ValueError, match=message):
        Trainable.select(fit_toys.toy(), selector)


def test_start_values_that_cannot_be_trained():
    gain = fit_toys.Gain(1.0, -0.5, np.ones(1))
    with pytest.raises(ValueError, match=r"current.parts\[0\].tau must start above 0.*small positive.*leave it out"):
        Trainable.select(fit_toys.toy(fit_toys.Parts((gain,))))
    with pytest.raises(ValueError, match="current starts at nan, which is not finite: give it a finite start"):
        Trainable.select(fit_toys.toy(jnp.array(jnp.nan)), lambda m: m.current)


def test_integer_leaves_are_refused():
    cell = fit_toys.toy(jnp.array(3))
    with pytest.raises(ValueError, match="is not a floating-point leaf"):
        Trainable.select(cell, lambda m: m.current)
