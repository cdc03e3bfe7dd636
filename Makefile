# The targets are listed in README.md. STACK chooses the stack file Pulumi.$(STACK).yaml.
STACK ?= local
PYTHON ?= python3
OPTIONS ?=
# POLICY=off leaves the policy pack out, POLICY=FILE.json takes levels and options from that file (docs/policy.md).
POLICY ?= on
# PROVIDER=official takes Pulumi's own kubernetes plugin, built by `make official` (CONTRIBUTING.md).
PROVIDER ?=
export PROVIDER
# NODES=simulated starts no kubelets and no containers; by default that is so only where they cannot be (docs/local.md).
NODES ?=
export NODES

VENV := .venv
RUN := $(VENV)/bin/python
LOCAL := $(RUN) -m local
INSTALLED := $(VENV)/installed
INSTALLED_DEV := $(VENV)/installed-dev
PACK := policy/$(VENV)/installed
AUDIT_BIN := $(VENV)-audit/bin
AUDIT := $(VENV)-audit/installed
# As the lock files are made: for all platforms, from the pins of constraints.txt.
LOCK := $(AUDIT_BIN)/uv pip compile --quiet --universal --generate-hashes --no-annotate --no-header --python-version 3.11
GOVULNCHECK := go run golang.org/x/vuln/cmd/govulncheck@v1.9.0
# The servers of vLLM that the request filter's tests put behind it.
ENGINES := $(patsubst tests/data/engine_servers/%.lock,$(VENV)/engines/%/installed,$(wildcard tests/data/engine_servers/*.lock))
PACK_NEEDED := $(if $(filter off,$(POLICY)),,$(PACK))

.DEFAULT_GOAL := help
.PHONY: help programs up preview destroy verify back status down reset env plugins test unit unit-components unit-packages program integration chaos engine faults e2e slow effects examples wheel lint format schema facts parsers golden picture lock audit sbom secrets official

help: ## this list
	@grep -E '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /make \1|/' | column -t -s '|'

up: | $(RUN) ## bring the stack up: the embedded cluster if it needs it, then pulumi up
	@$(MAKE) --no-print-directory -j2 $(if $(filter local%,$(STACK)),programs) $(INSTALLED) $(PACK_NEEDED)
	@$(LOCAL) up --stack $(STACK) --policy $(or $(POLICY),on) -- $(OPTIONS)

preview: $(INSTALLED) $(PACK_NEEDED) ## pulumi preview, with the rules of policy/; POLICY=off leaves them out
	@$(LOCAL) preview --stack $(STACK) --policy $(or $(POLICY),on) -- $(OPTIONS)

destroy: $(INSTALLED) ## pulumi destroy, without what is protected (the bucket)
	@$(LOCAL) destroy --stack $(STACK) -- $(OPTIONS)

verify: $(INSTALLED) ## ask the endpoint for a completion; names the layer at fault, and exits with its code
	@$(LOCAL) verify --stack $(STACK) -- $(OPTIONS)

back: $(INSTALLED) ## put the last accepted template of the groups back, without pulumi (docs/known-good.md)
	@$(LOCAL) back --stack $(STACK) -- $(OPTIONS)

status: $(INSTALLED) ## processes of the embedded cluster, their memory and logs
	@$(LOCAL) status

down: $(INSTALLED) ## stop the embedded cluster, keep its data
	@$(LOCAL) down

reset: $(INSTALLED) ## delete the embedded cluster, and the state of the stacks in it
	@$(LOCAL) reset

env: $(INSTALLED) ## shell lines for the same pulumi: eval "$(make env STACK=dev)"
	@$(LOCAL) env --stack $(STACK)

plugins: $(INSTALLED) ## install the official plugins, for the real cloud
	@eval "$$($(LOCAL) env --stack $(STACK))" && unset PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION && \
	  pulumi plugin install resource kubernetes v$$(sed -n 's/^pulumi-kubernetes==//p' requirements.txt) && \
	  pulumi plugin install resource alicloud v$$(sed -n 's/^pulumi-alicloud==//p' requirements.txt)

official: $(INSTALLED) ## build Pulumi's own kubernetes plugin, for PROVIDER=official: about 10 min and 295 MB
	@$(LOCAL) official

# Packages are installed while mypy runs; a real engine starts while the clusters of other tests wait for their pods.
test: $(INSTALLED_DEV) ## everything that CI runs
	@$(MAKE) --no-print-directory -j2 lint $(ENGINES) $(PACK)
	@$(MAKE) --no-print-directory unit program integration
	@$(MAKE) --no-print-directory -j2 e2e engine

unit: $(INSTALLED_DEV) ## unit tests: no network, no processes
	@$(MAKE) --no-print-directory -j 2 --output-sync unit-components unit-packages

# Two halves, each in one process: to hand 3,000 short tests to workers one by one takes as long as half of the tests.
# The first has the tests that load the SDKs of Pulumi and Kubernetes; both take about the same time.
# Capturing file descriptors and these plugins would cost a fifth more; no unit test needs them.
FIRST_HALF := tests/unit
unit-components unit-packages program: export PYTHONDONTWRITEBYTECODE := # or each process compiles all tests, each time
UNIT := $(RUN) -m pytest -q --capture=sys --disable-plugin-autoload -p _hypothesis_pytestplugin \
  $(addprefix -p no:,unraisableexception cacheprovider doctest junitxml logging) -m "not integration and not e2e and not program"

unit-components: $(INSTALLED_DEV)
	$(UNIT) $(FIRST_HALF)

unit-packages: $(INSTALLED_DEV)
	$(UNIT) tests $(addprefix --ignore ,$(FIRST_HALF) $(addprefix tests/,integration e2e chaos engine local))

program: $(INSTALLED_DEV) ## tests of the whole program under Pulumi's mocks
	$(RUN) -m pytest -q -n auto --dist loadfile -p no:unraisableexception -m "program and not integration" tests/unit

integration: $(INSTALLED_DEV) $(ENGINES) ## tests of local/, and with servers and processes of this machine; no cluster
	$(RUN) -m pytest -q -n 3 -m integration # they wait for processes of their own

chaos: $(INSTALLED_DEV) ## kills the mover and breaks what it talks to, about 5 minutes; CHAOS_SEED chooses other faults
	timeout 900 $(RUN) -m pytest -q -n auto --dist load -m chaos tests/chaos

engine: $(INSTALLED_DEV) ## leader and worker as a real vLLM on the CPU; root, and 1 GiB of downloads at the first use
	timeout 1800 $(RUN) -m pytest -q -m "engine and not faults" tests/engine

faults: $(INSTALLED_DEV) ## faults of real nodes and pods, most with the real engine: root, an hour; OPTIONS=--update-golden prints docs/faults.md
	$(RUN) -m pytest -q -m faults tests/engine tests/e2e $(OPTIONS)

# Each file has a cluster of its own. They wait for pods as well, so more of them run at a time than there are cores.
END_TO_END := $(RUN) -m pytest -q -n 4 --dist loadfile --no-loadscope-reorder

e2e: $(INSTALLED_DEV) $(PACK) ## end-to-end tests: real engine, real API server, real nodes for root; PROVIDER=official as above
	$(END_TO_END) -m "e2e and not slow and not faults" tests/e2e

slow: $(INSTALLED_DEV) $(PACK) ## end-to-end tests of single features that CI does not run, 20 minutes; before a release
	$(END_TO_END) -m slow tests/e2e tests/local

effects: $(INSTALLED_DEV) ## every setting changed once in the embedded cluster, ten on real pods (root): is the preview right?
	$(RUN) -m pytest -q -m effects tests/e2e $(OPTIONS)

examples: $(INSTALLED_DEV) ## build the package, install it elsewhere, and preview examples/; a part of e2e
	$(RUN) -m pytest -q tests/e2e/test_library.py

wheel: $(INSTALLED_DEV) ## build the package into dist/
	$(RUN) -m build

lint: $(INSTALLED_DEV) ## ruff, import contracts, plain words and mypy --strict
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .
	$(VENV)/bin/lint-imports --no-cache
	$(RUN) -m tools.vocabulary
	$(RUN) -m mypy

format: $(INSTALLED_DEV) ## ruff format and safe fixes
	$(RUN) -m ruff format .
	$(RUN) -m ruff check --fix .

schema: $(INSTALLED_DEV) ## write stack.schema.json, docs/configuration.md and the generated tables in docs/
	$(RUN) -m tools.generate

facts: $(INSTALLED_DEV) ## read the new versions of vLLM on PyPI, and compare what is known of all with their parsers: 10 min
	$(RUN) -m tools.vllm_catalogue
	$(RUN) -m tools.vllm_catalogue.compare

golden: $(INSTALLED_DEV) ## rewrite the golden manifests, effects and the schema of the tests; read the diff
	$(RUN) -m pytest -q tests/unit/test_manifests.py tests/unit/test_public_components.py tests/unit/test_settings_effect.py \
	  --update-golden

parsers: $(INSTALLED_DEV) ## property test: arguments and keys are taken exactly where the parsers in vLLM's wheels take them; 3 min
	$(RUN) -m tools.vllm_catalogue.compare 0.7.2 0.11.0 0.20.2 newest

picture: $(INSTALLED_DEV) ## redraw docs/dashboard.png, from the dashboard's JSON and a real Prometheus
	$(RUN) -m tools.dashboard

lock: $(INSTALLED_DEV) $(AUDIT) ## pin all versions again, with hashes, from the direct ones
	$(RUN) -m pip freeze --exclude-editable > constraints.txt
	$(LOCK) requirements.txt local/requirements.txt deepseek_acs/verifier/requirements.txt -o requirements.lock
	$(LOCK) requirements-dev.txt -o requirements-dev.lock
	$(LOCK) policy/requirements.txt -o policy/requirements.lock
	$(LOCK) tools/audit/requirements.txt -o tools/audit/requirements.lock
	$(LOCK) --no-deps local/engine/requirements.txt -o local/engine/requirements.lock
	@for versions in tests/data/engine_servers/*.txt; do $(LOCK) $$versions -o $${versions%.txt}.lock || exit 1; done

audit: $(AUDIT) ## known vulnerabilities of the pinned packages and modules; asks pypi.org and vuln.go.dev
	@for lock in requirements-dev.lock policy/requirements.lock tools/audit/requirements.lock; do \
	  $(AUDIT_BIN)/pip-audit --strict --disable-pip --require-hashes -r $$lock || exit 1; done
	@for module in $$(grep -l "^tool" local/tools/*/go.mod); do \
	  (cd $$(dirname $$module) && $(GOVULNCHECK) -scan package tool) || exit 1; done

sbom: $(AUDIT) ## what the program installs, in CycloneDX's form with versions and hashes, to dist/sbom.cdx.json
	@mkdir -p dist
	@$(AUDIT_BIN)/cyclonedx-py requirements requirements.lock --pyproject pyproject.toml --output-reproducible -o dist/sbom.cdx.json

secrets: $(AUDIT) ## secrets in the files that git tracks; OPTIONS=--update when all that is found is none
	@$(PYTHON) -m tools.secret_scan $(AUDIT_BIN)/detect-secrets $(OPTIONS)

$(RUN):
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed; set PYTHON")'
	@echo "making $(VENV) (first time only)" >&2
	@$(PYTHON) -m venv $(VENV)

$(INSTALLED): requirements.lock | $(RUN)
	@echo "installing Python packages (first time only, about 1 min)" >&2
	@$(RUN) -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

# Begun before packages are installed, which takes less long.
programs: | $(RUN)
	@$(RUN) -m local.programs

$(INSTALLED_DEV): requirements-dev.lock $(INSTALLED)
	@$(RUN) -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

$(ENGINES): $(VENV)/engines/%/installed: tests/data/engine_servers/%.lock | $(RUN)
	@$(RUN) -m venv $(dir $@)
	@$(dir $@)bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

$(AUDIT): tools/audit/requirements.lock | $(RUN)
	@$(RUN) -m venv $(VENV)-audit
	@$(AUDIT_BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

$(PACK): policy/requirements.lock | $(RUN)
	@echo "installing the policy pack's packages (first time only, half a minute; POLICY=off does without)" >&2
	@$(RUN) -m venv policy/$(VENV)
	@policy/$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@
