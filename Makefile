# The same commands on a laptop and in CI.
PYTHON ?= python3
PIP = .venv/bin/pip --disable-pip-version-check -q

.PHONY: run setup demo test lock lint proof bench bench-peers

run: setup
	@.venv/bin/forebay serve

setup: .venv/.installed

# The case assistant from end to end, for a person to watch.
demo: setup
	@.venv/bin/python deploy/demo/case_assistant.py $(ARGS)

.venv/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Forebay needs Python 3.11 or newer")'
	@test -x .venv/bin/python || $(PYTHON) -m venv .venv
	$(PIP) install --require-hashes --no-deps -r requirements.lock
	$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

.venv/.installed-dev: requirements-dev.lock .venv/.installed
	$(PIP) install --require-hashes --no-deps -r requirements-dev.lock
	@touch $@

test: .venv/.installed-dev
	@.venv/bin/python -m pytest $(ARGS)

# The full numbers, for hours: every crash, every storm, every example that chance finds.
proof: .venv/.installed-dev
	@FOREBAY_PROOF=1 .venv/bin/python -m pytest -o faulthandler_timeout=0 $(ARGS)

# Ratios against references, on tests/benchmarks/RESULTS.md. ARGS="streaming relay" runs some.
bench: .venv/.installed-dev
	@.venv/bin/python -m tests.benchmarks $(ARGS)

# The relay beside LiteLLM, which has an environment of its own: it needs other versions of almost everything.
PEERS = tests/benchmarks/.peers
bench-peers: .venv/.installed-dev $(PEERS)/.installed
	@.venv/bin/python -m tests.benchmarks peers

$(PEERS)/.installed: tests/benchmarks/peers.txt
	@test -x $(PEERS)/bin/python || $(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/pip --disable-pip-version-check -q install --require-hashes --no-deps -r $<
	@touch $@

lint: .venv/.installed-dev
	@.venv/bin/ruff check . && .venv/bin/ruff format --check . && .venv/bin/mypy && .venv/bin/lint-imports

lock:
	@test -x .venv/bin/uv || (test -x .venv/bin/python || $(PYTHON) -m venv .venv; $(PIP) install uv)
	.venv/bin/uv pip compile -q --universal --generate-hashes --no-emit-index-url --no-annotate --no-header pyproject.toml -o requirements.lock
	.venv/bin/uv pip compile -q --universal --generate-hashes --no-emit-index-url --no-annotate --no-header --group dev pyproject.toml -o requirements-dev.lock -c requirements.lock
