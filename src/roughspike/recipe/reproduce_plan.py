"""Recipes of published results: one TOML file each, found by walking the folder `published`."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import json
import tomllib
from importlib import resources
from pathlib import Path
from types import ModuleType
from typing import Any

import roughspike

FOLDER = "roughspike.recipe.published"
_HEAD = {"title": str, "shows": str, "minutes": (int, float), "seeds": int, "run": str}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """The head of a recipe file, and all the rest of it as `settings`.

    - `name`: of the file. `title`: of the page.
    - `shows`: one sentence, what a reader learns. `minutes`: how long it takes at full size on two cores.
    - `seeds`: how many random seeds it is run with. `run`: a module of the folder `published`.
    - `settings`: every number that the result depends on; they go to the module as they are.
    """

    name: str
    title: str
    shows: str
    minutes: float
    seeds: int
    run: str
    settings: dict[str, Any]

    def module(self) -> ModuleType:
        """The module, which has `run(settings, context)` and `show(settings, rows)`.

        **Raises** ValueError naming the recipe if there is no such module.
        """
        try:
            found = importlib.import_module(f"{FOLDER}.{self.run}")
        except ModuleNotFoundError as error:
            if error.name != f"{FOLDER}.{self.run}":
                raise
            raise ValueError(f"recipe {self.name}: run = {self.run!r} names no module of {FOLDER}") from error
        missing = [name for name in ("run", "show") if not callable(getattr(found, name, None))]
        if missing:
            raise ValueError(f"recipe {self.name}: module {self.run} has no function {missing[0]}")
        return found

    def fingerprint(self, steps: int | None) -> str:
        """Changes with every setting, with shortened training and with the version: rows of one fingerprint mix."""
        told = json.dumps([self.run, self.settings, steps, roughspike.__version__], sort_keys=True)
        return hashlib.sha256(told.encode()).hexdigest()[:16]


def shipped() -> dict[str, Recipe]:
    """All recipes that come with roughspike, by name."""
    files = [file for file in resources.files(FOLDER).iterdir() if file.name.endswith(".toml")]
    found = [_read(file.name.removesuffix(".toml"), file) for file in files]
    return {recipe.name: recipe for recipe in sorted(found, key=lambda recipe: recipe.name)}


def load_recipe(name: str) -> Recipe:
    """A shipped recipe by its name, or a recipe file (.toml) of the user's own with other settings.

    **Raises** ValueError for a name that is not known, or a file that is no recipe.
    """
    if name.endswith(".toml"):
        return _read(Path(name).stem, Path(name))
    known = shipped()
    if name not in known:
        raise ValueError(f"there is no published result named {name!r}; known: {', '.join(known)}")
    return known[name]


def _read(name: str, file: Any) -> Recipe:
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"{file} is no recipe file: {error}") from error
    for key, kind in _HEAD.items():
        if not isinstance(table.get(key), kind):
            raise ValueError(f"{file}: entry {key!r} is missing or of the wrong type: compare with a shipped recipe")
    head = {key: table.pop(key) for key in _HEAD}
    return Recipe(name, **head, settings=table)
