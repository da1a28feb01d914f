"""The check of the assumptions: which systems fail which one, where, with which number; and which pass."""

import jax
import jax.numpy as jnp
import jax.random as jr
import lineax
import numpy as np
import pytest

import roughspike as rs
from roughspike.sde.check import DOES_NOT_COMMUTE, NO_SLOPE, NOISE_MOVES_EVENT, measure_events, report_on

BROWNIAN = rs.BrownianPath(1)


def threshold(noise, transition=lambda t, y, kind, u, args: y - 1.0, event=lambda t, y, args: y - 1.0):
    return rs.EventSDE(lambda t, y, args: 2.0 - y, noise, event, transition)


def ball(noise):
    """Height and velocity; the floor returns 0.8 of the velocity."""
    return rs.EventSDE(
        drift=lambda t, y, args: jnp.stack([y[1], jnp.full_like(y[1], -9.81)]),
        diffusion=noise,
        event=lambda t, y, args: -y[:1],
        transition=lambda t, y, kind, u, args: jnp.stack([jnp.zeros_like(y[0]), -0.8 * y[1]]),
    )


def check(sde, y0, driver=BROWNIAN, **options):
    options = {"t1": 2.0, "num_steps": 200, "max_events": 16} | options
    return rs.check_assumptions(sde, y0=jnp.asarray(y0), driver=driver, key=jr.key(1), **options)


def test_a_hard_threshold_with_diffusion_fails_and_a_hazard_is_the_remedy():
    report = check(threshold(lambda t, y, args: 0.3 * jnp.ones((1, 1))), [0.0])
    (row,) = report.kinds
    assert not report.ok and row.num_events > 0
    np.testing.assert_allclose(row.noise, 0.3, rtol=1e-12)
    (line,) = report.messages()
    assert "event kind 0" in line and "assumption 3.4: the noise moves the event function" in line
    assert "0.3" in line and "rs.hazard" in line and "t=" in line
    with pytest.raises(ValueError, match="the gradient asked for does not exist: event kind 0.*3.4"):
        report.raise_if_failed()


def test_without_noise_the_threshold_passes():
    report = check(threshold(None), [0.0], driver=None)
    assert report.ok and report.kinds[0].noise == 0
    np.testing.assert_allclose(report.kinds[0].slope, 1.0, rtol=1e-6)  # 2 - y at y = 1
    report.raise_if_failed()


def test_a_bouncing_ball_with_a_noisy_velocity():
    additive = check(ball(lambda t, y, args: jnp.array([[0.0], [0.25]])), [1.0, 0.0])
    assert [line for line in additive.messages() if "3.5" in line] == additive.messages() != []
    np.testing.assert_allclose(additive.kinds[0].commutator, 0.25 * 1.8, rtol=1e-9)  # -e sigma against sigma
    assert additive.kinds[0].noise == 0 and additive.kinds[0].slope > 0
    # noise that scales with the velocity as the impact does, and no noise: both commute
    assert check(ball(lambda t, y, args: jnp.stack([0.0 * y[1:], 0.25 * y[1:]])), [1.0, 0.0]).ok
    assert check(ball(None), [1.0, 0.0], driver=None).ok


def spiking_network():
    """Two SLIF neurons, state (v, i, s); kinds: neurons. s carries no noise, T shifts v and i."""

    def drift(t, y, args):
        v, i, s = y
        return 8.0 * (i + 1.3 - v), -4.0 * i, jnp.exp(5.0 * (v - 1.0)) + 0.0 * s

    def diffusion(t, y, args):
        v, i, s = (jnp.zeros((2, 4)) for _ in y)
        return v.at[:, :2].set(0.3 * jnp.eye(2)), i.at[:, 2:].set(0.1 * jnp.eye(2)), s

    def transition(t, y, kind, u, args):
        (v, i, s), fired = y, jnp.arange(2, dtype=kind.dtype) == kind
        return (
            jnp.where(fired, v - 1.4, v),
            i + jnp.array([[0.0, 0.4], [-0.2, 0.0]])[kind],
            jnp.where(fired, jnp.log(u[0]), s),
        )

    return rs.EventSDE(drift, diffusion, lambda t, y, args: y[2], transition, num_uniforms=1)


