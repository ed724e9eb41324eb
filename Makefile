# Every verb sets up what it needs; the only things taken for granted are Python >= 3.11, pip, venv, make and gcc.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# A venv of its own: sslyze has many pins, and is no part of ours.
SCANNER := .tls-scan
PACKAGES := raft node client chaos
PROTOS := $(shell find proto -name '*.proto' | sort)
# The comments of the API, for its description over HTTP.
API_DESCRIPTORS = --descriptor_set_out=$(1)/horologe/v1/api.binpb --include_source_info $(filter proto/horologe/v1/%,$(PROTOS))
DEMO_SECONDS ?= 0
FUZZ_SECONDS ?= 60
BENCH_RUNS ?= 3
BENCH_SHORT ?=
SIM_SEEDS ?= 60
BENCH_OUT ?= $(if $(BENCH_SHORT),.bench,docs)
# What the dashboard's pages take from npm: PACKAGE@VERSION:FILE,FILE. Copies are committed, so that nobody needs npm to build or to run.
VENDORED := htmx.org@2.0.11:dist/htmx.min.js htmx-ext-sse@2.2.4:dist/sse.min.js uplot@1.6.32:dist/uPlot.iife.min.js,dist/uPlot.min.css
VENDOR := node/web/static/vendor

# Whoever has set it would have every process that a test starts compile all it imports, and there are hundreds of them.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help dev demo test quick fuzz api-fuzz sim mutants check bandit audit docs docs-reference proto proto-check format bench chaos chaos-tools browser-tools axe screenshots model tls-scan vendor lock binary binary-test ship-tools clean

help: ## list the verbs
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(VENV)/.ready: pyproject.toml
	@echo "installing everything into $(VENV), which takes about two minutes the first time"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --upgrade pip
# Twice, for once still leaves a hundred lines of setuptools about folders that are data and no packages. Errors are shown.
	@$(BIN)/pip install --quiet --quiet --editable . --group dev
	@rm -rf .ns && mkdir -p .ns/horologe
	@for package in $(PACKAGES); do ln -s ../../$$package .ns/horologe/$$package; done
	@for name in v1 log peer; do ln -s ../../proto/horologe/$$name .ns/horologe/$$name; done
	@touch $@

dev: $(VENV)/.ready ## make .venv with everything, and .ns for type checkers and editors
	@echo "ready: . $(BIN)/activate"

demo: $(VENV)/.ready ## run a three-node cluster on examples/ and watch it (DEMO_SECONDS=20 ends by itself)
	@$(BIN)/horologe dev --nodes 3 --examples examples --for $(DEMO_SECONDS)

test: $(VENV)/.ready chaos-tools browser-tools ship-tools ## run all tests, quick ones first
	$(BIN)/pytest --numprocesses auto --dist worksteal tests/unit tests/scenarios tests/raft tests/sim
	$(BIN)/pytest tests/integration tests/cluster tests/browser

