# make run      one real job on this machine, result in outputs/      make check   ruff, mypy
# make test     all tests that need no GPU                            make bench   ratios against the references
#
# PYTHON chooses the interpreter (3.11 or newer). TORCH chooses the build: on Linux the registry's own carries CUDA; for
# a CPU alone  make run TORCH="torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu"  is a tenth of the size.
PYTHON ?= python3
TORCH ?= torch==2.13.0

PIP = .venv/bin/python -m pip install --quiet --disable-pip-version-check

.PHONY: run test check bench clean
.DELETE_ON_ERROR:

run: .venv/run
	.venv/bin/python handler.py

test: .venv/test
	.venv/bin/python -m pytest

check: .venv/test
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy

bench: .venv/test
	.venv/bin/python -m benchmarks.road
	.venv/bin/python -m benchmarks.esrgan
	.venv/bin/python -m benchmarks.seedvr2
	.venv/bin/python -m benchmarks.wan
	.venv/bin/python -m benchmarks.plans
	.venv/bin/python -m benchmarks.memory
	.venv/bin/python -m benchmarks.start
	.venv/bin/python -m benchmarks.loading

.venv/run: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: set PYTHON=")'
	@test -x .venv/bin/python || $(PYTHON) -m venv .venv
	@echo "installing into .venv (the first time takes a few minutes)"
	$(PIP) $(TORCH)
	$(PIP) .
	@touch $@

.venv/test: .venv/run
	$(PIP) '.[test,dev]'
	@touch $@

clean:
	rm -rf .venv outputs build