def test_the_spiking_network_passes():
    y0 = (jnp.zeros(2), jnp.zeros(2), jnp.log(jnp.array([0.3, 0.6])))
    report = rs.check_assumptions(
        spiking_network(), y0=y0, t1=3.0, num_steps=300, driver=rs.BrownianPath(4), key=jr.key(0), max_events=40
    )
    assert report.ok and all(row.num_events > 2 and row.slope > 0 for row in report.kinds)
    assert all(row.noise == 0 and row.commutator == 0 for row in report.kinds)


@pytest.mark.parametrize(
    ("sde", "flag", "value"),
    [
        # a threshold that moves: it may fall onto the state, or run away as fast as the state comes
        (threshold(None, event=lambda t, y, args: y - 1.0 + 3.0 * t), 0, 3 + 1),
        (threshold(None, event=lambda t, y, args: y - (1.0 + (t - 0.5))), NO_SLOPE, 0),
        # a diffusion that is gone by the time of the event, and one that is not
        (threshold(lambda t, y, args: (0.3 * jnp.maximum(0.4 - t, 0.0)).reshape(1, 1)), 0, 1),
        (threshold(lambda t, y, args: (0.3 * jnp.maximum(0.6 - t, 0.0)).reshape(1, 1)), NOISE_MOVES_EVENT, 0.03),
        # a transition that depends on time, and a diffusion that does
        (
            rs.EventSDE(
                lambda t, y, args: jnp.ones(2),
                lambda t, y, args: jnp.array([[0.0], [1.0]]) * t,
                lambda t, y, args: y[:1] - 1.0,
                lambda t, y, kind, u, args: jnp.stack([y[0] - 1.0, y[1] * (0.5 + t)]),
            ),
            0,
            0.0,
        ),
        (
            rs.EventSDE(
                lambda t, y, args: jnp.ones(2),
                lambda t, y, args: jnp.array([[0.0], [1.0]]) * t,
                lambda t, y, args: y[:1] - 1.0,
                lambda t, y, kind, u, args: jnp.stack([y[0] - 1.0, y[1] * (0.7 + t)]),
            ),
            DOES_NOT_COMMUTE,
            0.1,
        ),
    ],
    ids=["falling", "running-away", "gone", "still-there", "commutes-at-half", "does-not"],
)
def test_explicit_time_at_a_given_event(sde, flag, value):
    """At t = 0.5, on the surface."""
    state = jnp.ones((1, 2)) if flag == DOES_NOT_COMMUTE or value == 0.0 and flag == 0 else jnp.ones((1, 1))
    rough = () if sde.diffusion is None else (True,)
    numbers = jax.jit(lambda y: measure_events(sde, [0.5], [0], y, None, rough))(state)
    assert int(numbers.flags[0]) == flag
    found = {0: numbers.slope, NO_SLOPE: numbers.slope, NOISE_MOVES_EVENT: numbers.noise}
    if flag == DOES_NOT_COMMUTE or value == 0.0:
        found = {0: numbers.commutator, NO_SLOPE: numbers.slope, DOES_NOT_COMMUTE: numbers.commutator}
    np.testing.assert_allclose(found[flag][0], value, rtol=1e-9, atol=1e-12)


def test_a_landing_on_an_event_surface():
    """Kind 0 puts the state exactly where kind 1 fires, where the flow does not leave; with a gap all is well."""

    def system(gap):
        return rs.EventSDE(
            lambda t, y, args: jnp.array([1.0, 0.0]),
            event=lambda t, y, args: jnp.stack([y[0] - 1.0, y[1] - 1.0]),
            transition=lambda t, y, kind, u, args: jnp.stack([y[0] - 1.0, 1.0 - gap + 0.0 * y[1]]),
        )

    measure = lambda gap: report_on(  # noqa: E731
        measure_events(system(gap), [0.5], [0], jnp.array([[1.0, 0.2]]), None), [0.5], [0]
    )
    assert measure(0.1).ok
    (line,) = measure(0.0).messages()
    assert "3.2: the transition lands on the surface of kind 1" in line


