# Everything here works in a fresh clone on Debian 12 or newer: what is lacking is installed as root, and named otherwise.

.DEFAULT_GOAL := help
SHELL := /bin/sh
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export PIP_DISABLE_PIP_VERSION_CHECK = 1
export PIP_NO_INPUT = 1

# The first interpreter that is new enough and can make a venv with pip in it; Debian ships those two apart.
PYTHONS := python3 python3.14 python3.13 python3.12 python3.11 /usr/bin/python3
FIND_PYTHON = for python in $(PYTHONS); do \
	"$$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && break; python=; done
FIND_NFT = PATH="$$PATH:/usr/sbin:/sbin" command -v nft >/dev/null

# $(call need,TEST,PACKAGES): install Debian packages unless TEST holds; say the command to those who may not.
define need
@$(1) || { \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "Installing $(2)"; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $(2) >/dev/null; \
	else \
		echo "This needs $(2). Run:  sudo apt-get install $(2)  (or what your system calls them), then make again." >&2; \
		exit 1; \
	fi; \
}
endef

.PHONY: help
help: ## what there is to make
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

.PHONY: demo
demo: $(READY) ## one service blocked, its neighbours untouched, in a lab of namespaces; ONCE=1 ends after the last matrix
	@PYTHONPATH=tests exec $(BIN)/python -m lab.demo $(if $(ONCE),--once)

.PHONY: test
test: $(READY) nftables strace openssh chromium promtool groff shells ## all tests, with real packets; ARGS="-k name" for some of them
	@$(BIN)/python -m pytest --numprocesses 2 --dist loadgroup $(ARGS)

.PHONY: screenshots
screenshots: $(READY) nftables chromium ## README's pictures anew, taken by the browser tests
	@mkdir -p docs/screenshots
	@SCREENSHOTS=docs/screenshots $(BIN)/python -m pytest -q tests/browser -k fits

.PHONY: soak
soak: $(READY) nftables ## made-up orders against real packets for SECONDS=600 on end
	@SOAK_SECONDS=$(or $(SECONDS),600) $(BIN)/python -m pytest -s tests/kernel/test_differential.py

.PHONY: soak-updates
soak-updates: $(READY) nftables ## a flood through UPDATES=10000 updates, with switches and restarts: what leaked, what was lost
	@UPDATES=$(or $(UPDATES),10000) $(BIN)/python -m pytest -s tests/kernel/test_no_packet_slips_through.py

.PHONY: chaos
chaos: $(READY) nftables strace ## faults by the thousand under traffic: a table of what leaked, what was lost; FAULT=name TIMES=n
	@CHAOS=1 TIMES=$(TIMES) $(BIN)/python -m pytest -s tests/fault $(if $(FAULT),-k $(FAULT))

.PHONY: load
load: $(READY) nftables ## 200 slow and 50 fast HTTP clients, reloads and a flood for SECONDS=300 on end: a table of what was seen
	@LOAD_SECONDS=$(or $(SECONDS),300) $(BIN)/python -m pytest -s tests/load

.PHONY: fuzz
fuzz: $(VENV)/.fuzz ## search for inputs that break TARGET=name, or each, for SECONDS=60 on end; MERGE=1 makes its corpus anew
	@for target in $(or $(TARGET),$(TARGETS)); do echo "== $$target"; \
		PYTHONPATH=tests $(BIN)/python -m fuzz.run $$target --seconds $(or $(SECONDS),60) $(if $(MERGE),--merge) || exit 1; done

TARGETS = $(basename $(notdir $(wildcard tests/fuzz/targets/[a-z]*.py)))

.PHONY: test-systemd
test-systemd: $(READY) nspawn ## the units, booted for real in Debian 12 and 13 (root, minutes); PART=bookworm for some of it
	@PYTHONPATH=tests $(BIN)/python -m systemd $(PART)

.PHONY: deb
deb: $(READY) ## a Debian package in dist/, for Debian 12; PYTHON=3.13 for Debian 13
	@$(BIN)/python systemd/debian/build.py $(if $(PYTHON),--python $(PYTHON))

