# `make demo` and `make test` set everything up first; a second call installs nothing.
PYTHON ?= python3
BIN := .venv/bin
WORKERS ?= 3
export SAM2_BUILD_CUDA := 0

.PHONY: setup demo cluster test tests-alone faults scale lint lock

setup: .venv/installed

# Bytecode is compiled once: where Python may not write it, each process would do it again, which
# more than doubles the seconds that imports take.
.venv/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.11")'
	test -x $(BIN)/uv || { $(PYTHON) -m venv .venv && $(BIN)/python -m pip install --quiet uv; }
	$(BIN)/uv pip sync --quiet --compile-bytecode --require-hashes requirements.lock --python $(BIN)/python
	$(BIN)/uv pip install --quiet --no-deps --editable . --python $(BIN)/python
	touch $@

demo: setup
	$(BIN)/adaptivedrag demo

# A cluster of two workers in a folder of its own does the demo's job, and ends; its results stay.
cluster: setup
	@set -eu; unset PREFECT_API_URL PREFECT_PROFILE; adaptivedrag=$(BIN)/adaptivedrag; \
	export XDG_DATA_HOME=$$(mktemp -d) OMP_NUM_THREADS=$$((($$(nproc) + 1) / 2)); \
	chmod 711 $$XDG_DATA_HOME; \
	trap 'exit 130' INT TERM; trap '$$adaptivedrag cluster down; rm -r $$XDG_DATA_HOME' EXIT; \
	$$adaptivedrag cluster up --workers 2; \
	$$adaptivedrag demo --job-only; \
	$$adaptivedrag submit results/demo/inputs/demo.toml --shards 2 --watch

# Both at once: the types take a minute of one core.
test: setup
	$(MAKE) --jobs=2 --no-print-directory lint tests-alone

# Workers share the cores, so each has one thread. Three keep two cores busy, since some tests wait for servers.
tests-alone: export OMP_NUM_THREADS := 1
tests-alone: setup
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal

# Under 45 minutes on two cores; fills docs/reliability.md. ONLY=module, SEED=number.
SEED ?= 0
faults: setup
	PYTHONPATH=$(CURDIR):$(CURDIR)/tests $(BIN)/python tests/faults --seed $(SEED) $(if $(ONLY),--only $(ONLY))

# Under 25 minutes on two quiet cores; fills docs/scale.md.
scale: setup
	PYTHONPATH=$(CURDIR):$(CURDIR)/tests:$(CURDIR)/tests/benchmarks \
	  $(BIN)/python tests/scale --seed $(SEED) $(if $(ONLY),--only $(ONLY))

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

lock:
	$(BIN)/uv pip compile --universal --generate-hashes --no-emit-index-url --no-header \
	  --extra dev --python-version 3.11 pyproject.toml --output-file requirements.lock
