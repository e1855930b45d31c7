# One target per habit. `make demo` and `make test` set up what they need; `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

UV := tools/uv
RUN := $(UV) run --no-sync
PYTEST := $(RUN) python -m pytest
SOURCES := operator engine_image e2e tests tools

.PHONY: help
help: ## This list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-18s %s\n", $$1, $$2}'

.PHONY: setup
setup: ## Python environment, Debian packages and Kubernetes binaries (first run: about 10 minutes)
	@$(UV) sync --quiet
	@$(RUN) headrace-cluster prepare --install

.PHONY: demo
demo: setup ## A served, autoscaled model on a real Kubernetes, with a report at the end (KEEP=1 leaves it up)
	$(RUN) python -m e2e.demo $(if $(KEEP),--keep)

.PHONY: test
test: setup check unit e2e ## Everything that must pass before a change lands

.PHONY: check
check: ## Format, lint, types, import contracts, generated files
	$(RUN) ruff format --check $(SOURCES)
	$(RUN) ruff check $(SOURCES)
	$(RUN) mypy
	$(RUN) lint-imports
	$(RUN) headrace crd verify

.PHONY: unit
unit: ## Unit, property and component tests
	$(PYTEST) tests

.PHONY: e2e
e2e: ## The end-to-end subset on the embedded Kubernetes (nine real engine starts)
	$(PYTEST) e2e/scenarios -m 'not full' --timeout 900

.PHONY: e2e-full
e2e-full: setup ## Every end-to-end scenario, with real engines throughout (about an hour on two cores)
	HEADRACE_E2E_REAL_ENGINES=1 $(PYTEST) e2e/scenarios --timeout 1800

.PHONY: e2e-hpa
e2e-hpa: setup ## Mode HPA on the real HorizontalPodAutoscaler controller (builds prometheus-adapter once: 2.5 minutes)
	HEADRACE_E2E_HPA=1 $(PYTEST) e2e/scenarios/test_hpa.py -s

.PHONY: update
update: ## Regenerate what is generated: CRD, API reference, golden manifests; format the code
	$(RUN) headrace crd update
	HEADRACE_UPDATE_GOLDEN=1 $(PYTEST) tests/unit/desired -q
	$(RUN) ruff format $(SOURCES)
	$(RUN) ruff check --fix $(SOURCES)

.PHONY: bench-plan
bench-plan: ## CPU time of one plan over 1,000 to 10,000 services (OUT=dir)
	$(RUN) python -m e2e.benchmarks.bench_plan $(if $(OUT),--out $(OUT))

.PHONY: bench-autoscaling
bench-autoscaling: ## Headrace against its baselines on traces (TRACES=dir DELAYS=10,60,120,300 SEEDS=3 OUT=dir QUICK=1: 10 minutes)
	$(RUN) python -m e2e.benchmarks.autoscaling $(if $(TRACES),--traces '$(TRACES)') $(if $(DELAYS),--delays $(DELAYS)) \
		$(if $(OUT),--out '$(OUT)') $(if $(QUICK),--quick) $(if $(SEEDS),--seeds $(SEEDS)) $(if $(JOBS),--jobs $(JOBS))

.PHONY: bench-stress
bench-stress: ## The same as bench-autoscaling QUICK=1, on six synthetic stress loads that it makes (OUT=dir)
	$(RUN) python -m e2e.benchmarks.stressors --out '$(or $(OUT),bench-out/stress)/traces'
	$(RUN) python -m e2e.benchmarks.autoscaling --quick --traces '$(or $(OUT),bench-out/stress)/traces' \
		--out '$(or $(OUT),bench-out/stress)' $(if $(JOBS),--jobs $(JOBS))

.PHONY: bench-robustness
bench-robustness: ## Headrace with late metrics, a wrong model, slow and failed starts (TRACES=dir OUT=dir ABLATE=1: 8 minutes)
	$(RUN) python -m e2e.benchmarks.robustness $(if $(TRACES),--traces '$(TRACES)') $(if $(OUT),--out '$(OUT)') \
		$(if $(ABLATE),--ablate) $(if $(SEEDS),--seeds $(SEEDS)) $(if $(JOBS),--jobs $(JOBS))

.PHONY: clean
clean: ## Stop clusters and remove what the build made in this folder (caches stay)
	-$(RUN) headrace-cluster down --all
	rm -rf .venv demo-report bench-out .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
