"""SampledSignal checks what it is given."""

import equinox as eqx
import jax
import numpy as np
import pytest

from roughspike.currents.signal import SampledSignal


def test_fields_and_times():
    signal = SampledSignal([1, 2, 4], dt=0.25, start=3600.0)
    assert isinstance(signal.values, np.ndarray) and signal.values.dtype == np.float64
    assert (signal.dt, signal.start, signal.duration, signal.stop) == (0.25, 3600.0, 0.75, 3600.75)
    np.testing.assert_array_equal(signal.times, [3600.0, 3600.25, 3600.5])


def test_zscore():
    scored = SampledSignal(np.arange(10.0), dt=0.1, start=2.0).zscore()
    np.testing.assert_allclose([scored.values.mean(), scored.values.std()], [0.0, 1.0], atol=1e-15)
    assert (scored.dt, scored.start) == (0.1, 2.0)


def test_it_passes_through_jit():
    signal = SampledSignal([1.0, 2.0], dt=0.25)
    assert float(eqx.filter_jit(lambda s: s.values.sum())(signal)) == 3.0
    assert float(jax.jit(lambda v: SampledSignal(v, dt=0.5).values.sum())(np.ones(3))) == 3.0


@pytest.mark.parametrize(
    ("values", "dt", "message"),
    [
        ([1.0], 0.1, "at least 2 samples"),
        (np.ones((3, 2)), 0.1, r"1-d.*\(3, 2\)"),
        ([1.0, 2.0], 0.0, "dt must be greater than 0, got 0.*sampling interval in seconds"),
        ([1.0, 2.0], float("nan"), "dt must be greater than 0"),
        ([1.0, np.nan, 3.0], 0.1, "1 samples that are NaN or infinite, the first at index 1: fill the gaps"),
    ],
)
def test_bad_input(values, dt, message):
    with pytest.raises(ValueError, match=message):
        SampledSignal(values, dt=dt)


def test_start_must_be_finite():
    with pytest.raises(ValueError, match="start must be finite.*time of the first sample"):
        SampledSignal([1.0, 2.0], dt=0.1, start=float("inf"))


def test_constant_signal_has_no_zscore():
    with pytest.raises(ValueError, match="constant signal.*right column"):
        SampledSignal([2.0, 2.0], dt=0.1).zscore()