def test_smooth_and_jumping_channels_may_move_the_event_function():
    """Only the second channel is rough, and it does not reach the event function."""
    sde = rs.EventSDE(
        drift=lambda t, y, args: jnp.array([2.0, 0.0]) - y,
        diffusion=lambda t, y, args: jnp.array([[0.5, 0.0], [0.0, 0.3]]),
        event=lambda t, y, args: y[:1] - 1.0,
        transition=lambda t, y, kind, u, args: y - jnp.array([1.0, 0.0]),
    )
    jumps = rs.PiecewisePath([0.2, 0.9], jumps=[0.5, 1.5])
    assert check(sde, [0.0, 0.0], rs.StackedPath(jumps, BROWNIAN)).ok
    failed = check(sde, [0.0, 0.0], rs.StackedPath(BROWNIAN, jumps))
    assert "3.4" in failed.messages()[0]


def test_operators_and_kinds_that_were_not_seen():
    operator = lineax.MatrixLinearOperator
    sde = rs.EventSDE(
        drift=lambda t, y, args: 2.0 - y,
        diffusion=lambda t, y, args: operator(0.3 * jnp.ones((1, 1))),
        event=lambda t, y, args: jnp.stack([y[0] - 1.0, y[0] - 50.0]),
        transition=lambda t, y, kind, u, args: y - 1.0,
    )
    report = check(sde, [0.0])
    assert "not seen" in str(report) and "fails" in str(report) and report.kinds[1].num_events == 0
    assert all("event kind 0" in line for line in report.messages())
    with pytest.raises(ValueError, match="no event function"):
        rs.check_assumptions(rs.EventSDE(lambda t, y, args: y), y0=jnp.ones(1))


def test_a_hazard_passes_whatever_the_noise():
    sde = rs.hazard(threshold(lambda t, y, args: 0.3 * (1 + y**2)[:, None]), lambda t, y, args: jnp.exp(y[0]))
    y0 = sde.start(jnp.zeros(1), jr.key(3))
    report = rs.check_assumptions(sde, y0=y0, t1=4.0, num_steps=400, driver=BROWNIAN, key=jr.key(1), max_events=40)
    assert report.kinds[1].num_events > 0 and not report.kinds[1].failures
    assert any("3.4" in line for line in report.kinds[0].failures)


def test_solve_refuses_a_gradient_that_does_not_exist():
    """Outside of jit, where the values are known; the run itself is welcome, and the refusal can be switched off."""
    noisy, quiet = threshold(lambda t, y, args: 0.3 * jnp.ones((1, 1))), threshold(None)

    def first(y0, sde, **options):
        driver = None if sde.diffusion is None else BROWNIAN
        sol = rs.solve(sde, t0=0.0, t1=2.0, num_steps=200, y0=y0, driver=driver, key=jr.key(1), **options)
        return sol.event_times[0]

    y0 = jnp.zeros(1)
    assert np.isfinite(first(y0, noisy))
    with pytest.raises(ValueError, match="the gradient asked for does not exist: event kind 0.*3.4.*rs.hazard"):
        jax.grad(first)(y0, noisy)
    with pytest.raises(ValueError, match="does not exist"):
        jax.grad(lambda c: first(y0, threshold(lambda t, y, args: c * jnp.ones((1, 1)))))(0.3)
    assert np.isfinite(jax.grad(first)(y0, noisy, check=False))
    np.testing.assert_allclose(jax.grad(first)(y0, quiet)[0], -0.5, rtol=1e-4)  # T = log(2 - y) / (2 - 1)
