"""What is installed: the extras, the recipe for conda, the archives, and what the metadata claim."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

from peers import needs_heavy

import fastbp

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
FOR_DEVELOPERS = {"test", "peers", "heavy", "tables", "docs", "dev"}
CI = (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def named(extra: str) -> set[str]:
    """The extras that an extra takes in by their names."""
    found = [re.fullmatch(r"fastbp\[(.*)\]", one) for one in EXTRAS[extra]]
    return {name.strip() for one in found if one for name in one[1].split(",")}


def test_all_is_all_that_users_may_want() -> None:
    assert named("all") == set(EXTRAS) - FOR_DEVELOPERS - {"all"}
    assert len(EXTRAS["all"]) == 1


def test_the_tests_have_all_extras_but_the_heavy_ones() -> None:
    assert named("test") | named("heavy") >= named("all")


def test_what_errors_say_to_install_is_an_extra() -> None:
    code = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "fastbp").rglob("*.py"))
    said = set(re.findall(r"fastbp\[([a-z]+)\]", code))
    assert said
    assert said <= set(EXTRAS)


def requirement(text: str) -> tuple[str, str]:
    """(name, versions) of a requirement."""
    found = re.fullmatch(r"([\w-]+)\s*(.*)", text)
    assert found
    return found[1], found[2]


def test_the_recipe_for_conda_needs_what_the_project_needs() -> None:
    text = (ROOT / "conda" / "meta.yaml").read_text(encoding="utf-8")
    assert "never built" in text.splitlines()[0]
    part = text.partition("  run:\n")[2].partition("\ntest:")[0]
    run = dict(requirement(line.strip()[2:]) for line in part.splitlines() if line.strip())
    assert run.pop("python") == PROJECT["requires-python"]
    assert run == dict(requirement(one) for one in PROJECT["dependencies"])
    assert f'version = "{fastbp.__version__}"' in text
    assert f"fastbp = {PROJECT['scripts']['fastbp']}" in text


def test_the_citation_has_the_version_and_the_authors_of_the_project() -> None:
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {fastbp.__version__}\n" in text
    assert re.findall(r"  - name: (.*)", text) == [one["name"] for one in PROJECT["authors"]]


def test_the_metadata_claim_what_was_tried() -> None:
    """`.ci/run` looks for these versions of Python, and runs what it finds of them."""
    claimed = {one.rpartition(":: ")[2] for one in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", one)}
    tried = re.search(r"^for version in ([\d. ]+); do$", CI, flags=re.MULTILINE)
    assert tried
    assert claimed <= set(tried[1].split())
    assert "3.11" in claimed
    systems = {one for one in PROJECT["classifiers"] if one.startswith("Operating System")}
    assert systems == {"Operating System :: POSIX :: Linux"}


@needs_heavy("build", "hatchling")
def test_wheel_and_sdist_hold_what_they_should(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    (wheel,), (sdist,) = tmp_path.glob("*.whl"), tmp_path.glob("*.tar.gz")
    inside = set(zipfile.ZipFile(wheel).namelist())
    for name in ("py.typed", "__init__.pyi", "data/digits.npz", "many/page/page.js", "many/page/page.css"):
        assert f"fastbp/{name}" in inside
    assert all(name.startswith(("fastbp/", "fastbp-")) for name in inside)
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "fastbp/py.typed", "tests/test_packaging.py"} <= names


def test_lint_and_types_are_checked_for_the_oldest_and_the_newest() -> None:
    loop = CI.partition('for target in py311 "$newest"; do\n')[2].partition("\ndone\n")[0]
    assert 'ruff check --target-version "$target"' in loop
    assert "mypy --python-version" in loop
    assert PROJECT["requires-python"] == ">=3.11"
