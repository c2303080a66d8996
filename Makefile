# Two commands do everything on a fresh machine with Python 3.11 or newer:
#   make demo   environment, installation, and pictures in ./out
#   make test   environment, installation, and all fast tests
PYTHON ?= python3
BIN := .venv/bin
PLUGINS := $(sort $(wildcard plugins/*))
# A worker a core and one more, since tests wait for processes of their own; each in one thread: the
# nets of tests are too small to share. The tests of a file mostly stay together, with what it has
# trained; who is done takes some from who is not.
WORKERS ?= $(shell $(PYTHON) -c "import os; print((os.cpu_count() or 1) + 1)")
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal
PROJECTS := pyproject.toml $(wildcard plugins/*/pyproject.toml)

export OMP_WAIT_POLICY ?= passive
export GOMP_SPINCOUNT ?= 1000
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test test-slow hub-versions lint types coverage site dist benchmark weights verify docs cards clean

demo: .venv/installed
	$(BIN)/zoo demo --out out

# make test COVERAGE=1 counts the lines that they run, too, which make coverage then tells.
test: .venv/installed-dev
	$(PYTEST) $(if $(COVERAGE),--cov --cov-report=xml --cov-report=term:skip-covered)

test-slow: .venv/installed-dev
	$(PYTEST) -m slow --durations=25

# The tests of the Hub with the oldest and the newest client that pyproject.toml allows. Those of slow
# answers, which are no part of a quick run, are what 1.1 fails.
HUB := $(shell sed -n 's/.*"huggingface-hub>=\([0-9.]*\),<\([0-9]*\)".*/==\1 <\2/p' pyproject.toml)
hub-versions: .venv/installed-dev
	for version in $(foreach v,$(HUB),'$v'); do \
	    place=$$(mktemp -d) \
	    && $(BIN)/pip install --quiet --target "$$place" "huggingface-hub$$version" \
	    && export PYTHONPATH="$$place" \
	    && $(BIN)/python -c "import huggingface_hub as h; print(h.__version__)" \
	    && $(PYTEST) tests/hub \
	    && $(PYTEST) -m slow -k "too and slow" tests/hub/test_faults.py || exit 1; \
	done

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/installed-dev
	$(BIN)/mypy

# Of the lines that are new since BASE, how many the tests ran (after make test COVERAGE=1). BASE is
# where this branch left main; on main itself, whose last push nobody remembers, it is yesterday.
BASE ?= $(shell .github/base.sh)
FLOOR ?= 75
coverage: .venv/installed-dev
	@if [ -n "$(BASE)" ]; then \
	    $(BIN)/diff-cover coverage.xml --compare-branch $(BASE) --diff-range-notation .. \
	        --ignore-whitespace --fail-under $(FLOOR); \
	else echo "no earlier commit to compare with: coverage of changes is left out"; fi

# The docs site, in site/; a link that leads nowhere is an error (not with --quiet, which hides both).
site: .venv/installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# A wheel and the sources of the core and of every plugin, in dist/.
dist: .venv/installed-dev
	for project in . $(PLUGINS); do $(BIN)/python -m build --outdir dist $$project || exit 1; done

# On a machine that does nothing else; the others in benchmarks/ take many minutes each.
benchmark: .venv/installed-dev
	$(BIN)/python benchmarks/startup.py

# All weights that ship, trained and measured again from data, into ./runs; hours. Stopped, it goes
# on where it was. Some: make weights NAMES="ae.mnist dcgan.mnist"
weights: .venv/installed-dev
	$(BIN)/python benchmarks/weights.py $(NAMES)

# Every figure of all weights that ship, measured again and compared, to the last though one differs;
# hours. Some: make verify NAMES="ae.mnist dcgan.mnist"
ALL = $(shell $(BIN)/python -c "import zoo; print(*zoo.list_models(pretrained=True))")
verify: .venv/installed-dev
	@differ=; for name in $(or $(NAMES),$(ALL)); do \
	    $(BIN)/zoo evaluate $$name --verify || differ="$$differ $$name"; \
	done; test -z "$$differ" || { echo "not as recorded:$$differ"; exit 1; }

# After a change of commands, options, hooks or checks.
docs: .venv/installed-dev
	$(BIN)/python docs/reference.py

# After new weights or figures: the model cards with their pictures, and the tables in docs/results.md.
cards: .venv/installed
	$(BIN)/zoo card --out model_cards
	$(BIN)/python benchmarks/goals.py --into docs/results.md

.venv/installed: $(PROJECTS)
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "latentzoo needs Python 3.11 or newer, this is " + sys.version)'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable . $(addprefix --editable ./,$(PLUGINS))
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

.venv/installed-docs: .venv/installed-dev
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	touch $@

clean:
	rm -rf .venv