.PHONY: bench-orders
bench-orders: $(READY) nftables ## how ten thousand orders load, change and answer, and what a packet meets
	@PYTHONPATH=tests $(BIN)/python bench/orders.py $(if $(POLICIES),--policies $(POLICIES)) $(if $(PREFIXES),--prefixes $(PREFIXES))

.PHONY: bench-http
bench-http: $(READY) ## what HTTP costs: requests a second, the first view of the page, also in Chromium, 200 streams of events
	@PYTHONPATH=.:tests $(BIN)/python -m bench.web $(if $(POLICIES),--policies $(POLICIES))

.PHONY: bench
bench: $(READY) nftables rivals $(VENV)/.bench ## all targets beside nft, ipset and firewalld, in under 20 minutes; QUICK=1 in under 3
	@PYTHONPATH=.:tests $(BIN)/python -m bench.run $(if $(QUICK),--quick) $(ARGS)

.PHONY: bench-limits
bench-limits: $(READY) nftables ## how large lists may be: 1, 2, 5 and 10 million with the memory of the unit; SIZES=1,2 MEMORY=2048
	@PYTHONPATH=.:tests $(BIN)/python -m bench.limits $(if $(SIZES),--sizes $(SIZES)) $(if $(MEMORY),--memory $(MEMORY))

.PHONY: bench-drift
bench-drift: $(READY) nftables ## how fast somebody else's change of our table is undone; ROUNDS=3
	@PYTHONPATH=.:tests $(BIN)/python -m bench.repairs $(if $(ROUNDS),--rounds $(ROUNDS))
.PHONY: man
man: $(READY) groff ## man pages and completion for bash, zsh and fish, below DIR=dist/share; to be copied to /usr/local/share
	@$(BIN)/python -m gatewrit.cli.manual $(or $(DIR),dist/share)
	@for page in $(or $(DIR),dist/share)/man/man*/gatewrit*; do groff -man -Tutf8 -ww -z "$$page" || exit 1; done

.PHONY: lint
lint: $(READY) ## ruff (rules and format) and mypy, strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.PHONY: reference
reference: $(READY) ## docs/settings.md anew, from the types; and what completion knows of the verbs
	@$(BIN)/python -c 'from gatewrit.cli.outline import reference; print(reference(), end="")' >docs/settings.md
	@$(BIN)/python -c 'from gatewrit.cli.manual import verbs_json; print(verbs_json(), end="")' >$(VERBS).new
	@mv $(VERBS).new $(VERBS)

VERBS = daemon/gatewrit/cli/verbs.json

.PHONY: lock
lock: $(READY) ## both lock files anew, from pyproject.toml
	$(BIN)/python -m venv $(VENV)/uv
	$(VENV)/uv/bin/pip install --quiet uv
	$(COMPILE) --group dev --output-file requirements.lock
	$(COMPILE) --group build --output-file requirements-gateway.lock

COMPILE = UV_CUSTOM_COMPILE_COMMAND="make lock" $(VENV)/uv/bin/uv pip compile --quiet --upgrade --universal \
	--generate-hashes --no-emit-index-url --python-version 3.11 pyproject.toml

.PHONY: clean
clean: ## take away what was made here
	rm -rf --one-file-system /var/tmp/gatewrit-test-systemd
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A venv knows its own path: one that came along with a moved or copied folder is made anew.
ifneq ($(shell cat $(READY) 2>/dev/null),$(CURDIR))
.PHONY: $(READY)
endif

$(READY): requirements.lock pyproject.toml
	$(call need,{ $(FIND_PYTHON); [ -n "$$python" ]; },python3 python3-venv)
	@$(FIND_PYTHON); [ -n "$$python" ] || { echo "No Python 3.11 or newer was found." >&2; exit 1; }; \
		[ "$$(cat $@ 2>/dev/null)" = "$(CURDIR)" ] && $(BIN)/python -c 'import pip' 2>/dev/null || \
		{ echo "Making $(VENV) with $$python"; "$$python" -m venv --clear $(VENV); }
	@echo "Installing what requirements.lock names"
	@$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements.lock
	@$(BIN)/python -m pip install --quiet --no-build-isolation --no-deps --editable .
	@echo "$(CURDIR)" >$@

