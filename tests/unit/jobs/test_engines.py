"""What the choice of an engine costs who has not chosen it."""

import subprocess
import sys


def test_who_works_on_the_embedded_engine_does_not_load_temporal():
    code = "import sys, service.cli, service.workforce; sys.exit('temporalio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
