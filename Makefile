# Each target works as the first command after a clone: the environment is made where it is missing.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
DEMO ?= vidaudio-demo
TEST_PROCESSES ?= 2

.PHONY: help demo demo-small test quick lint format docs chaos bench bench-gpu clean

help:
	@echo "make demo        render, build, train, evaluate, separate: all of it, small, in minutes"
	@echo "make test        the tests"
	@echo "make quick       the fast tests, about two minutes"
	@echo "make lint        ruff and mypy"
	@echo "make docs        the documentation as a website, in site/"
	@echo "make chaos       builds killed at every point, again and again"
	@echo "make bench       speed of extraction, embedding, a build, the loader, training and generation"
	@echo "make bench-gpu   training steps of every system on a GPU, and how many loader processes feed it"

$(VENV)/installed: pyproject.toml
	@echo "installing into $(VENV) (PyTorch is large: some minutes and about 6 GB)"
	@$(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/python -m pip install --quiet --quiet --disable-pip-version-check -e ".[dev]"
	@touch $@

demo: $(VENV)/installed
	$(VENV)/bin/vidaudio demo --output $(DEMO)

demo-small: $(VENV)/installed
	$(VENV)/bin/vidaudio demo --size small --output $(DEMO)-small

test: $(VENV)/installed
	$(VENV)/bin/python -m pytest --numprocesses $(TEST_PROCESSES) --dist loadfile

quick: $(VENV)/installed
	$(VENV)/bin/python -m pytest -m quick --numprocesses $(TEST_PROCESSES) --dist loadfile

lint: $(VENV)/installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

format: $(VENV)/installed
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

$(VENV)/installed-docs: $(VENV)/installed
	@$(VENV)/bin/python -m pip install --quiet --quiet --disable-pip-version-check -e ".[docs]"
	@touch $@

# Warnings, such as a broken link or a docstring that does not fit its function, are errors.
docs: $(VENV)/installed-docs
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict

chaos: $(VENV)/installed
	$(VENV)/bin/python -m tests.chaos
	$(VENV)/bin/python -m pytest -m long
	$(VENV)/bin/python -m tests.chaos.life

# make bench CLIPS=folder measures on your videos; BENCH=--quick only sees everything run.
bench: $(VENV)/installed
	$(VENV)/bin/python -m benchmarks.extraction $(if $(CLIPS),--clips $(CLIPS)) $(BENCH)
	$(VENV)/bin/python -m benchmarks.embedding $(if $(CLIPS),--clips $(CLIPS)) $(BENCH)
	$(VENV)/bin/python -m benchmarks.build $(if $(CLIPS),--clips $(CLIPS)) $(BENCH)
	$(VENV)/bin/python -m benchmarks.loader $(BENCH)
	$(VENV)/bin/python -m benchmarks.loader_waiting $(BENCH)
	$(VENV)/bin/python -m benchmarks.remote_loader $(BENCH)
	$(VENV)/bin/python -m benchmarks.training $(BENCH)
	$(VENV)/bin/python -m benchmarks.generation_speed $(BENCH)

bench-gpu: $(VENV)/installed
	$(VENV)/bin/python -m benchmarks.gpu_steps $(BENCH)

clean:
	rm -rf $(VENV) $(DEMO) $(DEMO)-small site .pytest_cache .ruff_cache .mypy_cache
