"""The files around the package agree with it: workflow, hooks, templates and citation."""

from __future__ import annotations

import re
import sys
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from tests.paths import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def read(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def jobs() -> list[dict[str, Any]]:
    """The combinations of the matrix, as GitHub makes them."""
    matrix = dict(read(".github/workflows/tests.yml")["jobs"]["test"]["strategy"]["matrix"])
    include = matrix.pop("include")
    assert [len(values) for key, values in matrix.items() if key != "python"] == [1, 1]
    base = {key: values[0] for key, values in matrix.items() if key != "python"}
    # Each of `include` sets values of its own, so that it is a further combination.
    return [{**base, "python": python} for python in matrix["python"]] + include


def test_the_workflow_tests_every_python_that_is_promised() -> None:
    tested = {job["python"] for job in jobs()}
    promised = {text.rpartition(" ")[2] for text in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", text)}
    assert tested == promised
    assert all(SpecifierSet(PROJECT["requires-python"]).contains(version) for version in tested)
    assert not SpecifierSet(PROJECT["requires-python"]).contains("3.9")


def test_the_oldest_jobs_install_the_lower_bounds() -> None:
    assert {job["resolution"] for job in jobs() if job["versions"] == "oldest"} == {"lowest-direct"}
    for text in PROJECT["dependencies"]:
        requirement = Requirement(text)
        assert {each.operator for each in requirement.specifier} <= {">=", "=="}, text
        assert len(requirement.specifier) == 1, text


def test_only_a_job_with_an_unreleased_dependency_may_fail() -> None:
    allowed = [job for job in jobs() if job.get("allowed_to_fail")]
    assert len(allowed) == 1
    assert allowed == [job for job in jobs() if "git+" in str(job)]


def test_the_style_job_and_the_hooks_run_the_tools_of_the_script() -> None:
    script = set(re.findall(r"python -m (ruff check|ruff format|mypy)", (ROOT / ".ci" / "run").read_text()))
    steps = " ".join(step.get("run", "") for step in read(".github/workflows/tests.yml")["jobs"]["style"]["steps"])
    hooks = " ".join(hook["entry"] for hook in read(".pre-commit-config.yaml")["repos"][0]["hooks"])
    assert len(script) == 3
    for tool in script:
        assert f"python -m {tool}" in steps
        assert f"python -m {tool}" in hooks


def test_the_citation_is_of_this_version() -> None:
    cited = read("CITATION.cff")
    assert (cited["title"], str(cited["version"]), cited["license"]) == (
        PROJECT["name"],
        PROJECT["version"],
        PROJECT["license"],
    )
    assert {"cff-version", "message", "authors"} <= cited.keys()
    (paper,) = cited["references"]
    assert "2212.04994" in paper["url"]


@pytest.mark.parametrize(
    "path", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")), ids=lambda path: path.stem
)
def test_an_issue_template_is_a_form(path: Any) -> None:
    form = read(str(path.relative_to(ROOT)))
    assert {"name", "description", "body"} <= form.keys()
    ids = [part["id"] for part in form["body"] if part["type"] != "markdown"]
    assert len(ids) == len(set(ids)) > 0


def test_the_source_distribution_holds_the_pages() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    kept = tomllib.loads(text)["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    assert {path.name for path in ROOT.glob("*.md")} | {"docs", "notebooks", "CITATION.cff"} <= set(kept)
