# The two commands a newcomer needs: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-slow fuzz mutants lint bench clean

demo: .venv/demo-installed
	$(BIN)/histomri demo histomri-demo

test: .venv/test-installed
	$(BIN)/python -m histomri_dev test

test-slow: .venv/test-installed
	$(BIN)/python -m pytest -m slow

mutants: .venv/test-installed
	$(BIN)/python tests/mutants.py

fuzz: .venv/test-installed
	$(BIN)/python -m histomri_dev fuzz

bench: .venv/test-installed
	for script in benchmarks/bench_*.py; do $(BIN)/python $$script || exit 1; done

clean:
	rm -rf .venv build dist *.egg-info histomri-demo

$(BIN)/python:
	$(PYTHON) -c "import sys; sys.exit('histomri needs Python 3.11 or newer: make PYTHON=python3.11 ...' if sys.version_info < (3, 11) else 0)"
	$(PYTHON) -m venv .venv

.venv/demo-installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	touch $@

.venv/test-installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	touch $@
