"""roughspike: stochastic spiking neurons with exact gradients, fitted to recorded spikes.

Every public name stands in the table below and is imported when it is first used, so that `import roughspike` costs
nothing and `roughspike --help` is instant.
"""

from __future__ import annotations

import importlib
import sys
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from roughspike import parallel as parallel
    from roughspike._types import Result as Result
    from roughspike._types import SimulationError as SimulationError
    from roughspike.currents.base import Constant as Constant
    from roughspike.currents.base import SumOfCurrents as SumOfCurrents
    from roughspike.currents.curves import BSplineCurrent as BSplineCurrent
    from roughspike.currents.curves import ExponentialDrift as ExponentialDrift
    from roughspike.currents.curves import PiecewiseLinear as PiecewiseLinear
    from roughspike.currents.signal import SampledSignal as SampledSignal
    from roughspike.currents.stimulus import Stimulus as Stimulus
    from roughspike.evaluation.evaluate import evaluate as evaluate
    from roughspike.evaluation.types import Evaluation as Evaluation
    from roughspike.fit.loop import fit as fit
    from roughspike.fit.result import FitResult as FitResult
    from roughspike.fit.result import load as load
    from roughspike.gradients.adjoint import Adjoint as Adjoint
    from roughspike.gradients.direct import Direct as Direct
    from roughspike.gradients.forward import Forward as Forward
    from roughspike.io.spikes import read_spikes as read_spikes
    from roughspike.io.spikes import write_spikes as write_spikes
    from roughspike.io.stimulus import read_stimulus as read_stimulus
    from roughspike.likelihood.elbo import NegativeELBO as NegativeELBO
    from roughspike.likelihood.elbo import WithPosterior as WithPosterior
    from roughspike.likelihood.objective import NegativeLogLikelihood as NegativeLogLikelihood
    from roughspike.likelihood.score import log_likelihood as log_likelihood
    from roughspike.losses.energy import EnergyScore as EnergyScore
    from roughspike.losses.first_spikes import FirstSpikesLoss as FirstSpikesLoss
    from roughspike.losses.horizon import with_horizon as with_horizon
    from roughspike.losses.mmd import SignatureMMD as SignatureMMD
    from roughspike.losses.mmd import kernel_score as kernel_score
    from roughspike.losses.mmd import mmd_test as mmd_test
    from roughspike.losses.mmd import signature_mmd as signature_mmd
    from roughspike.losses.signature import ExpectedSignatureLoss as ExpectedSignatureLoss
    from roughspike.networks.activity import activity_penalty as activity_penalty
    from roughspike.networks.eligibility import eligibility as eligibility
    from roughspike.networks.feedforward import FeedForward as FeedForward
    from roughspike.networks.inputs import poisson_spikes as poisson_spikes
    from roughspike.networks.population import Population as Population
    from roughspike.networks.recurrent import Recurrent as Recurrent
    from roughspike.networks.simulate import simulate as simulate
    from roughspike.networks.solution import Solution as Solution
    from roughspike.networks.synapses import Synapses as Synapses
    from roughspike.networks.yin_yang import latency_code as latency_code
    from roughspike.networks.yin_yang import yin_yang as yin_yang
    from roughspike.neurons.adaptive import AdaptiveSLIF as AdaptiveSLIF
    from roughspike.neurons.escape import ExponentialEscape as ExponentialEscape
    from roughspike.neurons.escape import SigmoidEscape as SigmoidEscape
    from roughspike.neurons.escape import SoftplusEscape as SoftplusEscape
    from roughspike.neurons.lif import SLIF as SLIF
    from roughspike.neurons.readout import Readout as Readout
    from roughspike.neurons.reset import ResetToValue as ResetToValue
    from roughspike.neurons.reset import SubtractiveReset as SubtractiveReset
    from roughspike.neurons.threshold import LIF as LIF
    from roughspike.neurons.threshold import HardThreshold as HardThreshold
    from roughspike.paths.brownian import BrownianPath as BrownianPath
    from roughspike.paths.drivers import ExplicitEuler as ExplicitEuler
    from roughspike.paths.drivers import LinearDriver as LinearDriver
    from roughspike.paths.drivers import ParabolaDriver as ParabolaDriver
    from roughspike.paths.levy import LevyPath as LevyPath
    from roughspike.paths.piecewise import PiecewisePath as PiecewisePath
    from roughspike.paths.poisson import CompoundPoissonPath as CompoundPoissonPath
    from roughspike.paths.poisson import PoissonPath as PoissonPath
    from roughspike.paths.spikes import SpikeTrain as SpikeTrain
    from roughspike.paths.stacked import StackedPath as StackedPath
    from roughspike.paths.windows import Windows as Windows
    from roughspike.pointprocess.compare import HiddenNeurons as HiddenNeurons
    from roughspike.pointprocess.compare import compare_estimators as compare_estimators
    from roughspike.pointprocess.decaying import AlphaBasis as AlphaBasis
    from roughspike.pointprocess.decaying import ExponentialBasis as ExponentialBasis
    from roughspike.pointprocess.elbo import elbo as elbo
    from roughspike.pointprocess.estimators import Pathwise as Pathwise
    from roughspike.pointprocess.estimators import StraightThrough as StraightThrough
    from roughspike.pointprocess.event_time import EventTime as EventTime
    from roughspike.pointprocess.links import ExponentialIntensity as ExponentialIntensity
    from roughspike.pointprocess.links import SigmoidIntensity as SigmoidIntensity
    from roughspike.pointprocess.links import SoftplusIntensity as SoftplusIntensity
    from roughspike.pointprocess.network import PointProcessNetwork as PointProcessNetwork
    from roughspike.pointprocess.particle import Particles as Particles
    from roughspike.pointprocess.sample import sample as sample
    from roughspike.pointprocess.sample import sample_relaxed as sample_relaxed
    from roughspike.pointprocess.score import LeaveOneOut as LeaveOneOut
    from roughspike.pointprocess.score import RunningMean as RunningMean
    from roughspike.pointprocess.score import Score as Score
    from roughspike.pointprocess.windowed import EpanechnikovBasis as EpanechnikovBasis
    from roughspike.pointprocess.windowed import RaisedCosineBasis as RaisedCosineBasis
    from roughspike.report.page import write_report as write_report
    from roughspike.sde.hazard import hazard as hazard
    from roughspike.sde.marcus import ItoJump as ItoJump
    from roughspike.sde.marcus import MarcusJump as MarcusJump
    from roughspike.sde.problem import EventSDE as EventSDE
    from roughspike.signatures.kernel import SignatureKernel as SignatureKernel
    from roughspike.signatures.lifts import FilteredLift as FilteredLift
    from roughspike.signatures.lifts import PerNeuron as PerNeuron
    from roughspike.signatures.logarithm import log_signature as log_signature
    from roughspike.signatures.static import RBFKernel as RBFKernel
    from roughspike.signatures.truncated import expected_signature as expected_signature
    from roughspike.signatures.truncated import marcus_lift as marcus_lift
    from roughspike.signatures.truncated import signature as signature
    from roughspike.solve.check import check_assumptions as check_assumptions
    from roughspike.solve.solution import EventSolution as EventSolution
    from roughspike.solve.solve import solve as solve

