"""The Python blocks of the README and of the documentation run, in order, page by page, as a user would run them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import roughspike as rs

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    "README.md",
    *(
        f"docs/{name}.md"
        for name in (
            "quickstart",
            "fitting",
            "add-a-neuron",
            "signature-kernel",
            "from-diffrax",
            "networks",
            "training",
            "recurrent-networks",
            "what-a-kernel-sees",
            "cadlag-and-marcus",
            "hidden-neurons",
            "more-than-one-device",
        )
    ),
]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: str) -> list[str]:
    return BLOCK.findall((ROOT / page).read_text(encoding="utf-8"))


def names_used(source: str) -> set[str]:
    return set(re.findall(r"\brs\.(\w+)", source))


@pytest.mark.slow
@pytest.mark.plain
@pytest.mark.parametrize("page", PAGES)
def test_blocks_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("matplotlib").use("agg")
    sources = blocks(page)
    assert sources, f"{page} has no Python block"
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "__main__"}
    for k, source in enumerate(sources):
        missing = names_used(source) - set(rs.__all__)
        assert not missing, f"{page} uses {missing}, which roughspike does not have"
        exec(compile(source, f"{page}, block {k + 1}", "exec"), namespace)


def test_quickstart_is_short():
    raster, _, fit = (block.strip().splitlines() for block in blocks("docs/quickstart.md"))
    assert len([line for line in raster if line.strip()]) <= 10
    assert len([line for line in fit if line.strip()]) <= 15


def test_the_walk_through_of_training_has_at_most_forty_lines():
    (walk,) = blocks("docs/training.md")
    assert len(walk.strip().splitlines()) <= 40


def test_readme_shows_the_commands_that_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", (ROOT / "README.md").read_text(), re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"README names `make {target}`"


def test_pictures_are_small():
    for picture in (ROOT / "docs" / "images").iterdir():
        assert picture.stat().st_size < 200_000, picture.name


def test_the_site_asks_for_nothing_from_the_network():
    config = (ROOT / "mkdocs.yml").read_text()
    assert "font: false" in config and not re.search(r"https?://", config)
