"""One run of a sweep in a process of its own: python -m roughspike.recipe.sweep_worker RUN.json."""

from __future__ import annotations

import json
import sys
import time
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from roughspike.io.atomic import write_atomic
from roughspike.recipe.sweep_plan import PUBLISHED, Run, changed_plan, changed_recipe


def content_of(run: Run) -> Any:
    """What of the recipe the result of a run depends on."""
    if run.kind == PUBLISHED:
        return changed_recipe(run.recipe, run.setting).settings
    files = [Path(run.options[name]) for name in ("data", "stimulus") if run.options.get(name)]
    sums = [zlib.crc32(file.read_bytes()) for file in files if file.is_file()]
    return [changed_plan(run.recipe, run.setting).rows(), sums]


def work(run: Run) -> None:
    """Do the run, and leave its mark when it is finished."""
    begin = time.process_time()
    figures = _published(run) if run.kind == PUBLISHED else _fit(run)
    done = {"fingerprint": run.fingerprint(content_of(run)), "figures": figures, "seconds": time.process_time() - begin}
    write_atomic(run.mark, json.dumps(done).encode())


def context_of(run: Run, shown: bool = False) -> Any:
    """The folder that the runs of one setting of a published recipe fill with rows."""
    from roughspike.recipe.reproduce_context import Context

    fingerprint = changed_recipe(run.recipe, run.setting).fingerprint(run.steps)
    return Context(Path(run.folder), run.seeds, run.steps, fingerprint, shown)


def _published(run: Run) -> dict[str, float]:
    recipe = changed_recipe(run.recipe, run.setting)
    recipe.module().run(recipe.settings, context_of(run))
    return {}


def _fit(run: Run) -> dict[str, float]:
    import warnings

    from roughspike.recipe.console import job_of, printer, shortened
    from roughspike.recipe.run import run_job

    warnings.simplefilter("default")
    stimulus = run.options["stimulus"]
    options: Any = SimpleNamespace(**run.options | {"stimulus": None if stimulus is None else Path(stimulus)})
    plan = changed_plan(run.recipe, run.setting, run.seeds[0])
    plan = shortened(plan, run.steps).replace(glm_bins=None if options.glm else ())
    folder = Path(run.folder) / f"seed{run.seeds[0]}"
    resume = (folder / "checkpoints").is_dir()
    outcome = run_job(job_of(options), plan, folder, progress=False, resume=resume, say=printer(False))
    if outcome.interrupted:
        raise KeyboardInterrupt
    return figures_of(outcome.evaluation)


def figures_of(found: Any) -> dict[str, float]:
    """What the table of a sweep of fits compares: scores of this run, figures of merit, fitted parameters."""
    figures = {f"bits/spike, {row.model}": row.bits for row in found.scores if row.ours}
    figures |= {f"coincidence, {1e3 * c.precision:g} ms": c.value for c in found.metrics.coincidence}
    figures["rate error"] = found.metrics.rate_error
    figures |= {row.name: row.value for row in found.parameters if row.fitted}
    return {name: float(value) for name, value in figures.items()}


def main(path: str) -> None:
    """Read a run and do it."""
    values = json.loads(Path(path).read_text(encoding="utf-8"))
    work(Run(**{**values, "seeds": tuple(values["seeds"])}))


if __name__ == "__main__":
    main(sys.argv[1])
