# Everything a person or a CI machine runs. Each does the set-up it needs.
#
#   CARGO_TARGET_DIR  where cargo builds; ./target when unset
#   PICKET_CACHE      what set-up keeps between runs; ~/.cache/picket when unset
#   DEMO_ONCE=1       `make demo` ends by itself, with 0 only if every finding came
#   CARGO_FLAGS       for every cargo command; --locked unless said otherwise
#   BENCH_FLAGS       for `make bench`: --only kernel, --rounds 15, --out FILE
#   KERNELS_FLAGS     for `make kernels`: --skip-missing, --only 6.1, --verbose
#   PICKET_DEBIAN_MIRROR  for `make kernels` and `make system`: where Debian is; that of this machine when unset
#   VM=1              for `make system`: on a machine of its own, which enforces limits
#   ALL=1             for `make kernels`: those for aarch64 too
#   PACKAGE_FLAGS     for `make package`: --only aarch64-unknown-linux-gnu, --release 2
#   PICKET_SIGNING_KEY  for `make package`: file with the OpenPGP key that signs SHA256SUMS
#   SOURCE_DATE_EPOCH for `make package`: the time of everything inside; that of the last commit when unset

SHELL := /bin/bash
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup kernel build test chaos demo lab kernels system package rollout-check manual bench check style lint clean \
	test-libraries test-programs test-binaries test-system

CARGO ?= cargo
CARGO_FLAGS ?= --locked
TARGET := $(abspath $(or $(CARGO_TARGET_DIR),target))
RELEASE := $(TARGET)/release
PROGRAMS := ebpf/programs/Cargo.toml
STAGE := scripts/stage

