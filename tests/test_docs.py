"""The Python of the guides runs, page by page, as it is printed."""

import re
from pathlib import Path

import pytest

import export
import wrpn_tf

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = ["integers.md", *sorted(f"guides/{path.name}" for path in (DOCS / "guides").glob("*.md"))]


def blocks(page: str) -> list[str]:
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)])
def test_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for block in blocks(page):
        block = re.sub(r"epochs=\d+", "epochs=1", block)  # Shorter; nothing else is changed.
        exec(compile(block, str(DOCS / page), "exec"), names)


def test_every_page_is_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").split("\nnav:")[1]
    listed = re.findall(r": ([\w/-]+\.md)$", navigation, re.MULTILINE)
    assert sorted(listed) == sorted(str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md"))


def test_every_public_name_is_in_the_reference():
    text = (DOCS / "reference.md").read_text(encoding="utf-8")
    listed = re.findall(r"^::: ([\w.]+)$", text, re.MULTILINE)
    names = {
        f"{package.__name__}.{name}" for package in (wrpn_tf, export) for name in package.__all__
    }
    # The shell of the programs is for them only; of `models`, what builds by name.
    assert names - set(listed) == {"wrpn_tf.command_line", "wrpn_tf.models"}
    assert len(listed) == len(set(listed))