__version__ = "0.1.0"

_HOME = {
    "SLIF": "neurons.lif",
    "LIF": "neurons.threshold",
    "AdaptiveSLIF": "neurons.adaptive",
    "Readout": "neurons.readout",
    "HardThreshold": "neurons.threshold",
    "ExponentialEscape": "neurons.escape",
    "SigmoidEscape": "neurons.escape",
    "SoftplusEscape": "neurons.escape",
    "SubtractiveReset": "neurons.reset",
    "ResetToValue": "neurons.reset",
    "PiecewiseLinear": "currents.curves",
    "Stimulus": "currents.stimulus",
    "ExponentialDrift": "currents.curves",
    "BSplineCurrent": "currents.curves",
    "Constant": "currents.base",
    "SumOfCurrents": "currents.base",
    "SampledSignal": "currents.signal",
    "SpikeTrain": "paths.spikes",
    "Windows": "paths.windows",
    "LinearDriver": "paths.drivers",
    "ExplicitEuler": "paths.drivers",
    "ParabolaDriver": "paths.drivers",
    "BrownianPath": "paths.brownian",
    "PoissonPath": "paths.poisson",
    "CompoundPoissonPath": "paths.poisson",
    "LevyPath": "paths.levy",
    "PiecewisePath": "paths.piecewise",
    "StackedPath": "paths.stacked",
    "Population": "networks.population",
    "Recurrent": "networks.recurrent",
    "Synapses": "networks.synapses",
    "simulate": "networks.simulate",
    "Solution": "networks.solution",
    "FeedForward": "networks.feedforward",
    "eligibility": "networks.eligibility",
    "poisson_spikes": "networks.inputs",
    "yin_yang": "networks.yin_yang",
    "latency_code": "networks.yin_yang",
    "activity_penalty": "networks.activity",
    "Result": "_types",
    "SimulationError": "_types",
    "read_spikes": "io.spikes",
    "write_spikes": "io.spikes",
    "read_stimulus": "io.stimulus",
    "PointProcessNetwork": "pointprocess.network",
    "EpanechnikovBasis": "pointprocess.windowed",
    "RaisedCosineBasis": "pointprocess.windowed",
    "ExponentialBasis": "pointprocess.decaying",
    "AlphaBasis": "pointprocess.decaying",
    "SigmoidIntensity": "pointprocess.links",
    "SoftplusIntensity": "pointprocess.links",
    "ExponentialIntensity": "pointprocess.links",
    "sample": "pointprocess.sample",
    "sample_relaxed": "pointprocess.sample",
    "elbo": "pointprocess.elbo",
    "Pathwise": "pointprocess.estimators",
    "StraightThrough": "pointprocess.estimators",
    "Score": "pointprocess.score",
    "LeaveOneOut": "pointprocess.score",
    "RunningMean": "pointprocess.score",
    "EventTime": "pointprocess.event_time",
    "Particles": "pointprocess.particle",
    "HiddenNeurons": "pointprocess.compare",
    "compare_estimators": "pointprocess.compare",
    "NegativeELBO": "likelihood.elbo",
    "WithPosterior": "likelihood.elbo",
    "log_likelihood": "likelihood.score",
    "NegativeLogLikelihood": "likelihood.objective",
    "marcus_lift": "signatures.truncated",
    "signature": "signatures.truncated",
    "expected_signature": "signatures.truncated",
    "SignatureKernel": "signatures.kernel",
    "RBFKernel": "signatures.static",
    "FilteredLift": "signatures.lifts",
    "PerNeuron": "signatures.lifts",
    "log_signature": "signatures.logarithm",
    "SignatureMMD": "losses.mmd",
    "signature_mmd": "losses.mmd",
    "kernel_score": "losses.mmd",
    "mmd_test": "losses.mmd",
    "ExpectedSignatureLoss": "losses.signature",
    "FirstSpikesLoss": "losses.first_spikes",
    "EnergyScore": "losses.energy",
    "with_horizon": "losses.horizon",
    "fit": "fit.loop",
    "FitResult": "fit.result",
    "load": "fit.result",
    "evaluate": "evaluation.evaluate",
    "Evaluation": "evaluation.types",
    "Adjoint": "gradients.adjoint",
    "Direct": "gradients.direct",
    "Forward": "gradients.forward",
    "EventSDE": "sde.problem",
    "hazard": "sde.hazard",
    "ItoJump": "sde.marcus",
    "MarcusJump": "sde.marcus",
    "check_assumptions": "solve.check",
    "EventSolution": "solve.solution",
    "solve": "solve.solve",
    "write_report": "report.page",
}

_ROOMS = ("parallel",)  # used by its own name, `rs.parallel.mesh()`

__all__ = [*_HOME, *_ROOMS]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"roughspike.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'roughspike' has no attribute {name!r}; public names: {', '.join(sorted(_HOME))}")
    value = getattr(importlib.import_module(f"roughspike.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])


class _Package(types.ModuleType):
    """Keeps `roughspike.fit` the public function, though a room of that name exists.

    Importing a subpackage sets it as an attribute of its parent; that assignment is refused for public names.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOME and isinstance(value, types.ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
