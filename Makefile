# Every target makes .venv by itself; nothing is needed but make and Python 3.11 or newer.
#   make fit      fit a neuron to the recording that ships with nitime, write runs/<name>/report.html
#   make fit-sim  fit it by simulation with three losses, from a poor start, and compare
#   make test     all tests
#   make check    what CI runs
# Another interpreter: make fit PYTHON=python3.12. More arguments for the commands: make fit ARGS="--quiet".

PYTHON ?= python3
ARGS ?=
BIN := .venv/bin
CACHE := JAX_COMPILATION_CACHE_DIR=$(CURDIR)/.cache/jax JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0 \
	JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES=-1

.PHONY: fit fit-sim test lint format types contracts docstrings doctests examples docs pictures check clean help
.DEFAULT_GOAL := help

help:
	@sed -n '1,/^$$/s/^# \{0,1\}//p' Makefile

define need_python
@command -v $(PYTHON) >/dev/null || { echo "roughspike needs Python 3.11 or newer, and there is no '$(PYTHON)' here: \
install it, or name another one: make PYTHON=/path/to/python3"; exit 1; }
endef

.venv/.ready-run: pyproject.toml tools/environment.py
	$(need_python)
	@$(PYTHON) tools/environment.py run

.venv/.ready-dev: pyproject.toml tools/environment.py
	$(need_python)
	@$(PYTHON) tools/environment.py dev

fit: .venv/.ready-run
	@$(BIN)/roughspike fit $(ARGS)

fit-sim: .venv/.ready-run
	@$(BIN)/roughspike fit-sim $(ARGS)

test: .venv/.ready-dev
	@$(CACHE) $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadscope $(ARGS)

lint: .venv/.ready-dev
	$(BIN)/ruff check .

format: .venv/.ready-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: .venv/.ready-dev
	$(BIN)/pyright

contracts: .venv/.ready-dev
	$(BIN)/lint-imports

docstrings: .venv/.ready-dev
	$(BIN)/interrogate src

doctests: .venv/.ready-dev
	@$(CACHE) $(BIN)/python -m pytest --doctest-modules src

examples: .venv/.ready-dev
	@export $(CACHE) MPLBACKEND=agg; printf '%s\n' examples/*.py | xargs -P 2 -I {} sh -c 'folder=$$(mktemp -d); \
	(cd "$$folder" && "$(CURDIR)/$(BIN)/python" "$(CURDIR)/{}" >log 2>&1); code=$$?; \
	[ $$code = 0 ] && say= || say=" FAILED with code $$code"; { echo "{}$$say"; cat "$$folder/log"; }; \
	rm -r "$$folder"; exit $$code'

docs: .venv/.ready-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

pictures: .venv/.ready-dev
	$(BIN)/python docs/pictures.py
	$(BIN)/python docs/noise_pictures.py
	$(BIN)/python docs/kernel_pictures.py

check:
	.ci/run

clean:
	rm -rf .cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis build dist site
