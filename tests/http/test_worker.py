"""`forebay worker --ops-port`: works on jobs, can be scraped and asked whether it is well, and serves nobody."""

import contextlib
import socket
import subprocess
import sys

import httpx
import pytest

from tests.process import SIMULATED, Service
from tests.support import until

REPORT = {"kind": "report", "input": {"question": "What is case C-1042 about?", "model": "sim:tokens=5,interval_ms=1"}}


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


@contextlib.contextmanager
def worker(folder, port):
    command = [sys.executable, "-m", "service", "worker", "--config", str(folder / "forebay.toml")]
    options = ["--data-dir", str(folder / "data"), "--ops-port", str(port)]
    process = subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def answered(url, **request):
    """Return the answer at `url`, None as long as nobody is there."""
    with contextlib.suppress(httpx.TransportError):
        return httpx.request(request.pop("method", "GET"), url, timeout=30, **request)
    return None


def test_a_worker_with_a_port_for_operations_can_be_scraped_and_serves_nobody(tmp_path):
    with Service(tmp_path, SIMULATED) as service, service.client() as client:
        port = free_port()
        with worker(tmp_path, port) as process:
            base = f"http://127.0.0.1:{port}"
            assert until(lambda: answered(f"{base}/readyz")).status_code == 200
            assert "forebay_concurrency_limit" in answered(f"{base}/metrics").text
            assert answered(f"{base}/chat/stream", method="POST", json={}).status_code == 404
            assert answered(f"{base}/jobs").status_code == 404
            done = 'forebay_jobs_total{kind="report",outcome="completed"} 0.0'
            assert done in answered(f"{base}/metrics").text

            def one_was_done_by_it():
                client.post("/jobs", json=REPORT)
                return done not in answered(f"{base}/metrics").text

            until(one_was_done_by_it)
            process.terminate()
            assert process.wait(60) == 0


def test_a_port_that_is_taken_is_told_in_a_line(tmp_path):
    (tmp_path / "forebay.toml").write_text(SIMULATED)
    with socket.create_server(("127.0.0.1", 0)) as taken, worker(tmp_path, taken.getsockname()[1]) as process:
        said = process.communicate(timeout=60)[1]
        assert process.returncode == 1
        assert "Address already in use. Another one can be given with --ops-port" in said


@pytest.mark.parametrize("port", ["0", "70000", "x"])
def test_a_port_that_is_none_is_refused(tmp_path, port):
    with worker(tmp_path, port) as process:
        process.communicate(timeout=60)
        assert process.returncode == 2
