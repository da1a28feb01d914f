"""Rules of the house that no tool checks: short files, no configuration at import, no loose ends."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
ROOMS = ("benchmarks", "examples", "docs", "tests", "tools")
SCRIPTS = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", SOURCES + SCRIPTS, ids=name_of)
def test_files_are_short(path: Path):
    lines = path.read_text().count("\n")
    assert lines < 400, f"{name_of(path)} has {lines} lines: give one of its members a file of its own"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_no_global_configuration(path: Path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("config.update"):
            pytest.fail(f"{name_of(path)}:{node.lineno} changes JAX for everybody: leave that to the user")


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_every_source_says_what_it_is(path: Path):
    text = path.read_text()
    assert not text.strip() or ast.get_docstring(ast.parse(text)), f"{name_of(path)} has no module docstring"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_nothing_left_to_do(path: Path):
    assert not re.search(r"\b(TODO|FIXME|XXX|NotImplementedError\(\))", path.read_text())


def test_examples_fit_on_two_screens():
    long = {path.name: n for path in (ROOT / "examples").glob("*.py") if (n := path.read_text().count("\n")) > 120}
    assert not long


def unannotated(tree: ast.Module) -> list[str]:
    """Public functions and methods (closures are private) that lack an annotation."""
    blocks = [tree, *(node for node in tree.body if isinstance(node, ast.ClassDef))]
    functions = [f for block in blocks for f in block.body if isinstance(f, ast.FunctionDef)]
    missing = []
    for f in functions:
        if f.name.startswith("_") and f.name not in ("__init__", "__call__"):
            continue
        arguments = [*f.args.posonlyargs, *f.args.args, *f.args.kwonlyargs]
        bare = [a.arg for a in arguments if a.annotation is None and a.arg not in ("self", "cls")]
        bare += ["return"] if f.returns is None and f.name != "__init__" else []
        missing += [f"{f.name}({', '.join(bare)}) line {f.lineno}"] if bare else []
    return missing


def test_the_annotation_check_sees_a_gap():
    assert unannotated(ast.parse("def f(x): ...")) == ["f(x, return) line 1"]


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_public_functions_are_annotated(path: Path):
    assert unannotated(ast.parse(path.read_text())) == []
