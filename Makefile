# Each from a fresh clone: `make demo`, `make test` and `make docs`. `make published` is the slow tier, run by hand.
PY ?= python3
V := .venv
SERVER := .venv-mlserver
DOCS := .venv-docs
WHEEL := out/wheel
BIN := $(V)/bin

.PHONY: demo test docs published wheel
.DELETE_ON_ERROR:

$(V)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PY) -m venv $(V)
	$(BIN)/python -m pip install -q --upgrade "pip>=25.1"
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[all]" --group test
	touch $@

# MLServer pins an older web stack than whorl's tests use, so the server that the HTTP tests ask lives on its own.
$(SERVER)/.installed: constraints-mlserver.txt
	test -x $(SERVER)/bin/python || $(PY) -m venv $(SERVER)
	$(SERVER)/bin/python -m pip install -q --upgrade "pip>=25.1"
	$(SERVER)/bin/python -m pip install -q -r constraints-mlserver.txt
	touch $@

# The site needs neither whorl nor torch: docstrings are read from the source. The variable silences an advertisement.
$(DOCS)/.installed: pyproject.toml constraints.txt
	test -x $(DOCS)/bin/python || $(PY) -m venv $(DOCS)
	$(DOCS)/bin/python -m pip install -q --upgrade "pip>=25.1"
	$(DOCS)/bin/python -m pip install -q -c constraints.txt --group docs
	touch $@

demo: $(V)/.installed
	$(BIN)/whorl demo

# With worksteal the tests of one file stay together, so that what they share is made once, and no core ends early.
test: $(V)/.installed $(SERVER)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -n auto --dist worksteal -m "not published"

docs: $(DOCS)/.installed
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build --strict
	@echo out/docs/index.html

# What papers claim, on small nets. Floats of another processor train other nets, and some of these claims are near.
published: $(V)/.installed
	$(BIN)/python -m pytest -n auto --dist worksteal -m published tests/published

# What a user gets, without this checkout. Before a release, with each Python that pyproject.toml names: make wheel PY=python3.13
wheel:
	rm -rf $(WHEEL)
	$(PY) -m venv $(WHEEL)/venv
	$(WHEEL)/venv/bin/python -m pip wheel -q --no-deps -w $(WHEEL) .
	$(WHEEL)/venv/bin/python -m pip install -q -c constraints.txt "$$(echo $(WHEEL)/*.whl)[all]"
	cd $(WHEEL) && venv/bin/whorl demo
