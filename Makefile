# The verbs of this project, the same for people and for CI. Needs make and Python 3.11 or newer, nothing else.
# The first use of any of them makes .venv from the pinned, hashed packages in requirements/.

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
COMPILE := $(BIN)/pip-compile --quiet --generate-hashes --strip-extras --allow-unsafe --no-build-isolation \
	--no-emit-index-url --no-emit-find-links --no-emit-trusted-host
# Where a line that no test runs is a fault: the rules of the state machine, the events and the decisions.
RULES := foreman/fsm/*,foreman/events/*,foreman/commands/decide.py

# Tests that need a program of the system, which pip cannot bring: the folder, and Debian's package. Where none of the
# programs is installed the folder is left out, aloud; in CI it is not, and fails.
program = $(firstword $(foreach name,$(1),$(shell command -v $(name) 2>/dev/null)))
ifndef CI
LEFT_OUT += $(if $(call program,chromium chromium-browser google-chrome),,tests/browser:chromium)
LEFT_OUT += $(if $(call program,prometheus),,tests/ops:prometheus)
endif

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export CUSTOM_COMPILE_COMMAND := make lock

.PHONY: help demo test check bench docs screenshots serve setup lock lock-check compile find-python clean

help:
	@echo 'make demo        see foreman at work, with a small real model'
	@echo 'make serve       run foreman with the settings in .env, if there is one'
	@echo 'make check       lint, formatting, types, layers, generated documents'
	@echo 'make test        every test, with coverage'
	@echo 'make bench       the benchmarks; ARGS= goes to them'
	@echo 'make docs        write the generated documents anew'
	@echo 'make screenshots take the pictures of the dashboard in docs/images anew; needs Chromium'
	@echo 'make setup       make .venv (the others do it by themselves)'
	@echo 'make lock        pin the packages anew after a change of pyproject.toml; UPGRADE=--upgrade takes newer ones'
	@echo 'make lock-check  say whether the pins are current'
	@echo 'make clean       remove everything that was made, but no database'

demo: $(INSTALLED)
	$(BIN)/foreman demo $(ARGS)

serve: $(INSTALLED)
	@set -a; if [ -f .env ]; then . ./.env; fi; exec $(BIN)/foreman serve $(ARGS)

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict
	$(BIN)/lint-imports
	$(BIN)/python docs/generate.py --check

test: $(INSTALLED)
	$(BIN)/pytest --cov=foreman $(foreach each,$(LEFT_OUT),--ignore=$(firstword $(subst :, ,$(each)))) $(ARGS)
	@report=$$($(BIN)/coverage report --include='$(RULES)' --fail-under=100) \
		|| { echo "$$report"; echo 'the rules need 100 % coverage'; exit 1; }
	@$(foreach each,$(LEFT_OUT),echo 'NOT RUN: $(subst :, - on Debian: apt-get install ,$(each))';)

bench: $(INSTALLED)
	$(BIN)/python benchmarks/run.py $(ARGS)

docs: $(INSTALLED)
	$(BIN)/python docs/generate.py

screenshots: $(INSTALLED)
	$(BIN)/python -m docs.screenshots

setup: $(INSTALLED)

$(INSTALLED): requirements/dev.txt pyproject.toml
	@[ -x $(BIN)/python ] || { python=$$($(MAKE) -s find-python) && "$$python" -m venv $(VENV); }
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/dev.txt
	@# setuptools warns at length that the sources are used in place, which is what is asked for.
	PYTHONWARNINGS=ignore::UserWarning $(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

# Prints the interpreter that .venv will be made with. PYTHON= names one to be tried first.
find-python:
	@old=; bare=; \
	for name in $(PYTHON) python3.11 python3.12 python3.13 python3; do \
		command -v $$name >/dev/null 2>&1 && version=$$($$name -V 2>/dev/null) || continue; \
		$$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { old="$$old $$version ($$name)"; continue; }; \
		$$name -c 'import ensurepip, venv, sqlite3, ssl' 2>/dev/null || { bare="$$bare $$name"; continue; }; \
		command -v $$name; exit 0; \
	done; \
	if [ -n "$$bare" ]; then \
		echo "$${bare# } cannot make a virtual environment; on Debian: apt-get install python3-venv" >&2; \
	else \
		echo "foreman needs Python 3.11 or newer; found:$${old:- none}" >&2; \
	fi; exit 1

# First what the tests run with, then, held to the same versions, what users run with.
lock: $(INSTALLED)
	$(MAKE) compile

compile:
	$(COMPILE) $(UPGRADE) --extra dev --extra embedded --output-file requirements/dev.txt pyproject.toml
	$(COMPILE) -c requirements/dev.txt --output-file requirements/run.txt pyproject.toml
	$(COMPILE) --extra embedded -c requirements/dev.txt --output-file requirements/embedded.txt pyproject.toml

lock-check: $(INSTALLED)
	@copy=$$(mktemp -d) && trap 'rm -rf "$$copy"' EXIT && mkdir "$$copy/foreman" \
		&& cp -R pyproject.toml README.md LICENSE requirements "$$copy" && cp foreman/__init__.py "$$copy/foreman" \
		&& $(MAKE) -s -C "$$copy" -f '$(CURDIR)/Makefile' compile VENV='$(CURDIR)/$(VENV)' \
		&& diff -r requirements "$$copy/requirements" && echo 'the pins are current'

clean:
	rm -rf $(VENV) build dist *.egg-info .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
