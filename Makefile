# Each target makes .venv if it is missing, installs what it needs from constraints.txt, and runs.
# `make gpu` alone installs nothing: it uses the Python that is active, on a machine with a CUDA GPU.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# A process of tests for each core, but each loads every library: no more than four. A file stays whole: its tests share what is slow.
WORKERS ?= auto
PYTEST = $(BIN)/python -m pytest -n $(WORKERS) --maxprocesses 4 --dist loadfile

.PHONY: help conformance demo test test-docs test-matrix test-slow check typing format docs generate bench gpu gpu-rehearsal constraints clean
.PRECIOUS: $(VENV)/.installed-%

help:
	@echo "make conformance  the conformance matrix over every library here; writes conformance-output/"
	@echo "make demo    the main job on real photographs; writes demo-output/"
	@echo "make test    the test suite, but for the three that follow"
	@echo "make test-docs    what the docs and the docstrings show is run"
	@echo "make test-matrix  whole enumerations: every source, target and permission"
	@echo "make test-slow    what takes long: browsers, compilers, runs that are killed and resumed"
	@echo "make check   format, lint, types, structure"
	@echo "make typing  the types, and the programs that misuse them"
	@echo "make bench   the speed table, into benchmarks/results/"
	@echo "make docs    the documentation, into build/docs/; rewrites its generated parts first"
	@echo "make generate  only those parts, in README.md and docs/"
	@echo "make gpu     everything that needs a GPU, with the active Python; installs nothing"
	@echo "make gpu-rehearsal  the same on a CUDA device that is emulated on the processor, killed and resumed"

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet -c constraints.txt pip setuptools

$(VENV)/.installed-%: pyproject.toml conformance/pyproject.toml constraints.txt $(wildcard interop/native/*.[ch]) | $(BIN)/python
	$(PIP) install --quiet -c constraints.txt -e '.[$*]' $(if $(filter demo,$*),,-e ./conformance)
	@touch $@

# The page is written also when there are findings; their exit status is the target's.
conformance: $(VENV)/.installed-conformance
	rm -rf conformance-output
	status=0; $(BIN)/interop conformance run --output conformance-output || status=$$?; \
	if [ $$status -lt 2 ]; then \
		$(BIN)/interop conformance report conformance-output/*.json.gz --html conformance-output/index.html --markdown conformance-output/summary.md || test $$? -eq 1 || exit 2; \
	fi; exit $$status

demo: $(VENV)/.installed-demo
	$(BIN)/python examples/image_pipeline.py --output demo-output

test: $(VENV)/.installed-test
	$(PYTEST) -m "not slow and not matrix" tests --ignore=tests/docs

# The packages' doctests are all that pytest finds in them.
test-docs: $(VENV)/.installed-test
	$(PYTEST) -m "not slow and not matrix" tests/docs interop conformance benchmarks tools

test-matrix: $(VENV)/.installed-test
	$(PYTEST) -m matrix tests

test-slow: $(VENV)/.installed-test
	$(PYTEST) -m "slow and not matrix" tests

check: $(VENV)/.installed-dev typing
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/python -m pytest -q tests/test_boundaries.py

typing: $(VENV)/.installed-dev
	$(BIN)/mypy

format: $(VENV)/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(VENV)/.installed-docs
	$(BIN)/python -m docs.generate
	$(BIN)/sphinx-build -W --keep-going -q -b html docs build/docs

generate: $(VENV)/.installed-test
	$(BIN)/python -m docs.generate

bench: $(VENV)/.installed-test
	$(BIN)/python -m benchmarks.run --output benchmarks/results/cpu.json

gpu:
	PYTHONPATH=.$${PYTHONPATH:+:$$PYTHONPATH} $(PYTHON) -m tools.gpu

# On the emulated device; with an environment of one's own: python -m tools.rehearsal
gpu-rehearsal: $(VENV)/.installed-test
	$(BIN)/python -m tools.rehearsal

constraints: $(VENV)/.installed-dev $(VENV)/.installed-demo $(VENV)/.installed-docs
	(echo "# What the project is developed and tested with; regenerate with 'make constraints'."; \
	 $(PIP) freeze --all --exclude array-interop --exclude array-interop-conformance | sed 's/+cpu$$//' | LC_ALL=C sort -f) > constraints.txt

clean:
	rm -rf $(VENV) build *.egg-info conformance/build conformance/*.egg-info demo-output conformance-output
