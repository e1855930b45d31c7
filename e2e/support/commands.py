"""Headrace's own command line, as a person runs it."""

import os
import subprocess
import sys
from pathlib import Path


def headrace(*args: str, kubeconfig: Path | None = None) -> str:
    """What `headrace ARGS` prints; fails with it where the exit status is not 0."""
    env = {**os.environ, **({"KUBECONFIG": str(kubeconfig)} if kubeconfig else {})}
    command = [str(Path(sys.executable).with_name("headrace")), *args]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
