"""The report's plain words: how well the model does, and where it fails."""

from __future__ import annotations

import math
from dataclasses import dataclass

from roughspike.evaluation.types import Evaluation, Score

RATE_LIMIT, ISI_LIMIT, CV_LIMIT, GAP_LIMIT, CHANCE_LIMIT = 0.05, 0.10, 0.15, 0.2, 0.05
TIE = 0.05


@dataclass(frozen=True)
class Headline:
    """A figure shown large: its value, what it is, and what to compare it with."""

    value: str
    label: str
    remark: str
    good: bool | None = None


def final_score(evaluation: Evaluation) -> Score | None:
    """The score of the reported model: the last of ours; None if there is none or it is not finite."""
    last = next((s for s in reversed(evaluation.scores) if s.ours), None)
    return last if last is not None and math.isfinite(last.bits) else None


def best_baseline(evaluation: Evaluation) -> Score | None:
    """The baseline with the most held-out bits per spike, but for the Poisson process, which has 0 by definition."""
    known = (s for s in evaluation.scores if not s.ours and s.bits != 0 and math.isfinite(s.bits))
    return max(known, key=lambda s: s.bits, default=None)


def headlines(evaluation: Evaluation) -> list[Headline]:
    """The figures at the top of the page."""
    out = []
    score, rival = final_score(evaluation), best_baseline(evaluation)
    if score is not None:
        remark = f"best baseline {rival.bits:.2f} ({rival.model})" if rival else "a constant rate has 0"
        label = "bits per spike, training data" if _nothing_held_out(evaluation) else "bits per spike, held out"
        out.append(Headline(_signed(score.bits, 2), label, remark, score.bits > (rival.bits if rival else 0.0)))
    shown = evaluation.metrics.coincidence_at(0.002)
    if math.isfinite(shown):
        out.append(Headline(_signed(shown, 2), "coincidence factor at \N{PLUS-MINUS SIGN}2 ms", _ceiling(evaluation)))
    m = evaluation.metrics
    if math.isfinite(m.rate_error):
        remark = f"{m.simulated_rate:.1f} simulated, {m.recorded_rate:.1f} recorded spikes/s"
        out.append(
            Headline(f"{100 * m.rate_error:.1f} %", "error of the mean rate", remark, m.rate_error <= RATE_LIMIT)
        )
    if evaluation.rescaling and len(evaluation.rescaling[-1].z):
        test = evaluation.rescaling[-1]
        where = "inside" if test.inside else "outside"
        out.append(
            Headline(
                f"{test.distance:.3f}",
                "time-rescaling distance D",
                f"{where} the 95 % band of {test.band:.3f}",
                test.inside,
            )
        )
    return out


def _nothing_held_out(evaluation: Evaluation) -> bool:
    spans = evaluation.held_out
    return evaluation.held_out_trials is None and bool(spans) and spans == evaluation.train


def lead(evaluation: Evaluation) -> list[tuple[str, str]]:
    """What was fitted to what: (label, words)."""
    pairs = (("Recorded", _sentence(evaluation.subject)), ("Fitted", _sentence(evaluation.model)))
    return [(label, words) for label, words in pairs if words]


def judged_on(evaluation: Evaluation) -> str:
    """On what the figures are computed."""
    spans = evaluation.held_out
    total = sum(b - a for a, b in spans)
    trained = sum(b - a for a, b in evaluation.train)
    if evaluation.held_out_trials is not None:
        part = f"{len(evaluation.held_out_trials)} of {len(evaluation.recorded)} trials that were not used for training"
    elif _nothing_held_out(evaluation):
        return (
            "No data was held out: every figure below is computed on the data that trained the model, and flatters it."
        )
    else:
        windows = f"{len(spans)} window{'s' if len(spans) != 1 else ''} ({total:g} s in all)"
        part = f"{windows} that were not used for training, which had {trained:g} s"
    free = "simulations run freely, without the recorded spikes"
    return f"Unless said otherwise, every figure is computed on {part}; {free}."


def achievements(evaluation: Evaluation) -> list[str]:
    """What the model does well or at least measurably, in numbers."""
    out = []
    score, rival = final_score(evaluation), best_baseline(evaluation)
    if score is not None and rival is not None:
        more = score.bits - rival.bits
        words = f"It carries {score.bits:.2f} bits per spike about the timing of held-out spikes, "
        if abs(more) < TIE:
            words += f"as much as the best baseline within {TIE} bits"
        else:
            words += f"{abs(more):.2f} {'more' if more > 0 else 'less'} than the best baseline"
        words += f" ({rival.model}, {rival.bits:.2f})."
        out.append(words)
    elif score is not None and score.bits > 0:
        spikes = "spikes" if _nothing_held_out(evaluation) else "held-out spikes"
        out.append(f"It carries {score.bits:.2f} bits per spike about the timing of {spikes} beyond a constant rate.")
    coincident = next((c for c in evaluation.metrics.coincidence if abs(c.precision - 0.002) < 1e-9), None)
    if coincident is not None and math.isfinite(coincident.value):
        words = "Simulated and recorded spikes coincide within 2 ms with a factor of "
        words += f"{_signed(coincident.value, 2)} (0 is chance, 1 is every spike)"
        if coincident.between_models is not None:
            words += f"; two simulations coincide with each other at {_signed(coincident.between_models, 2)}"
        if coincident.between_trials is not None:
            words += f", two recorded trials at {_signed(coincident.between_trials, 2)}"
        out.append(words + ".")
    for item in evaluation.intervals[:1]:
        s = item.statistics
        if math.isfinite(s.ks):
            out.append(
                f"Inter-spike intervals have CV {s.simulated_cv:.2f} (recorded {s.recorded_cv:.2f}) and mean "
                f"{s.simulated_mean * 1e3:.1f} ms (recorded {s.recorded_mean * 1e3:.1f} ms)."
            )
    return out


