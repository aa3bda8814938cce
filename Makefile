# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install -q -c constraints.txt

.PHONY: demo test check docs clean

demo: $(VENV)/.installed
	$(BIN)/burnish run recipes/quickstart.yaml

# Two tests at a time: half of the time goes to processes that tests start and wait for. Threads that wait must
# not spin, for they would take the other's cores.
test: $(VENV)/.dev-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror src/burnish/models/native/*.cpp src/burnish/models/native/*.h
	$(BIN)/mypy
	OMP_WAIT_POLICY=passive $(BIN)/pytest -n 2 --dist loadgroup --cov --cov-report=term:skip-covered

docs: $(VENV)/.dev-installed
	$(PIP) -e .[docs]
	$(BIN)/mkdocs build --strict

# The tests draw pages in a real browser; without one those tests say that they were skipped.
$(VENV)/.dev-installed: $(VENV)/.installed
	$(PIP) -e .[dev]
	touch $@

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) torch || $(PIP) torch --index-url https://download.pytorch.org/whl/cpu
	$(PIP) -e .
	touch $@

clean:
	rm -rf $(VENV) .burnish site
