"""The API of the whole stack, as its own document describes it and as a person finds it."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright
from running_stack import RunningStack

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking")
SCHEMATHESIS_SECONDS = 280


def test_schemathesis_finds_nothing(stack: RunningStack, tmp_path: Path) -> None:
    """No generated request makes a server error or an answer that the document does not describe.

    Left out is one check, that all data which fits the document is accepted: Swagger 2.0 cannot say
    what POST /jobs wants of each task's params, nor that an idempotency key was used before.
    """
    found = subprocess.run(
        [
            Path(sys.executable).with_name("schemathesis"),
            "run",
            f"{stack.api}/swagger.json",
            "--max-examples=25",
            "--seed=1",
            "--exclude-checks=positive_data_acceptance",
            "--suppress-health-check=all",
            "--no-color",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=SCHEMATHESIS_SECONDS,
        check=False,
    )
    assert found.returncode == 0, found.stdout


def test_a_person_submits_and_fetches_in_swagger_ui(stack: RunningStack) -> None:
    """Open the page, press Execute, copy the pid into the next form: no reading, nothing from other hosts."""
    assert BROWSER, "there is no browser on this machine: apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=list(QUIET))
        page = browser.new_page()
        hosts: set[str] = set()
        page.on("request", lambda request: hosts.add(request.url.split("/")[2]))
        page.goto(f"{stack.api}/")
        for task in ("bmi", "arithmetic", "wait", "align_sequences"):
            assert page.locator(f"#operations-Submit_a_job-submit_{task}").count() == 1
        form = page.locator("#operations-Submit_a_job-submit_bmi")
        form.locator(".opblock-summary").click()
        form.locator(".execute").click()
        answer = form.locator(".live-responses-table .response .highlight-code").inner_text()
        pid = re.search(r'"pid": "([^"]+)"', answer)
        assert pid
        form.locator(".opblock-summary").click()
        form = page.locator("#operations-Jobs-get_job")
        form.locator(".opblock-summary").click()
        form.locator("input[placeholder=pid]").fill(pid[1])
        form.locator(".execute").click()
        job = form.locator(".live-responses-table .response .highlight-code").inner_text()
        assert f'"pid": "{pid[1]}"' in job
        assert '"task": "bmi"' in job
        assert hosts == {stack.url.removeprefix("http://")}
        browser.close()
