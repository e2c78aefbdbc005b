"""What README and tutorials tell people to type and to write works."""

import json
import re
import types
from pathlib import Path
from typing import Any

import pytest

from compute_service import registry
from compute_service.definition import TaskDefinition
from compute_service.execution import execute
from compute_service.interrupts import Interrupts
from compute_service.job import Job
from compute_service.sdk import MARK
from contracts.status import Outcome
from gateway.submissions import TaskSubmission, parse

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
TUTORIAL = ROOT / "docs" / "tutorial" / "your-own-task.md"
PAGES = [README, ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
SUBMISSION = re.compile(r"/tasks/(\w+)/jobs\b[^']*(?:'[^'{]*'[^']*)*-d '(.*?)'", re.DOTALL)
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of *language*."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)


def run(page: Path) -> types.ModuleType:
    """All Python blocks of *page*, one after the other, as one module."""
    module = types.ModuleType(page.stem.replace("-", "_"))
    for block in blocks(page, "python"):
        exec(compile(block, str(page), "exec"), module.__dict__)  # noqa: S102 -- our own pages
    return module


def tasks_of(module: types.ModuleType) -> list[TaskDefinition]:
    """The tasks that *module* defines."""
    return [
        found for member in vars(module).values() if isinstance(found := getattr(member, MARK, None), TaskDefinition)
    ]


def attempt(task: TaskDefinition, params: dict[str, Any], number: int = 1) -> Any:
    """One attempt in this process, as the child would make it."""
    return execute(task, params, Job(attempt=number), Interrupts())


@pytest.mark.parametrize("page", [README, TUTORIAL], ids=["README", "tutorial"])
def test_tasks_of_the_page_run_with_their_example(page: Path) -> None:
    """Every task that a page defines succeeds with the example that it gives."""
    tasks = tasks_of(run(page))
    assert tasks
    for task in tasks:
        outcome = attempt(task, task.descriptor.example)
        assert outcome.outcome is Outcome.SUCCEEDED, (task.descriptor.name, outcome.error)


def test_tests_in_the_tutorial_pass() -> None:
    """The tutorial's own test functions pass."""
    tests = [member for name, member in vars(run(TUTORIAL)).items() if name.startswith("test_")]
    assert tests
    for test in tests:
        test()


def test_tutorial_says_what_happens() -> None:
    """Results, refusals and retries are as the tutorial's sentences say."""
    tasks = {task.descriptor.name: task for task in tasks_of(run(TUTORIAL))}
    assert attempt(tasks["count_words"], {"texts": ["to be or not to be"], "top": 2}).result == {"to": 2, "be": 2}
    assert attempt(tasks["find_word"], {"text": "to be", "word": "or"}).error.kind == "invalid_params"
    again = attempt(tasks["unsteady"], {"attempts_needed": 2})
    assert (again.retriable, again.retry_after_seconds) == (True, 0.5)
    assert attempt(tasks["unsteady"], {"attempts_needed": 2}, number=2).result == 2


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_submissions_are_what_the_page_says(page: Path) -> None:
    """Each curl submission is JSON that fits its task, or is refused where the page says so."""
    known = registry.load({"TASK_MODULES": registry.DEFAULT_MODULES})
    for block in blocks(page, "sh"):
        for name, body in SUBMISSION.findall(block):
            params = parse(TaskSubmission, body.encode()).params
            task = known.get(name)
            assert task is not None
            wrong = 'weight_kg": -1' in body
            assert (attempt_kind(task, params) == "invalid_params") is wrong, body


def attempt_kind(task: TaskDefinition, params: dict[str, Any]) -> str | None:
    """Why *params* fail validation; nothing is run."""
    try:
        task.params.model_validate(params)
    except ValueError:
        return "invalid_params"
    return None


def test_some_submissions_were_found() -> None:
    """The pattern still finds the submissions, so the test above can fail."""
    assert len(SUBMISSION.findall(README.read_text())) == 1
    assert len(SUBMISSION.findall((ROOT / "docs/tutorial/first-job.md").read_text())) == 4


def test_result_in_the_readme_is_right() -> None:
    """The README shows the result that its first job has."""
    text = README.read_text()
    ((name, body),) = SUBMISSION.findall(text)
    task = registry.load({}).get(name)
    assert task is not None
    shown = re.search(r"The result is `(\{.*?\})`", text)
    assert shown is not None
    assert json.loads(shown[1]) == attempt(task, json.loads(body)["params"]).result


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_make_targets_exist(page: Path) -> None:
    """Every `make` command on a page is a target of the Makefile."""
    targets = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:^|`|[A-Z_]=\S* )make ([a-z-]+)", page.read_text(), re.MULTILINE))
    assert named <= targets


@pytest.mark.parametrize("page", [README, ROOT / "CHANGELOG.md"], ids=["README", "CHANGELOG"])
def test_links_lead_somewhere(page: Path) -> None:
    """Relative links of the pages outside of docs/ (which mkdocs checks) name files and headings that exist."""
    for target in re.findall(r"\]\((?!https?://)([^)]+)\)", page.read_text()):
        path, _, anchor = target.partition("#")
        assert (ROOT / path).is_file(), target
        headings = re.findall(r"^#+ (.*)$", (ROOT / path).read_text(), re.MULTILINE) if anchor else []
        assert not anchor or anchor in {re.sub(r"[^a-z0-9]+", "-", heading.lower()) for heading in headings}, target


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_files_that_are_named_exist(page: Path) -> None:
    """A path in backticks that begins with one of our folders is there."""
    folders = "contracts|gateway|compute_service|results_service|client|local_stack|bench|examples|tests|docs"
    for path in re.findall(rf"[`/@ ]((?:{folders})/[\w./-]*\w)", page.read_text()):
        assert (ROOT / path).exists() or path == "bench/results", path
