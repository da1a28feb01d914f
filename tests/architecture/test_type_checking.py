"""The tests check shapes and types at run time: this checks that they do."""

from __future__ import annotations

import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

import roughspike as rs
from roughspike.paths.recurrence import linear_recurrence


def test_a_wrong_shape_is_caught():
    with pytest.raises(jaxtyping.TypeCheckError):
        linear_recurrence(jnp.ones((2, 5)), jnp.ones((2, 6)), jnp.ones(2))


def test_a_wrong_type_is_caught():
    with pytest.raises(jaxtyping.TypeCheckError):
        rs.Windows.tile(0.0, 1.0, "four")  # pyright: ignore


def test_an_integer_may_stand_for_a_float():
    assert rs.Windows.tile(0, 1, 2).duration == 1.0
    assert rs.SpikeTrain(np.array([[0.5]]), 0, 1).t1 == 1.0
