"""Every code block of README.md and of the documentation runs, and every link leads somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from peers import REQUIRED
from players import BLOCK, LEFT, commands, parsed, played

from fastbp.cli.main import COMMANDS

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts)
PAGES += sorted(ROOT.glob("*.md"))
#: Pages whose Python blocks need more than an empty folder -> who runs them.
ELSEWHERE = {
    "README.md": "test_readme.py",
    "how-to/guide.md": "test_readme.py",
    "explanation/how-it-is-fast.md": "test_chapters.py",
    "explanation/precision.md": "test_readme.py",
    "how-to/distributed.md": "test_readme.py",
    "how-to/scikit-learn.md": "sklearn_api/test_in_company.py",
    "reference/formats.md": "interop/test_formats_page.py",
    "tutorial/two-roles.md": "test_chapters.py",
}


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT / "docs" if page.is_relative_to(ROOT / "docs") else ROOT))


WITH_BLOCKS = {name_of(page): page for page in PAGES if BLOCK.search(page.read_text(encoding="utf-8"))}


def test_there_are_pages() -> None:
    assert len(WITH_BLOCKS) > 15
    for name, test in ELSEWHERE.items():
        text, stem = (ROOT / "tests" / test).read_text(encoding="utf-8"), Path(name).stem
        assert stem in text or stem.replace("-", "_") in text, f"{test} runs {name}"


@pytest.mark.parametrize("name", sorted(set(WITH_BLOCKS) - set(ELSEWHERE)))
def test_the_blocks_of_a_page_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = WITH_BLOCKS[name].read_text(encoding="utf-8")
    if "import torch" in page and not REQUIRED:
        pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    played(page, name)


@pytest.mark.parametrize("name", sorted(set(WITH_BLOCKS) & set(ELSEWHERE)))
def test_the_commands_of_the_other_pages_are_known(name: str) -> None:
    for language, block, *_ in BLOCK.findall(WITH_BLOCKS[name].read_text(encoding="utf-8")):
        for line in commands(block) if language == "sh" else []:
            if line.startswith("fastbp "):
                parsed(line)
            else:
                assert line.startswith((*LEFT, "python bench.py")), line


def test_a_block_that_fails_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for language, block in (("python", "import fastbp\nfastbp.nothing"), ("sh", "rm -r x"), ("sh", "fastbp nothing")):
        with pytest.raises((AttributeError, AssertionError)):
            played(f"```{language}\n{block}\n```\n", "page")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http:", "https:")) or target == "genindex":
            continue
        path, _, heading = target.partition("#")
        to = (page.parent / path).resolve() if path else page
        assert to.exists(), f"{page.name} links to {target}"
        if heading:
            there = re.findall(r"^#+ (.*)$", to.read_text(encoding="utf-8"), flags=re.MULTILINE)
            assert heading in {re.sub(r"[^\w\- ]", "", line.lower()).strip().replace(" ", "-") for line in there}, (
                target
            )


def test_the_table_of_commands_is_whole() -> None:
    page = (ROOT / "docs" / "how-to" / "command-line.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `fastbp ([\w-]+)", page, flags=re.MULTILINE)) == set(COMMANDS)


def test_the_pages_of_the_repository_are_there() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 150
    for name in ("CONTRIBUTING.md", "RELEASING.md", "SECURITY.md", "CODE_OF_CONDUCT.md", "CITATION.cff"):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert "@" not in re.sub(r"`[^`]*`", "", text), f"{name}: no addresses"
    assert "name: fastbp contributors" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_the_table_of_the_readme_is_that_of_the_stored_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "figures"))
    import front_page

    page = (ROOT / "README.md").read_text(encoding="utf-8")
    assert page.count("x |") >= 20
    assert front_page.filled(page, front_page.stored()) == page, "run python docs/figures/front_page.py"