def failures(evaluation: Evaluation) -> list[str]:
    """Every check the model fails, and every warning; an empty list if all are passed."""
    return [*_score_failures(evaluation), *_train_failures(evaluation), *_sentences(evaluation.warnings)]


def checks(evaluation: Evaluation) -> str:
    """Which checks `failures` could make with this data, for a page where none failed."""
    score, m = final_score(evaluation), evaluation.metrics
    made = [
        (score is not None and best_baseline(evaluation) is not None, "better than every baseline"),
        (
            score is not None and score.train_bits is not None,
            f"training score at most {GAP_LIMIT} bits above the held-out score",
        ),
        (any(len(r.z) for r in evaluation.rescaling[-1:]), "time-rescaling distance within its 95 % band"),
        (math.isfinite(m.rate_error), f"rate error at most {100 * RATE_LIMIT:.0f} %"),
        (
            math.isfinite(m.isi_ks),
            f"interval distributions within {ISI_LIMIT:.2f} (KS) and CV within {100 * CV_LIMIT:.0f} %",
        ),
        (evaluation.input is not None, "coincidences above chance"),
    ]
    found = [words for possible, words in made if possible]
    return f"Checked: {', '.join(found)}." if found else "Nothing could be checked with this data."


def _score_failures(evaluation: Evaluation) -> list[str]:
    out = []
    score, rival = final_score(evaluation), best_baseline(evaluation)
    if score is not None and rival is not None and score.bits <= rival.bits:
        out.append(
            f"{rival.model} predicts the held-out spikes better: "
            f"{rival.bits:.2f} against {score.bits:.2f} bits per spike."
        )
    if score is None and any(s.ours for s in evaluation.scores):
        out.append("The likelihood of the held-out spikes is 0 or undefined under the model.")
    if score is not None and score.bits <= 0:
        out.append("It predicts the spikes no better than a Poisson process of constant rate.")
    if score is not None and score.train_bits is not None and score.train_bits - score.bits > GAP_LIMIT:
        out.append(
            f"It scores {score.train_bits - score.bits:.2f} bits per spike more on the data that trained it than on "
            "held-out data: it is overfitted, or the two differ."
        )
    for test in evaluation.rescaling[-1:]:
        if len(test.z) and not test.inside:
            out.append(
                "Its firing rate is not exactly right at every moment: the time-rescaling distance "
                f"D = {test.distance:.3f} lies outside the 95 % band of {test.band:.3f} (p = {test.p:.2g})."
            )
    return out


def _train_failures(evaluation: Evaluation) -> list[str]:
    out, m = [], evaluation.metrics
    if m.rate_error > RATE_LIMIT:
        way = "too many" if m.simulated_rate > m.recorded_rate else "too few"
        out.append(f"It fires {way} spikes: {m.simulated_rate:.1f} against {m.recorded_rate:.1f} per second.")
    if m.isi_ks > ISI_LIMIT:
        out.append(f"Its inter-spike intervals are distributed differently (KS distance {m.isi_ks:.2f}).")
    for item in evaluation.intervals:
        s = item.statistics
        if s.recorded_cv > 0 and abs(s.simulated_cv / s.recorded_cv - 1) > CV_LIMIT:
            which = f" of neuron {item.neuron}" if evaluation.num_neurons > 1 else ""
            way = "more irregular" if s.simulated_cv > s.recorded_cv else "more regular"
            out.append(
                f"Its firing{which} is {way} than recorded: CV {s.simulated_cv:.2f} against {s.recorded_cv:.2f}."
            )
    if evaluation.input is not None and m.coincidence_at(0.002) < CHANCE_LIMIT:
        out.append("Its spikes coincide with the recorded ones hardly more often than by chance (within 2 ms).")
    return out


def _ceiling(evaluation: Evaluation) -> str:
    found = next(c for c in evaluation.metrics.coincidence if abs(c.precision - 0.002) < 1e-9)
    if found.between_trials is not None:
        return f"{_signed(found.between_trials, 2)} between recorded trials"
    if found.between_models is not None:
        return f"{_signed(found.between_models, 2)} between two simulations"
    return "0 is chance, 1 is every spike"


def _signed(value: float, decimals: int) -> str:
    return f"{round(value, decimals) + 0.0:.{decimals}f}".replace("-", "\N{MINUS SIGN}")  # no "-0.00"


def _sentence(words: str) -> str:
    words = words.strip()
    words = words[:1].upper() + words[1:]
    return words if not words or words[-1] in ".!?" else words + "."


def _sentences(words: tuple[str, ...]) -> list[str]:
    return [_sentence(w) for w in words]