.PHONY: nftables
nftables:
	$(call need,$(FIND_NFT),nftables)

.PHONY: strace
strace:
	$(call need,command -v strace >/dev/null,strace)

.PHONY: shells
shells:
	$(call need,command -v zsh >/dev/null && command -v fish >/dev/null,zsh fish)

.PHONY: groff
groff:
	$(call need,command -v groff >/dev/null,groff-base)

.PHONY: openssh
openssh:
	$(call need,command -v ssh-keygen >/dev/null,openssh-client)

# With fonts that have the letters of Urdu and Arabic.
.PHONY: chromium
chromium:
	$(call need,command -v chromium >/dev/null,chromium fonts-dejavu-core)

# Debian's prometheus has promtool in it, and would start a server that listens: so only that one file is taken out of it.
.PHONY: promtool
promtool: $(READY)
	@command -v promtool >/dev/null || [ -x $(BIN)/promtool ] || { command -v apt-get >/dev/null && \
		echo "Taking promtool out of Debian's prometheus" && rm -rf $(VENV)/prometheus && mkdir $(VENV)/prometheus && \
		{ [ "$$(id -u)" != 0 ] || apt-get update -qq; } && (cd $(VENV)/prometheus && apt-get download -qq -o APT::Sandbox::User=root prometheus) && \
		dpkg-deb --fsys-tarfile $(VENV)/prometheus/*.deb | tar -xO ./usr/bin/promtool >$(BIN)/promtool.new && \
		chmod +x $(BIN)/promtool.new && mv $(BIN)/promtool.new $(BIN)/promtool; rm -rf $(VENV)/prometheus; }
	@command -v promtool >/dev/null || [ -x $(BIN)/promtool ] || \
		{ echo "This needs promtool, which comes with Prometheus: put it on the PATH, then make again." >&2; exit 1; }
.PHONY: nspawn
nspawn:
	$(call need,command -v debootstrap >/dev/null && command -v systemd-nspawn >/dev/null && command -v lintian >/dev/null,debootstrap systemd-container lintian)

# What is measured beside gatewrit. Debian starts and enables firewalld where it is installed, which would change this
# machine's own firewall: so it is installed only where no systemd runs, as in a container, and its row is left out
# elsewhere unless it is there already.
.PHONY: rivals
rivals:
	$(call need,$(call FIND,ipset) && $(call FIND,iptables) && $(call FIND,trafgen),ipset iptables netsniff-ng)
	$(call need,[ -e /usr/lib/python3/dist-packages/data/ipasn6_20151101.dat.gz ] || [ ! -e /etc/debian_version ],python3-pyasn)
	$(call need,[ -d /run/systemd/system ] || [ ! -e /etc/debian_version ] || $(call FIND,firewalld),firewalld)

FIND = PATH="$$PATH:/usr/sbin:/sbin" command -v $(1) >/dev/null

# What a dependency group names, as pip reads it; not all of them know groups yet.
GROUP = $(BIN)/python -c 'import sys, tomllib; \
	print(*tomllib.load(open("pyproject.toml", "rb"))["dependency-groups"][sys.argv[1]], sep="\n")'

$(VENV)/.fuzz: pyproject.toml | $(READY)
	@$(GROUP) fuzz >$@.txt
	@$(BIN)/python -m pip install --quiet --requirement $@.txt
	@touch $@

$(VENV)/.bench: pyproject.toml | $(READY)
	@$(GROUP) bench >$@.txt
	@$(BIN)/python -m pip install --quiet --requirement $@.txt || echo "There will be no picture: matplotlib can't be installed." >&2
	@touch $@
