"""The public names: light to import, few, documented, and the same for Python and for the type checker."""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import roughspike as rs

NAMES = sorted(rs._HOME)
HEAVY = ("jax", "numpy", "scipy", "equinox", "optax", "matplotlib", "nemos", "nitime")


def loaded_after(statement: str) -> list[str]:
    code = f"import sys\n{statement}\nprint(' '.join(m for m in {HEAVY!r} if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_import_is_light():
    assert loaded_after("import roughspike; dir(roughspike); roughspike.__version__") == []


def test_command_line_is_light():
    assert loaded_after("import roughspike.cli") == []


def test_the_probe_sees_a_heavy_import():
    assert "numpy" in loaded_after("import roughspike; roughspike.Windows")


def test_at_most_a_hundred_names():
    assert len(NAMES) == len(set(NAMES)) <= 100


@pytest.mark.parametrize("name", NAMES)
def test_importable_and_documented(name: str):
    value = getattr(rs, name)
    assert not inspect.ismodule(value)
    assert value.__module__.startswith("roughspike."), f"{name} comes from another package"
    assert inspect.getdoc(value), f"{name} has no docstring"
    for attribute, member in vars(value).items() if inspect.isclass(value) else ():
        if not attribute.startswith("_") and (inspect.isfunction(member) or isinstance(member, property)):
            assert inspect.getdoc(member), f"{name}.{attribute} has no docstring"


def test_a_room_used_by_its_name():
    for room in rs._ROOMS:
        assert inspect.ismodule(getattr(rs, room)) and inspect.getdoc(getattr(rs, room))


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(AttributeError, match="no attribute 'SpikeTrian'; public names: .*SpikeTrain"):
        rs.SpikeTrian  # noqa: B018


def test_a_room_never_hides_a_public_name():
    for room in sorted({home.partition(".")[0] for home in rs._HOME.values()}):
        importlib.import_module(f"roughspike.{room}")
    assert not [name for name in NAMES if inspect.ismodule(getattr(rs, name))]


def test_type_checker_sees_the_same_table():
    tree = ast.parse(Path(rs.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {}
    for node in block.body:
        assert isinstance(node, ast.ImportFrom) and node.module is not None
        for alias in node.names:
            assert alias.asname == alias.name, f"write `import {alias.name} as {alias.name}` to re-export it"
            seen[alias.name] = node.module.removeprefix("roughspike.")
    assert seen == rs._HOME | dict.fromkeys(rs._ROOMS, "roughspike")