# Cargo builds a dependency with the features that the selected packages ask of it. So tests and
# tools always select the whole workspace and pick targets, not packages: everything is built once.
RUN := $(CARGO) run $(CARGO_FLAGS) --quiet --bin
TEST := $(CARGO) test $(CARGO_FLAGS) --workspace
tests_in = $(patsubst %.rs,%,$(addprefix --test ,$(notdir $(wildcard $(addsuffix /tests/*.rs,$(1))))))

# System tests mostly wait for windows of packets to pass, so more of them run than there are cores.
SYSTEM_THREADS := 16

# Where bpf-linker is installed, and where ip and dnsmasq live for a user whose path lacks them.
export PATH := $(PATH):$(or $(CARGO_HOME),$(HOME)/.cargo)/bin:/usr/sbin:/sbin
export PICKET_BIN := $(RELEASE)

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## installs what is missing on this machine, and says what
	@$(STAGE) set-up "set-up" scripts/setup.sh

kernel: setup ## builds the kernel programs into one object
	@$(STAGE) kernels "kernel object" $(RUN) xtask -- kernel

build: kernel ## builds the two binaries, optimised
	@$(STAGE) build "release binaries" \
		$(CARGO) build $(CARGO_FLAGS) --release -p picket-agent -p picket-collector
	@if [ "$(TARGET)" != "$(abspath target)" ]; then \
		mkdir -p target/release && \
		ln -sfn "$(RELEASE)/picket-agent" "$(RELEASE)/picket-collector" target/release/; \
	fi

test: setup kernel test-libraries test-programs test-binaries build test-system ## every test; as root also those with real packets

test-libraries:
	@$(STAGE) tests "tests of the libraries and cores" \
		$(TEST) --lib $(call tests_in,ebpf/abi wire intel agent/sense collector/detect)

test-programs:
	@$(STAGE) tests "kernel programs' host tests" \
		$(CARGO) test $(CARGO_FLAGS) --manifest-path $(PROGRAMS) --lib

test-binaries:
	@$(STAGE) tests "tests of the programs" \
		$(TEST) --bins $(call tests_in,agent collector xtask)
	@$(STAGE) tests "examples in the documentation" $(TEST) --doc

test-system:
	@scripts/rights
	@$(STAGE) system "system tests" $(TEST) $(call tests_in,tests) -- --test-threads=$(SYSTEM_THREADS)

chaos: setup build ## kills, cuts and fills everything under load, and shows that all was stored or counted
	@$(TEST) -p picket-tests --test chaos -- --nocapture --test-threads=1 --quiet

demo: setup build ## plays an intrusion against a real agent and collector, and shows the findings
	@$(RUN) picket-lab -- demo

lab: setup build ## the demo's network, left standing for your own experiments
	@scripts/rights --needed
	@$(RUN) picket-lab -- lab

# ALL=1 also boots aarch64, whose programs have to be built first.
INSIDE := $(TARGET)/inside
kernels: build ## boots Debian's other kernels with the product inside, and checks it there; ALL=1: aarch64 too
	@$(STAGE) set-up "set-up for other kernels" scripts/setup.sh $(if $(ALL),aarch64,kernels)
	@$(STAGE) kernels "what runs inside" $(CARGO) build $(CARGO_FLAGS) --workspace --bin picket-guest
	@$(if $(ALL),$(STAGE) build "what runs inside on aarch64" scripts/cross $(INSIDE) inside)
	@$(STAGE) kernels "other kernels" $(RUN) xtask -- kernels --bin $(RELEASE) \
		$(if $(ALL),--aarch64 $(INSIDE)/aarch64-unknown-linux-gnu/debug) $(KERNELS_FLAGS)

manual: kernel
	@$(STAGE) build "manual pages and completions" \
		$(CARGO) build $(CARGO_FLAGS) --quiet --workspace --examples
	@rm -rf $(TARGET)/manual
	@for program in agent collector; do $(TARGET)/debug/examples/$$program-manual $(TARGET)/manual || exit 1; done

package: manual ## .deb and .rpm of both programs for x86-64 and aarch64, with checksums, into target/packages
	@$(STAGE) set-up "set-up for packages" scripts/setup.sh package
	@$(STAGE) build "programs for other machines" scripts/cross $(TARGET)/cross
	@$(STAGE) build "packages" $(RUN) xtask -- package --lint --twice --built $(TARGET)/cross \
		--manual $(TARGET)/manual --out $(TARGET)/packages $(PACKAGE_FLAGS)

# The programs of this machine in packages, for this machine: its own C library is as new as it likes.
HOST = $(shell rustc -vV | sed -n 's/^host: //p')
PACK_HERE = $(RUN) xtask -- package --deb-only --only $(HOST) --glibc-max 9.9 \
	--built $(TARGET)/here --manual $(TARGET)/manual

# VM=1 emulates a machine with a kernel of its own, whose systemd enforces the limits of its units.
system: build manual ## boots a systemd, installs the packages in it, and lives their life; VM=1: emulated; as root
	@$(STAGE) set-up "set-up for a systemd" scripts/setup.sh $(if $(VM),machine,system)
	@mkdir -p $(TARGET)/here/$(HOST) && ln -sfn $(RELEASE) $(TARGET)/here/$(HOST)/release
	@$(STAGE) build "packages of this machine" $(PACK_HERE) --out $(TARGET)/packages-1
	@$(STAGE) build "packages to change to" $(PACK_HERE) --out $(TARGET)/packages-2 --release 2
	@$(STAGE) build "what boots them" $(CARGO) build $(CARGO_FLAGS) --workspace --bin picket-system
	@$(STAGE) system "life of the packages" $(TARGET)/debug/picket-system --packages $(TARGET)/packages-1 \
		--next $(TARGET)/packages-2 --cache $(or $(PICKET_CACHE),$(HOME)/.cache/picket)/system \
		$(if $(VM),--emulated)

rollout-check: package ## checks what rolls it out: SSM package and documents, templates, roles; as root boots it too
	@$(STAGE) set-up "set-up for rollout checks" scripts/setup.sh rollout
	@$(STAGE) build "packages to change to" $(RUN) xtask -- package --only $(HOST) \
		--built $(TARGET)/cross --manual $(TARGET)/manual --out $(TARGET)/packages-next --release 2
	@$(STAGE) system "rollout" scripts/rollout-check $(TARGET)/packages $(TARGET)/packages-next

bench: build ## measures against peers, prints a table and writes bench-results.json; as root all of it
	@$(STAGE) set-up "set-up for benches" scripts/setup.sh bench
	@$(STAGE) build "kernel object of the benches" $(RUN) xtask -- kernel --bench
	@$(STAGE) build "benches" $(CARGO) build $(CARGO_FLAGS) --release -p picket-bench
	@$(RELEASE)/picket-bench --object $(TARGET)/kernel/bench.o $(BENCH_FLAGS)

check: style lint ## formatting, house rules, clippy with warnings denied

style: setup
	@$(CARGO) fmt --version >/dev/null 2>&1 && $(CARGO) clippy --version >/dev/null 2>&1 || { \
		echo "no rustfmt or no clippy here. Remedy: rustup component add rustfmt clippy" >&2; exit 1; }
	@$(STAGE) tests "formatting" $(CARGO) fmt --all --check
	@$(STAGE) tests "formatting of the kernel programs" $(CARGO) fmt --manifest-path $(PROGRAMS) --check
	@$(STAGE) tests "house rules" $(RUN) xtask -- house

lint: kernel
	@$(STAGE) tests "clippy" \
		$(CARGO) clippy $(CARGO_FLAGS) --workspace --all-targets -- -D warnings
	@$(STAGE) tests "clippy of the kernel programs" \
		$(CARGO) clippy $(CARGO_FLAGS) --manifest-path $(PROGRAMS) --lib --tests -- -D warnings

clean: ## removes what was built; set-up's installations stay
	$(CARGO) clean
	rm -rf ebpf/programs/target target
