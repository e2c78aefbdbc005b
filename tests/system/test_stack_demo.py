"""`make demo` with a stack of its own."""

import os
import subprocess
import sys
from pathlib import Path

from running_stack import OWN_VARIABLES, ROOT

from local_stack import ports

DEMO_SECONDS = 180


def test_the_demo_comes_out_right(tmp_path: Path):
    """Every job, every score and every mail of the demo is as it has to be, and its stack is gone afterwards."""
    port = ports.pick()
    environment = {name: value for name, value in os.environ.items() if name not in OWN_VARIABLES}
    ended = subprocess.run(
        [sys.executable, "-m", "examples.demo"],
        cwd=ROOT,
        env={**environment, "PORT": str(port), "LOCAL_DIR": str(tmp_path / "local")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEMO_SECONDS,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    said = ended.stdout
    assert "Everything came out right" in said
    assert "HBA_HUMAN and sp|P01942|HBA_MOUSE: score" in said
    assert said.count("  To: ada+") == 5, said
    assert "running" in said
    assert ports.is_free(port)
