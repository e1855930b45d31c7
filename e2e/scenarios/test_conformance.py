"""The fake API server's conformance file against the real one, so that component tests stand on what is true."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from headrace_cluster import Cluster

pytestmark = [pytest.mark.cluster]
FILE = "tests/component/kube/test_conformance.py"


def test_fake_and_real_api_server_agree(cluster: Cluster) -> None:
    root = Path(__file__).resolve().parents[2]
    env = {**os.environ, "HEADRACE_TEST_KUBECONFIG": str(cluster.kubeconfig)}
    command = [sys.executable, "-m", "pytest", FILE, "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout[-4000:]
    assert "skipped" not in done.stdout.splitlines()[-1]
