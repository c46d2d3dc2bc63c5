"""Another gateway to be measured beside ours: LiteLLM's proxy, in an environment of its own (`make bench-peers`)."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from tests.benchmarks.measure import Server, free_port, until_open
from tests.benchmarks.service import KEY

ENVIRONMENT = Path(__file__).parent / ".peers"
CONFIG = """
model_list:
  - model_name: {model}
    litellm_params: {{model: "openai/{model}", api_base: "{url}/v1", api_key: "none"}}
litellm_settings: {{telemetry: false}}
"""


class _LiteLLM(Server):
    def __init__(self, upstream: str, model: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="litellm-")
        config = Path(self._folder.name) / "config.yaml"
        config.write_text(CONFIG.format(model=model, url=upstream), encoding="utf-8")
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        command = [ENVIRONMENT / "bin/litellm", "--config", config, "--host", "127.0.0.1", "--port", str(self.port)]
        environ = {**os.environ, "LITELLM_MASTER_KEY": KEY, "LITELLM_LOG": "ERROR", "NO_PROXY": "127.0.0.1"}
        self.process = subprocess.Popen(
            command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=self._folder.name
        )
        until_open(self.port, self.process)

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        self._folder.cleanup()


def litellm(upstream: str, model: str) -> Server:
    """Start LiteLLM's proxy in front of `upstream`."""
    if not (ENVIRONMENT / "bin/litellm").exists():
        raise FileNotFoundError("LiteLLM is not installed: make bench-peers does that")
    return _LiteLLM(upstream, model)
