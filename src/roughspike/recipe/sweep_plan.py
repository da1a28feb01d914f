"""What a sweep consists of: one run per setting and seed, each with a folder and a fingerprint of its own."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import tomllib
from pathlib import Path
from typing import Any

import roughspike
from roughspike.recipe.plan import Plan, load_plan
from roughspike.recipe.reproduce_plan import Recipe, load_recipe

PUBLISHED, FIT = "published", "fit"
Setting = dict[str, Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """One run of a recipe.

    - `kind`: "published" (a recipe of `roughspike reproduce`) or "fit" (of `roughspike fit`).
    - `recipe`: its name or file. `setting`: entries that differ from it, by dotted name.
    - `seeds`: the random seeds of this run; one, unless the recipe runs all of its seeds side by side.
    - `steps`: of a shortened run. `options`: of the command `fit`, for a fit.
    - `folder`: of the run; runs of a published recipe with one setting share it.
    """

    kind: str
    recipe: str
    setting: Setting
    seeds: tuple[int, ...]
    steps: int | None
    options: dict[str, Any]
    folder: str

    @property
    def name(self) -> str:
        """For progress and table."""
        which = f"seed {self.seeds[0]}" if len(self.seeds) == 1 else f"seeds 0 to {self.seeds[-1]}"
        return ", ".join([*(f"{key}={value}" for key, value in self.setting.items()), which])

    @property
    def mark(self) -> Path:
        """The file that says how the run ended."""
        return Path(self.folder) / "runs" / f"seeds-{'-'.join(map(str, self.seeds))}.json"

    def fingerprint(self, content: Any) -> str:
        """Changes with everything that the result depends on; `content` is that of the recipe."""
        told = [self.kind, content, self.setting, self.seeds, self.steps, self.options, roughspike.__version__]
        return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()[:16]


def kind_of(name: str) -> str:
    """Of a recipe name or file. **Raises** ValueError if there is no such recipe."""
    if not name.endswith(".toml"):
        load_recipe(name)
        return PUBLISHED
    try:
        return PUBLISHED if "run" in tomllib.loads(Path(name).read_text(encoding="utf-8")) else FIT
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"{name} is no recipe file: {error}") from error


def settings_of(given: tuple[str, ...]) -> list[Setting]:
    """All combinations of `name=value,value` texts, values as in TOML.

    **Raises** ValueError for a text that is none.

    >>> settings_of(("exact.learning_rate=0.1,0.05", "samples=20"))
    [{'exact.learning_rate': 0.1, 'samples': 20}, {'exact.learning_rate': 0.05, 'samples': 20}]
    """
    values = {}
    for text in given:
        name, _, listed = text.partition("=")
        try:
            values[name.strip()] = tomllib.loads(f"x = [{listed}]")["x"]
        except tomllib.TOMLDecodeError:
            values[name.strip()] = []
        if not values[name.strip()]:
            raise ValueError(f"--set {text}: write name=value,value with values as in a TOML file, text in quotes")
    return [dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*values.values())]


def changed_recipe(name: str, setting: Setting) -> Recipe:
    """The recipe of a published result with other settings. **Raises** ValueError for an entry that it has not."""
    recipe = load_recipe(name)
    settings = json.loads(json.dumps(recipe.settings))
    for key, value in setting.items():
        *path, last = key.split(".")
        table: Any = settings
        for part in path:
            table = table.get(part) if isinstance(table, dict) else None
        if not isinstance(table, dict) or last not in table:
            raise ValueError(f"--set {key}: the recipe {recipe.name} has no such entry; it has {', '.join(settings)}")
        table[last] = value
    return dataclasses.replace(recipe, settings=settings)


def changed_plan(path: str, setting: Setting, seed: int | None = None) -> Plan:
    """The recipe of a fit with other settings. **Raises** ValueError for an entry that it has not."""
    plan = load_plan(path)
    for key, value in setting.items():
        stage, _, entry = key.rpartition(".")
        target = getattr(plan, stage, None) if stage else plan
        known = {f.name for f in dataclasses.fields(target)} if dataclasses.is_dataclass(target) else set()
        if entry not in known or isinstance(value, dict):
            names = ", ".join(f.name for f in dataclasses.fields(Plan) if f.name != "expected")
            raise ValueError(f"--set {key}: a recipe of a fit has no such entry; it has {names}")
        value = tuple(value) if isinstance(value, list) else value
        assert target is not None and not isinstance(target, type)
        new: Any = dataclasses.replace(target, **{entry: value})
        plan = dataclasses.replace(plan, **{stage: new}) if stage else new
    return plan.replace(seed=seed)


def runs_of(
    name: str, seeds: int, settings: list[Setting], steps: int | None, options: dict[str, Any], folder: Path
) -> list[Run]:
    """Every run of a sweep; all entries of all settings have been checked against the recipe.

    **Raises** ValueError naming what the recipe does not have.
    """
    kind, found = kind_of(name), []
    for number, setting in enumerate(settings):
        place = folder if not setting else folder / f"setting{number + 1}"
        together = False
        if kind == PUBLISHED:
            together = getattr(changed_recipe(name, setting).module(), "SEEDS_TOGETHER", False)
        else:
            changed_plan(name, setting)
        groups = [tuple(range(seeds))] if together else [(seed,) for seed in range(seeds)]
        found += [Run(kind, name, setting, group, steps, options, str(place)) for group in groups]
    return found