chaos-tools: ## as root on Debian: install what cuts networks, makes disks fail, confines jobs and follows pages (nft, ip, strace, mkfs.ext4, bwrap, curl, npm)
	@missing=$$(for tool in nft:nftables ip:iproute2 strace:strace mkfs.ext4:e2fsprogs bwrap:bubblewrap curl:curl npm:npm; do \
		command -v $${tool%%:*} > /dev/null || echo $${tool##*:}; done); \
	if [ -n "$$missing" ] && [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then \
		apt-get update --quiet=2 && apt-get install --quiet=2 --yes --no-install-recommends $$missing > /dev/null; \
	elif [ -n "$$missing" ]; then echo "not installed, so some faults are left out: $$missing"; fi

browser-tools: ## as root on Debian: install the browser that the dashboard is tested with (chromium)
	@if command -v chromium > /dev/null; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then \
		apt-get update --quiet=2 && apt-get install --quiet=2 --yes --no-install-recommends chromium > /dev/null; \
	else echo "not installed, so the tests of the dashboard will fail: chromium"; fi

screenshots: $(VENV)/.ready browser-tools ## photograph the dashboard for the README, into docs/images
	$(BIN)/pytest tests/browser/screenshots.py

# Only tests use it; the product has nothing of it.
AXE := axe-core@4.14.1
axe: ## fetch axe-core from npm, which looks for barriers in pages, into tests/browser/vendor
	@scratch=$$(mktemp -d) && trap 'rm -rf '$$scratch EXIT && npm pack --silent --pack-destination $$scratch $(AXE) > /dev/null && \
		tar --extract --gzip --file $$scratch/*.tgz --directory $$scratch && mkdir -p tests/browser/vendor && \
		cp $$scratch/package/axe.min.js $$scratch/package/LICENSE $$scratch/package/LICENSE-3RD-PARTY.txt tests/browser/vendor/

chaos: $(VENV)/.ready chaos-tools ## five minutes of faults of all kinds on three nodes
	$(BIN)/horologe chaos run --minutes 5 --nodes 3 --picture chaos.html

quick: $(VENV)/.ready chaos-tools ## run the tests that start no process
	$(BIN)/pytest --numprocesses auto --dist worksteal tests/unit tests/scenarios tests/raft tests/sim

fuzz: $(VENV)/.ready ## let atheris look for texts that the parsers do not survive (FUZZ_SECONDS=60 for each)
	$(BIN)/pip install --quiet --group fuzz
	@set -o pipefail; scratch=$$(mktemp -d) && trap 'rm -rf '$$scratch EXIT && cd $$scratch && \
		$(CURDIR)/$(BIN)/python $(CURDIR)/tests/fuzz/fuzz_cron.py -dict=$(CURDIR)/tests/fuzz/cron.dict -timeout=1 \
			-max_len=1200 -max_total_time=$(FUZZ_SECONDS) -print_final_stats=1 2>&1 | tail -12 && \
		$(CURDIR)/$(BIN)/python $(CURDIR)/tests/fuzz/fuzz_files.py -dict=$(CURDIR)/tests/fuzz/files.dict -timeout=5 \
			-max_len=2000 -max_total_time=$(FUZZ_SECONDS) -print_final_stats=1 2>&1 | tail -12

model: $(VENV)/.ready ## check the model of the lease protocol with spin, which it installs where it may
	@command -v spin >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
		&& apt-get update -qq && apt-get install -y -qq --no-install-recommends spin >/dev/null; } \
		|| { echo "make model needs the model checker spin: install it (Debian, Ubuntu: apt-get install spin)" >&2; exit 1; }
	$(BIN)/pytest tests/model

check: $(VENV)/.ready proto-check bandit ## lint, format, types, proto, dangerous code
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bandit: $(VENV)/.ready ## look for what is dangerous in the code
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive raft node client
# Faults are thrown by seeds that repeat.
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive chaos --skip B311

audit: $(VENV)/.ready bandit ## as bandit, and ask PyPI whether what is installed is known to be vulnerable
	$(BIN)/pip install --quiet --group audit
	@list=$$(mktemp) && trap 'rm -f '$$list EXIT && $(BIN)/pip freeze --exclude-editable > $$list && \
		$(BIN)/pip-audit --strict --no-deps --disable-pip --progress-spinner off --requirement $$list

docs: $(VENV)/.ready ## build the site of docs/ into site/; what it says of itself is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "open site/index.html"

docs-reference: $(VENV)/.ready ## write the pages of docs/ that are made from the code
	$(BIN)/pytest -n0 --quiet tests/unit/test_docs.py --rewrite -k made_from_the_code

format: $(VENV)/.ready ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/buf format --write

proto: $(VENV)/.ready ## generate Python from proto/
	PATH=$(CURDIR)/$(BIN):$$PATH $(BIN)/python -m grpc_tools.protoc --proto_path=proto --python_out=proto --grpc_python_out=proto \
		--mypy_out=proto --mypy_grpc_out=proto $(PROTOS)
	$(BIN)/python -m grpc_tools.protoc --proto_path=proto $(call API_DESCRIPTORS,proto)

proto-check: $(VENV)/.ready ## lint proto/ and make sure that the generated code is up to date
	$(BIN)/buf lint
	$(BIN)/buf format --diff --exit-code
	@scratch=$$(mktemp -d) && trap 'rm -rf '$$scratch EXIT && PATH=$(CURDIR)/$(BIN):$$PATH $(BIN)/python -m grpc_tools.protoc --proto_path=proto \
		--python_out=$$scratch --grpc_python_out=$$scratch --mypy_out=$$scratch --mypy_grpc_out=$$scratch $(PROTOS) \
		&& $(BIN)/python -m grpc_tools.protoc --proto_path=proto $(call API_DESCRIPTORS,$$scratch) \
		&& cd $$scratch && find . -type f | while read -r file; do \
			cmp --silent "$$file" "$(CURDIR)/proto/$$file" || { echo "out of date: proto/$$file (run make proto)"; exit 1; }; done

$(SCANNER)/bin/sslyze:
	$(PYTHON) -m venv $(SCANNER)
	$(SCANNER)/bin/pip install --quiet 'sslyze>=6.3,<7'

tls-scan: $(VENV)/.ready $(SCANNER)/bin/sslyze ## let sslyze look at all ports of a secure cluster: TLS 1.3 only, certificates demanded
	$(BIN)/python -m horologe.chaos.tls_scan $(SCANNER)/bin/sslyze

vendor: ## fetch anew from npm what the dashboard's pages are made of, with its licences
	@set -e -o pipefail; scratch=$$(mktemp -d); trap 'rm -rf '$$scratch EXIT; rm -rf $(VENDOR); mkdir -p $(VENDOR); \
	for each in $(VENDORED); do \
		package=$${each%%:*}; name=$${package%@*}; archive=$$(npm pack --silent --pack-destination $$scratch $$package); \
		tar --extract --gzip --file $$scratch/$$archive --directory $$scratch; \
		cp $$scratch/package/LICENSE $(VENDOR)/$$name.LICENSE; \
		for file in $$(echo $${each#*:} | tr , ' '); do cp $$scratch/package/$$file $(VENDOR)/; done; \
		rm -rf $$scratch/package; done; \
	chmod 644 $(VENDOR)/*; cd $(VENDOR); sums=$$(sha256sum *); \
	{ echo "# Made by make vendor from $(foreach each,$(VENDORED),$(firstword $(subst :, ,$(each))))"; echo "$$sums"; } > MANIFEST

sim: $(VENV)/.ready ## whole clusters in simulated time, with faults: half an hour and more over many seeds (SIM_SEEDS=60)
	$(BIN)/horologe chaos sim --seeds $(SIM_SEEDS) --seconds 30

mutants: $(VENV)/.ready ## switch off each protection, one at a time: does anybody notice?
	$(BIN)/horologe chaos mutants --short

bench: $(VENV)/.ready ## the standard measurements, up to two hours, into docs/benchmarks.md (BENCH_RUNS=1 BENCH_SHORT=1 tries them, into .bench)
	@mkdir -p $(BENCH_OUT)
	$(BIN)/horologe bench all --out $(BENCH_OUT) --runs $(BENCH_RUNS) $(if $(BENCH_SHORT),--short)

api-fuzz: $(VENV)/.ready ## let schemathesis call the API over HTTP with whatever its description allows and forbids (FUZZ_SECONDS=60)
	API_FUZZ_SECONDS=$(FUZZ_SECONDS) $(BIN)/pytest tests/integration/test_http_fuzz.py

# Everything that the product may use, with checksums: what image and binary are built from. For all Pythons and machines.
lock: $(VENV)/.ready ## choose anew the versions that image and binary are built from, into ops/locks
	$(BIN)/pip install --quiet --group lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-annotate --upgrade --custom-compile-command "make lock" \
		--all-extras --output-file ops/locks/runtime.txt pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-annotate --upgrade --custom-compile-command "make lock" \
		--group ship --output-file ops/locks/build.txt

binary: $(VENV)/.ready ## build dist/horologe: one file that needs no Python
	$(BIN)/python ops/binary/build.py

binary-test: binary chaos-tools ## the binary alone in an empty folder of a bare Debian: three nodes, a worker, jobs, a failover
	$(BIN)/pytest tests/binary

ship-tools: ## as root on Debian: install what checks docker-compose.yml (docker-compose)
	@if command -v docker-compose > /dev/null; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then \
		apt-get update --quiet=2 && apt-get install --quiet=2 --yes --no-install-recommends docker-compose > /dev/null; \
	else echo "not installed, so a test of docker-compose.yml will fail: docker-compose"; fi

clean: ## remove what make made
	rm -rf $(VENV) $(SCANNER) .ns build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .demo chaos.html
