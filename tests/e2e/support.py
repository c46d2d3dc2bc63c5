"""The real Prometheus and the real Alertmanager on free ports of loopback, and where alerts arrive."""

from __future__ import annotations

import functools
import importlib.util
import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Self

import httpx
import yaml

from tests import support
from tests.support import PATIENCE, free_port, require

ROOT = Path(__file__).parents[2]
until = functools.partial(support.until, every=0.2)  # what is asked here has more to do than to answer


def script(path):
    """The module of a script of deploy/, which is in no package."""
    spec = importlib.util.spec_from_file_location(f"deploy_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where its dataclasses look for it
    spec.loader.exec_module(module)
    return module


class Program:
    """A server in a process of its own, until the `with` ends."""

    def __init__(self, *command, ready, log):
        self._log = log.open("wb")
        self._process = subprocess.Popen([str(part) for part in command], stdout=self._log, stderr=self._log)
        try:
            until(lambda: self._answers(ready), PATIENCE, log.read_text)
        except AssertionError:
            self.__exit__()
            raise

    def _answers(self, url):
        try:
            return httpx.get(url, trust_env=False, timeout=5).is_success
        except httpx.TransportError:
            return False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_):
        self._process.terminate()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(PATIENCE)
        self._log.close()


class Prometheus(Program):
    """Debian's Prometheus, with our rules; it scrapes what `watch` names."""

    def __init__(self, folder, *, rules="", alertmanager=None, every="1s"):
        path = require("prometheus", "apt-get install prometheus")
        self.url = f"http://127.0.0.1:{free_port()}"
        self._targets, self._watched = folder / "targets.json", {}
        self._targets.write_text("[]")
        (folder / "rules.yml").write_text(rules or "groups: []")
        config = {
            "global": {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": "1s"},
            "rule_files": [str(folder / "rules.yml")],
            "scrape_configs": [
                {
                    "job_name": "by-file",
                    "file_sd_configs": [{"files": [str(self._targets)], "refresh_interval": "1s"}],
                }
            ],
        }
        if alertmanager:
            config["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": [alertmanager.address]}]}]}
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        super().__init__(
            path,
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'tsdb'}",
            f"--web.listen-address={self.url.removeprefix('http://')}",
            "--enable-feature=exemplar-storage",
            "--rules.alert.resend-delay=1s",
            "--log.level=warn",
            ready=f"{self.url}/-/ready",
            log=folder / "prometheus.log",
        )
        self._client = httpx.Client(base_url=self.url, trust_env=False, timeout=PATIENCE)

    def watch(self, **jobs):
        """Scrape these services, by job; what was said of other jobs stays."""
        self._watched.update(jobs)
        told = [
            {"targets": [service.url.removeprefix("http://") for service in services], "labels": {"job": job}}
            for job, services in self._watched.items()
        ]
        draft = self._targets.with_suffix(".draft")
        draft.write_text(json.dumps(told))
        draft.replace(self._targets)

    def query(self, expression):
        """The series of an instant query, as Prometheus tells them."""
        return self._ask("/api/v1/query", query=expression)["result"]

    def query_range(self, expression, *, seconds=20, step=1):
        end = time.time()
        asked = {"query": expression, "start": end - seconds, "end": end, "step": step}
        return self._ask("/api/v1/query_range", **asked)["result"]

    def exemplars(self, expression, seconds=60):
        end = time.time()
        return self._ask("/api/v1/query_exemplars", query=expression, start=end - seconds, end=end)

    def _ask(self, path, **given):
        answer = self._client.post(path, data=given).json()
        assert answer["status"] == "success", f"{answer['error']}\n{given['query']}"
        return answer["data"]

    def __exit__(self, *_):
        if hasattr(self, "_client"):
            self._client.close()
        super().__exit__()


class Alertmanager(Program):
    """Debian's Alertmanager with our configuration, but without its waits, and telling `receiver`."""

    def __init__(self, folder, receiver):
        path = require("prometheus-alertmanager", "apt-get install prometheus-alertmanager")
        config = yaml.safe_load((ROOT / "deploy/alertmanager/alertmanager.yml").read_text())
        for route in (config["route"], *config["route"]["routes"]):
            route |= {"group_wait": "0s", "group_interval": "1s"}
        config["receivers"][0]["webhook_configs"][0]["url"] = receiver.url
        (folder / "alertmanager.yml").write_text(yaml.safe_dump(config))
        self.address = f"127.0.0.1:{free_port()}"
        super().__init__(
            path,
            f"--config.file={folder / 'alertmanager.yml'}",
            f"--storage.path={folder / 'alertmanager'}",
            f"--web.listen-address={self.address}",
            "--cluster.listen-address=",
            "--log.level=warn",
            ready=f"http://{self.address}/-/ready",
            log=folder / "alertmanager.log",
        )

    def silenced(self):
        """Name and job of every alert that fires and is not told, since another one is."""
        asked = {"active": "false", "inhibited": "true"}
        alerts = httpx.get(f"http://{self.address}/api/v2/alerts", params=asked, trust_env=False).json()
        return {(alert["labels"]["alertname"], alert["labels"].get("job", "")) for alert in alerts}


class Inbox:
    """The demo's receiver of alerts (deploy/alertmanager/receiver.py), in a thread of ours."""

    def __enter__(self) -> Self:
        receiver = script(ROOT / "deploy/alertmanager/receiver.py")
        self._server = receiver.Receiver(("127.0.0.1", 0), ROOT / "deploy/runbook.md")
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def told(self, name, job):
        """What was told of an alert: `firing`, then `resolved`; `arrived` counts everything that was told."""
        numbered = [{**alert, "arrived": number} for number, alert in enumerate(reversed(self._server.alerts()))]
        return [alert for alert in numbered if (alert["alertname"], alert.get("job", "")) == (name, job)]
