# make demo: set-up, then the whole loop.   make test: set-up, then all tests.   Needs Python 3.11+, make, a C compiler.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints/py311.txt -e
ENVIRONMENT := OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1 TOKENIZERS_PARALLELISM=false

.PHONY: setup demo test test-slow bench clean

HOT := $(wildcard gsm_lab/problems/*.py gsm_lab/problems/*.c) $(wildcard gsm_lab/model/kernels/*.[ch])

setup: .venv/.compiled

.venv/.ready: pyproject.toml constraints/py311.txt
	$(PYTHON) -m venv .venv
	$(INSTALL) '.[notebook,test,dev]'
	touch .venv/.ready

.venv/.compiled: .venv/.ready compile.py $(HOT)
	$(BIN)/python compile.py
	touch .venv/.compiled

demo: setup
	$(BIN)/gsm-lab demo

test: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(ENVIRONMENT) $(BIN)/python -m pytest -n 2 -m "not slow"

test-slow: setup
	$(INSTALL) '.[ray,submitit,readers]'
	$(ENVIRONMENT) $(BIN)/python -m pytest -m slow

bench: setup
	$(INSTALL) '.[bench]'
	$(BIN)/gsm-lab bench

clean:
	rm -rf .venv *.so gsm_lab/problems/*.so gsm_lab/model/kernels/*.so .pytest_cache .mypy_cache .ruff_cache
