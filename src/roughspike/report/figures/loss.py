"""Training: the loss, and the score on training and held-out windows."""

from __future__ import annotations

import numpy as np

from roughspike.evaluation.types import Evaluation, Stage
from roughspike.report.figures.base import Figure
from roughspike.report.svg import FULL, MODEL, MUTED, RULE, SECOND, Panel, drawing, legend, padded

LEFT, GAP, HEIGHT = 70.0, 92.0, 200.0
WIDTH = (FULL - LEFT - GAP - 12) / 2


def draw(evaluation: Evaluation) -> Figure | None:
    """Loss curves of all stages, one after the other; None without training."""
    stages = [stage for stage in evaluation.stages if len(stage.step)]
    if not stages:
        return None
    offsets = np.concatenate([[0.0], np.cumsum([_length(s) for s in stages])])
    x = (0.0, float(offsets[-1]))
    scored = [s for s in stages if len(s.score_step)]
    losses = Panel(LEFT, 40.0, WIDTH, HEIGHT, x, padded(*(_middle(s.loss) for s in stages)))
    panels = [losses]
    for stage, offset in zip(stages, offsets[:-1], strict=True):
        losses.line(stage.step + offset, stage.loss, MUTED, width=1.0, opacity=0.45)
        losses.line(stage.step + offset, _running(stage.loss), MODEL, width=1.8)
    losses.y_axis(f"Loss ({stages[0].loss_unit})", grid=True)
    extra = legend(LEFT, 14.0, [("loss, smoothed", MODEL, "line"), ("each step", GREY_LINE, "line")])
    if scored:
        scores = Panel(LEFT + WIDTH + GAP, 40.0, WIDTH, HEIGHT, x, _score_range(scored))
        _scores(scores, stages, offsets)
        panels.append(scores)
        extra += legend(scores.left, 14.0, [("held-out windows", SECOND, "line"), ("training windows", MODEL, "dash")])
    for panel in panels:
        _stage_marks(panel, stages, offsets)
        panel.x_axis("Optimiser step")
    svg = drawing(FULL, HEIGHT + 84, "Loss and score during training", panels, extra)
    return Figure("loss", "Training", svg, _caption(stages, bool(scored)))


GREY_LINE = "#b4bac3"


def _scores(panel: Panel, stages: list[Stage], offsets: np.ndarray) -> None:
    for stage, offset in zip(stages, offsets[:-1], strict=True):
        if len(stage.train_score):
            panel.line(stage.score_step + offset, stage.train_score, MODEL, dash="4 3")
        if len(stage.held_out_score):
            panel.line(stage.score_step + offset, stage.held_out_score, SECOND, width=2.0)
    panel.y_axis(f"Score ({stages[0].score_unit})", grid=True)


def _stage_marks(panel: Panel, stages: list[Stage], offsets: np.ndarray) -> None:
    for k, offset in enumerate(offsets[:-1]):
        at = float(panel.px(offset))
        if k:
            panel.marks.append(f'<path d="M{at:.1f} 0v{panel.height:g}" stroke="{RULE}" stroke-width="1.5"/>')
        if len(stages) > 1:
            panel.note(at + 4, -6, f"stage {k + 1}")


def _length(stage: Stage) -> float:
    return float(max(stage.step[-1], *stage.score_step[-1:], 1.0))


def _middle(values: np.ndarray) -> np.ndarray:
    """The values without the extreme ones, which would flatten all others."""
    finite = values[np.isfinite(values)]
    low, high = np.quantile(finite, [0.03, 0.97]) if len(finite) > 10 else (-np.inf, np.inf)
    return finite[(finite >= low) & (finite <= high)]


def _score_range(stages: list[Stage]) -> tuple[float, float]:
    values = np.concatenate([np.r_[s.train_score, s.held_out_score] for s in stages])
    values = values[np.isfinite(values)]
    best = float(values.max()) if len(values) else 1.0
    return padded(values[values > best - max(3.0, 2 * abs(best))])


def _running(loss: np.ndarray, half: int = 10) -> np.ndarray:
    """Mean over the nearest 2 half + 1 steps."""
    good = np.isfinite(loss)
    kernel = np.ones(2 * half + 1)
    total = np.convolve(np.where(good, loss, 0.0), kernel, "full")[half : half + len(loss)]
    count = np.convolve(good.astype(float), kernel, "full")[half : half + len(loss)]
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _caption(stages: list[Stage], scored: bool) -> str:
    words = []
    for k, stage in enumerate(stages):
        time = f", {stage.cpu_seconds:.0f} s of CPU time" if stage.cpu_seconds is not None else ""
        name = f"Stage {k + 1}: {stage.name}" if len(stages) > 1 else stage.name[:1].upper() + stage.name[1:]
        words.append(f"{name} ({stage.loss_name}, {len(stage.step)} steps{time}).")
    if scored:
        bits = all(stage.score_unit == "bits per spike" for stage in stages)
        what = "information about spike times beyond a constant rate" if bits else "minus the loss, at a fixed key"
        words.append(
            f"Right: {what}. The held-out curve should rise with the "
            "training curve and stay close to it; a widening gap is overfitting."
        )
    words.append("A loss that has gone flat has converged. Different losses are not comparable on the left axis.")
    return " ".join(words if len(stages) > 1 else [*words[:-1], "A loss that has gone flat has converged."])
