# Weft: build, prove, show, measure. Every target sets the machine up first; nothing is installed twice.
#
#   make              build everything (BPF object, programs, load tools)
#   make test         every proof; last line: N passed, N failed, N skipped
#   make demo         two simulated nodes, real programs, real Prometheus; cleans up after itself
#   make demo-shell   the same, left running to poke at
#   make bench        Weft beside Envoy, HAProxy, nginx, nghttpx  make bench SCENARIOS="s1 s7" ROUNDS=5
#   make soak         the long proofs (4 GB bodies, 1,000,000 requests, 100,000 connections)
#   make setup        only the set-up                              make clean   remove what was built

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := build
.PHONY: build bpf programs tools setup setup-bench test soak demo demo-shell bench clean

# One configuration for everything, so tests and demo run the very programs that ship.
CONFIGURATION := -c release -Xswiftc -enable-testing
RELEASE := .build/release
TOOLS := $(patsubst %.c,.build/bench/bin/%,$(notdir $(wildcard Tests/Bench/c/*.c Tests/Conformance/c/*.c)))
PYTHON := .build/venv/bin/python
SCENARIOS ?= v1 s1 s2 s3 s4 s5 s6 s7 s9
ROUNDS ?= 3

build: setup programs bpf tools

setup:
	@.ci/setup

setup-bench:
	@.ci/setup bench

programs: setup
	swift build $(CONFIGURATION)

# The object lies beside the executables: that is where `weft node` looks for it.
bpf: setup
	@$(MAKE) --no-print-directory -C bpf OUT="$$(swift build -c release --show-bin-path)"

tools: setup $(TOOLS)

vpath %.c Tests/Bench/c Tests/Conformance/c
.build/bench/bin/%: %.c
	@mkdir -p $(@D)
	$(CC) -O2 -Wall -Werror -o $@ $< $(LDLIBS)
.build/bench/bin/tlsload: LDLIBS := -lssl -lcrypto

test: setup bpf tools
	swift build $(CONFIGURATION) --build-tests
	@.ci/prove $(CONFIGURATION)

soak: build
	@.ci/prove --soak $(CONFIGURATION)

demo: build
	@$(PYTHON) deploy/demo/demo.py

demo-shell: build
	@$(PYTHON) deploy/demo/demo.py --stay

bench: setup-bench build
	@$(PYTHON) Tests/Bench/bench.py --scenarios "$(SCENARIOS)" --rounds $(ROUNDS)

clean:
	rm -rf .build/bench .build/proof .build/venv $(RELEASE)/capture.bpf.o
	swift package clean
	@$(MAKE) --no-print-directory -C bpf clean
