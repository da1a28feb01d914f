"""The examples run, at smaller sizes than a reader runs them, and show what they say."""

import importlib.util

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

pytestmark = [pytest.mark.plain, pytest.mark.slow]


@pytest.fixture
def example(root, tmp_path, monkeypatch):
    """Name of an example, and constants to change -> its module; its figure is `tmp_path / "figure.svg"`."""
    pytest.importorskip("matplotlib").use("agg")
    monkeypatch.setattr("sys.argv", ["example", str(tmp_path / "figure.svg")])

    def load(name, **changed):
        spec = importlib.util.spec_from_file_location(name, root / "examples" / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        for constant, value in changed.items():
            monkeypatch.setattr(module, constant, value)
        return module

    return load


@pytest.fixture
def figure_drawn(tmp_path):
    return lambda: (tmp_path / "figure.svg").stat().st_size > 5000


def test_spurious_noise_term(example, figure_drawn):
    found = example("spurious_noise_term", STEPS=(1e-2, 1.6e-3), SAMPLES=250).main()
    # 250 paths know a standard deviation to 5 to 8 %; a term in dt^(-1/2) would grow by 2.5
    assert found["ours"][1] < 1.3 * found["ours"][0]
    assert found["restarted"][1] > 1.8 * found["restarted"][0]
    assert figure_drawn()


def test_both_ways_have_the_same_mean_derivative(example):
    """The restarted solver's term has mean 0: what it costs is variance."""
    module = example("spurious_noise_term")
    ours, restarted = (_slopes(module, f) for f in (module.ours, module.restarted))
    # 500 paths: standard errors 0.0005 of about 0.044; Euler at dt 4e-3 has 4 % less
    np.testing.assert_allclose(ours.mean(axis=0), restarted.mean(axis=0), rtol=0.08)
    assert np.std(restarted[:, 1] / restarted[:, 0]) > 0.12


def _slopes(module, times):
    import jax

    run = jax.jit(lambda v0: jax.jvp(lambda v: times(v, jr.key(2), 4e-3, 500), (v0,), (jnp.ones_like(v0),)))
    value, slope = (np.asarray(x) for x in run(jnp.zeros(())))
    return slope[value[:, 1] < module.T1 - 4e-3]


def test_firing_rate_gradient(example, figure_drawn):
    found = example("firing_rate_gradient", CURRENTS=np.linspace(0.8, 1.8, 3)).main()
    assert np.all(found["pathwise"] == 0)
    # 4000 samples on [0, 3]: standard errors of 0.05 to 0.15 on either side
    np.testing.assert_allclose(found["with horizon"], found["difference"], atol=0.6)
    assert np.all(found["with horizon"] > 1) and figure_drawn()


def test_holberg2024_fig1(example, figure_drawn):
    module = example("holberg2024_fig1", SAMPLES=32, STEPS=850)
    for name, (c, error) in module.main().items():
        # 32 samples fix c to 0.123 / sqrt(32) = 0.022, and RMSprop wanders a little
        assert abs(c[-50:].mean() - module.TRUE) < 0.09, name
        assert error[-50:].mean() < error[0] / 10, name
    assert figure_drawn()


def test_recording_by_mmd_does_nothing_without_the_recording(example, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("sys.argv", ["example", str(tmp_path / "trials.csv"), str(tmp_path / "figure.svg")])
    assert example("recording_by_mmd").main() == {}
    assert "pass its path" in capsys.readouterr().out and not (tmp_path / "figure.svg").exists()


def test_hidden_neurons(example, figure_drawn):
    """The held-out likelihood picks the number that is true, by far more than its standard error."""
    found = example("hidden_neurons").main()
    gain = found["scores"][1] - found["scores"][0]
    assert found["number"] == 1
    assert gain.mean() > 4 * gain.std(ddof=1) / np.sqrt(len(gain))
    assert np.all(np.sign(found["fitted"][:4, 4]) == np.sign(found["true"][:4, 4]))
    np.testing.assert_allclose(found["fitted"][:4, 4], found["true"][:4, 4], atol=1.5)
    assert figure_drawn()
