# holdfast. `make run` shows the main job, `make test` runs every test; both do all set-up themselves.
#
# A flavour is one way to compile the same sources, each in a folder of its own:
#   release  build/release   what is installed
#   test     build/test      marks and planted engine bugs compiled in, warnings are errors
#   asan     build/asan      as test, with AddressSanitizer and LeakSanitizer
#   ubsan    build/ubsan     as test, with UndefinedBehaviorSanitizer
FLAVOUR ?= release
O       := build/$(FLAVOUR)
PREFIX  ?= /usr/local
JOBS    ?= 2

# cc is what every Debian has with make; clang works as well (make CC=clang).
CC       ?= cc
PKGS     := luajit libuv libwebsockets openssl libcurl libzstd zlib libcjson sqlite3
WARNINGS := -Wall -Wextra -Wshadow -Wpointer-arith -Wstrict-prototypes -Wmissing-prototypes \
            -Wwrite-strings -Wvla
# Immediate: one pkg-config for the whole run, not one per object.
PKG_CFLAGS := $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
PKG_LIBS   := $(shell pkg-config --libs $(PKGS) 2>/dev/null)
CPPFLAGS += -Iruntime -D_GNU_SOURCE $(PKG_CFLAGS) -DHOLDFAST_PREFIX='"$(PREFIX)"'
CFLAGS   ?= -O2 -g
CFLAGS   += -std=gnu11 -fPIC -fno-common -fno-strict-aliasing -MMD -MP $(WARNINGS)
LDLIBS   := $(PKG_LIBS) -lm -ldl -lpthread
LDFLAGS  += -Wl,-E

ifneq ($(FLAVOUR),release)
CPPFLAGS += -DHOLDFAST_TEST
CFLAGS   += -Werror
endif
ifeq ($(FLAVOUR),asan)
CFLAGS   += -fsanitize=address -fno-omit-frame-pointer -O1
LDFLAGS  += -fsanitize=address
endif
ifeq ($(FLAVOUR),ubsan)
CFLAGS   += -fsanitize=undefined -fno-sanitize-recover=undefined -O1
LDFLAGS  += -fsanitize=undefined
endif

MODULES  := base engine frame crypto policy config bind trace peer net sim store deliver ops cli
ARCHIVES := $(MODULES:%=$(O)/lib%.a) $(O)/libtop.a

.PHONY: all build
all: build
build: $(O)/holdfast

# --- dependencies ---------------------------------------------------------------------------------
PACKAGES := build-essential pkg-config libluajit-5.1-dev libuv1-dev libwebsockets-dev \
            libwebsockets-evlib-uv libssl-dev libcurl4-openssl-dev libzstd-dev zlib1g-dev libcjson-dev \
            libsqlite3-dev lua-busted openssl ca-certificates procps
# What runs the example clients; COMMAND=PACKAGE: not needed where the command is there;
# COMMAND@PACKAGE: that command alone.
PACKAGES_TEST := python3=python3 node=nodejs go=golang-go curl=curl promtool@prometheus chromium-headless-shell=chromium-headless-shell
PACKAGES_MORE := valgrind clang libclang-rt-14-dev

.PHONY: deps deps-test deps-more
# Installs what is missing with apt-get, or says what to install.
deps:
	@tests/support/deps.sh $(PACKAGES)
deps-test: deps
	@tests/support/deps.sh $(PACKAGES_TEST)
deps-more: deps-test
	@tests/support/deps.sh $(PACKAGES_MORE)

# --- objects, and one archive per folder of runtime/ -------------------------------------------------
$(O)/obj/%.o: runtime/%.c
	@mkdir -p $(@D)
	@echo "  cc $<"
	@$(CC) $(CPPFLAGS) $(CFLAGS) -c $< -o $@

# Built in by .incbin, which no -MMD sees.
$(O)/obj/ops/dashboard.o: $(wildcard runtime/ops/dashboard/*)

define MODULE_RULE
$(O)/lib$(1).a: $(patsubst runtime/%.c,$(O)/obj/%.o,$(wildcard runtime/$(1)/*.c))
	@rm -f $$@; ar rcs $$@ $$^
endef
$(foreach m,$(MODULES),$(eval $(call MODULE_RULE,$(m))))
$(O)/libtop.a: $(patsubst runtime/%.c,$(O)/obj/%.o,$(filter-out runtime/main.c,$(wildcard runtime/*.c)))
	@rm -f $@; ar rcs $@ $^

$(O)/holdfast: $(O)/obj/main.o $(ARCHIVES)
	@echo "  link $@"
	@$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $(O)/obj/main.o -Wl,--start-group $(ARCHIVES) -Wl,--end-group $(LDLIBS)

# --- tests: a small busted host, and one Lua module per C module under test ---------------------------
# tests/support/unit_NAME.c becomes `require "unit.NAME"`; its first line names the archives it needs:
#   /* modules: frame base */
# With AddressSanitizer it is linked with everything that a unit may bring: a thread-local block that came with
# dlopen() is memory of malloc's, and where one lies 16 bytes into a page gcc's LeakSanitizer takes what is in front
# of it for its size, and dies.
LOADED_EARLY = -Wl,--no-as-needed $(LDLIBS)
$(O)/runner: tests/support/runner.c
	@mkdir -p $(@D)
	@echo "  link $@"
	@$(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) -o $@ $< $(shell pkg-config --libs luajit 2>/dev/null) -lm -ldl \
	  $(if $(filter asan,$(FLAVOUR)),$(LOADED_EARLY))

unit_modules = $(shell sed -n '1s,.*modules: \(.*\) \*/.*,\1,p' tests/support/unit_$(1).c)
define UNIT_RULE
$(O)/unit/$(1).so: tests/support/unit_$(1).c $(patsubst %,$(O)/lib%.a,$(call unit_modules,$(1)))
	@mkdir -p $$(@D)
	@echo "  link $$@"
	@$(CC) $(CPPFLAGS) $(CFLAGS) $(filter -fsanitize%,$(LDFLAGS)) -shared -o $$@ $$< -Wl,--start-group \
	  $(patsubst %,$(O)/lib%.a,$(call unit_modules,$(1))) -Wl,--end-group $(LDLIBS)
endef
UNITS := $(patsubst tests/support/unit_%.c,%,$(wildcard tests/support/unit_*.c))
$(foreach u,$(UNITS),$(eval $(call UNIT_RULE,$(u))))

# An echo client for public conformance suites: build/tests/ws_echo_client URL
$(O)/ws_echo_client: tests/support/ws_echo_client.c $(foreach m,net frame engine crypto base,$(O)/lib$(m).a)
	@echo "  link $@"
	@$(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) -o $@ $< -Wl,--start-group $(filter %.a,$^) -Wl,--end-group $(LDLIBS)
	@mkdir -p build/tests && ln -sf ../$(FLAVOUR)/ws_echo_client build/tests/ws_echo_client

# A disk that is ill on demand, preloaded by specs of the daemon; plain in every flavour.
$(O)/disk_shim.so: tests/support/disk_shim.c
	@mkdir -p $(@D)
	@echo "  link $@"
	@$(CC) -D_GNU_SOURCE -std=gnu11 -O1 -g -fPIC $(WARNINGS) -shared -o $@ $< -ldl

# Counts allocations, likewise.
$(O)/malloc_shim.so: tests/support/malloc_shim.c
	@mkdir -p $(@D)
	@echo "  link $@"
	@$(CC) -D_GNU_SOURCE -std=gnu11 -O1 -g -fPIC $(WARNINGS) -shared -o $@ $<

.PHONY: test-build unit-% suite
test-build: $(O)/runner $(O)/holdfast $(O)/ws_echo_client $(O)/disk_shim.so $(O)/malloc_shim.so $(UNITS:%=$(O)/unit/%.so)

# One module's unit specs alone: make FLAVOUR=test unit-frame_ws
unit-%: $(O)/runner $(O)/unit/%.so
	HOLDFAST_BUILD=$(O) $(O)/runner tests/unit/$*

# Everything, once, in the flavour at hand; `SPECS=` narrows it down.
suite:
	@$(MAKE) --no-print-directory -j$(JOBS) FLAVOUR=$(FLAVOUR) test-build
	@tests/run.sh $(FLAVOUR) $(SPECS)

.PHONY: test check check-headers asan ubsan valgrind prove-long kill-matrix
# The sources' own rules first, then all specs. The last line counts them.
test: deps-test
	@$(MAKE) --no-print-directory FLAVOUR=test check
	@$(MAKE) --no-print-directory FLAVOUR=test suite

# Warnings as errors (all of the test flavour), headers alone, walls, examples and policies.
check: check-headers
	@$(MAKE) --no-print-directory -j$(JOBS) FLAVOUR=test build/test/holdfast build/test/runner
	@HOLDFAST_BUILD=build/test build/test/runner tests/walls_spec.lua >build/test/walls.log 2>&1 || { cat build/test/walls.log; exit 1; }
	@HOLDFAST_LUA=lua build/test/holdfast check policies/*.lua
	@echo "check: warnings, headers, walls and policies are fine"

check-headers:
	@fail=0; for h in $$(find runtime -name '*.h'); do \
	  printf '#include "%s"\n' "$${h#runtime/}" | $(CC) $(CPPFLAGS) -std=gnu11 $(WARNINGS) -Werror -fsyntax-only -xc - || { echo "$$h does not compile alone"; fail=1; }; \
	done; exit $$fail

asan: deps-test
	@ASAN_OPTIONS=detect_leaks=1:abort_on_error=0 HOLDFAST_SPEC_SECONDS=600 $(MAKE) --no-print-directory FLAVOUR=asan suite
ubsan: deps-test
	@UBSAN_OPTIONS=print_stacktrace=1 HOLDFAST_SPEC_SECONDS=600 $(MAKE) --no-print-directory FLAVOUR=ubsan suite
# A million random schedules of the engine, and many of the simulator and of power cuts, in parts that can be
# repeated, and recorded runs, replayed. HOLDFAST_ROUNDS (1000000), HOLDFAST_SEEDS (2000), HOLDFAST_POWER (10000),
# HOLDFAST_REPLAYS (1000): a COUNT or FIRST-LAST; 0 leaves them out.
prove-long: deps
	@$(MAKE) --no-print-directory -j$(JOBS) FLAVOUR=test test-build
	@tests/prove_long.sh test
# kill -9 at random instants and at every failpoint, on the real daemon; HOLDFAST_KILLS (200), HOLDFAST_SEED.
kill-matrix: deps
	@$(MAKE) --no-print-directory -j$(JOBS) FLAVOUR=test build/test/runner build/test/holdfast $(UNITS:%=build/test/unit/%.so)
	@tests/kill_matrix.sh test
# What is changed in a rule or a number is noticed: MUTANTS (150) of them by MUTANTS_SEED (1), MUTANTS_JOBS (2) at once. Takes an
# hour; keeps build/mutants/report.txt. tests/mutants/mutants.lua has the rest.
.PHONY: mutants mutants-run
mutants: deps
	@$(MAKE) --no-print-directory -j$(JOBS) FLAVOUR=test build/test/runner build/test/holdfast $(UNITS:%=build/test/unit/%.so)
	@$(MAKE) -s --no-print-directory FLAVOUR=test mutants-run
mutants-run: export MUTANTS_CC = $(CC) $(CPPFLAGS) $(filter-out -MMD -MP,$(CFLAGS))
mutants-run: export MUTANTS_LIBS = $(LDLIBS)
mutants-run: export MUTANTS_BUILD = $(O)
mutants-run:
	@HOLDFAST_BUILD=$(O) HOLDFAST_OUTPUT=TAP $(O)/runner tests/mutants/mutants.lua
# Mixed faults on the real daemon for SOAK_SECONDS (1800): what grows, what is lost. Keeps build/soak.
.PHONY: soak
soak: deps
	@$(MAKE) -s --no-print-directory -j$(JOBS) build $(O)/runner $(O)/unit/process.so $(O)/unit/ops.so
	@HOLDFAST_BUILD=$(O) HOLDFAST_OUTPUT=TAP $(O)/runner tests/soak/soak.lua
# A peer of every platform, fifty connections, FIVE_SECONDS (180) of faults, a kill in the middle. Keeps build/five.
.PHONY: five
five: deps
	@$(MAKE) -s --no-print-directory -j$(JOBS) build $(O)/runner $(O)/unit/process.so $(O)/unit/ops.so
	@HOLDFAST_BUILD=$(O) HOLDFAST_OUTPUT=TAP $(O)/runner tests/soak/five.lua
# Thirty times slower, real sockets miss their bounds and policies their backstop of CPU time: there only
# memory errors are judged, and tests that fail count as skipped. SPECS= runs others.
VALGRIND_SPECS := $(sort $(wildcard tests/unit/*)) tests/wire \
                  tests/sim/invariants_spec.lua tests/sim/harness_spec.lua tests/sim/planned_handover_spec.lua \
                  tests/regress/backlog_hold_spec.lua tests/regress/fetch_cancelled_spec.lua \
                  tests/regress/reload_in_greeting_spec.lua tests/regress/session_in_pieces_spec.lua
valgrind: deps-more
	@HOLDFAST_ROUNDS=250 HOLDFAST_SEEDS=1-2 HOLDFAST_SPEC_SECONDS=1800 \
	  HOLDFAST_UNTIMED='^tests/(wire|unit/(net|net_echo|ops|ops_log|policy|store|store_lock|leave))/' \
	  HOLDFAST_WRAP="valgrind -q --error-exitcode=9 --leak-check=full --errors-for-leak-kinds=definite" \
	  $(MAKE) --no-print-directory FLAVOUR=test suite SPECS="$(or $(SPECS),$(VALGRIND_SPECS))"

# What a fault looks like, how fast it is noticed and healed: every row provoked and timed on real sockets.
.PHONY: fault-table
fault-table: deps
	@$(MAKE) --no-print-directory -j$(JOBS) FLAVOUR=test test-build >/dev/null
	@tests/support/fault_table.sh test

# Pictures of the dashboard in three situations, and what status and why say in them: build/screenshots. Looked at, not judged.
.PHONY: screenshots
screenshots: deps-test
	@$(MAKE) -s --no-print-directory -j$(JOBS) FLAVOUR=test test-build
	@HOLDFAST_BUILD=build/test HOLDFAST_OUTPUT=TAP build/test/runner tests/support/screenshots.lua

# --- fuzzing: clang's libFuzzer, FUZZ_SECONDS for each target ------------------------------------------
FUZZ_SECONDS ?= 60
FUZZ := $(patsubst tests/fuzz/%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
FUZZ_SOURCES := $(filter-out runtime/base/json_value.c,$(wildcard runtime/base/*.c)) $(wildcard runtime/frame/*.c runtime/crypto/*.c)
build/fuzz/%: tests/fuzz/%.c $(FUZZ_SOURCES)
	@mkdir -p $(@D)
	@echo "  fuzz $@"
	@clang -std=gnu11 -O1 -g -fno-omit-frame-pointer -fsanitize=fuzzer,address,undefined \
	  -fno-sanitize-recover=undefined -DHOLDFAST_TEST -D_GNU_SOURCE -Iruntime -o $@ $< $(FUZZ_SOURCES) \
	  -lcrypto -lz -lzstd -lm
.PHONY: fuzz
fuzz: deps-more
	@$(MAKE) --no-print-directory -j$(JOBS) $(FUZZ:%=build/fuzz/%)
	@for t in $(FUZZ); do mkdir -p build/fuzz/corpus_$$t; \
	  build/fuzz/$$t -max_total_time=$(FUZZ_SECONDS) -max_len=4096 -print_final_stats=1 \
	    -artifact_prefix=build/fuzz/$$t- build/fuzz/corpus_$$t tests/fuzz/corpus/$$t || exit 1; done

# --- facts about the installed libwebsockets, measured: why it serves here and does not dial ------------
LWS_FACTS := tests/bench/lws_facts.c $(wildcard tests/bench/lws_facts/*.c)
$(O)/lws_facts: $(LWS_FACTS) tests/bench/lws_facts/facts.h $(foreach m,net frame engine crypto base,$(O)/lib$(m).a)
	@mkdir -p $(@D)
	@echo "  link $@"
	@$(CC) $(CPPFLAGS) -Itests/bench/lws_facts $(filter-out -MMD -MP,$(CFLAGS)) $(LDFLAGS) -o $@ $(LWS_FACTS) \
	  -Wl,--start-group $(filter %.a,$^) -Wl,--end-group $(LDLIBS)
.PHONY: lws-facts man
lws-facts: deps
	@$(MAKE) --no-print-directory -j$(JOBS) $(O)/lws_facts
	@$(O)/lws_facts
# Writes examples/man/holdfast.1 anew from `holdfast help`; a spec compares them.
man: deps
	@$(MAKE) --no-print-directory -j$(JOBS) FLAVOUR=test build/test/holdfast build/test/runner build/test/unit/process.so
	@HOLDFAST_WRITE=1 HOLDFAST_BUILD=build/test build/test/runner tests/daemon/man_spec.lua

# --- holdfast beside what people would use instead -------------------------------------------------------
# BENCH="frames latency connects memory durable start scale herd" or some of them, BENCH_REPEATS (7), BENCH_SECONDS (1), BENCH_LINKS (10000).
# Rivals that are not installed are left out; `make deps-bench` installs them.
PACKAGES_BENCH := node-ws python3-websockets python3-aiohttp golang-go golang-github-gorilla-websocket-dev curl
BENCH_BIN := far_end raw lws
GOPATH_DEBIAN := /usr/share/gocode
$(O)/bench/far_end: $(wildcard tests/bench/far_end/*.[ch])
	@mkdir -p $(@D)
	@echo "  link $@"
	@$(CC) -D_GNU_SOURCE -std=gnu11 -O2 -g $(WARNINGS) -o $@ $(filter %.c,$^) $(PKG_LIBS) -lpthread
$(O)/bench/%: tests/bench/rivals/%.c
	@mkdir -p $(@D)
	@echo "  link $@"
	@$(CC) -D_GNU_SOURCE -std=gnu11 -O2 -g $(WARNINGS) -o $@ $< $(PKG_LIBS)
$(O)/bench/gorilla: tests/bench/rivals/gorilla/main.go
	@mkdir -p $(@D)
	@if command -v go >/dev/null && [ -d $(GOPATH_DEBIAN)/src/github.com/gorilla/websocket ]; then \
	  echo "  link $@"; GO111MODULE=off GOFLAGS= GOPATH=$(GOPATH_DEBIAN) GOCACHE=$(CURDIR)/$(O)/bench/go-cache go build -o $@ $<; fi
.PHONY: deps-bench bench reload-many
deps-bench: deps
	@tests/support/deps.sh $(PACKAGES_BENCH)
bench: deps
	@$(MAKE) -s --no-print-directory -j$(JOBS) build $(O)/runner $(O)/unit/process.so $(BENCH_BIN:%=$(O)/bench/%) $(O)/bench/gorilla
	@HOLDFAST_BUILD=$(O) HOLDFAST_OUTPUT=TAP $(O)/runner tests/bench/bench.lua
# 10,000 links, frames that flow, 100 reloads: no link may close, no frame may be lost. RELOAD_LINKS, RELOAD_TIMES, RELOAD_RATE
# (frames a second), RELOAD_PROVE (policies' `prove`, false).
reload-many: deps
	@$(MAKE) -s --no-print-directory -j$(JOBS) build $(O)/runner $(O)/unit/process.so $(O)/bench/far_end
	@HOLDFAST_BUILD=$(O) HOLDFAST_OUTPUT=TAP $(O)/runner tests/bench/reload_many.lua

# --- the rest ------------------------------------------------------------------------------------------
.PHONY: run install clean
# Thirty seconds of the main job: a fake platform with faults, the daemon, and what a bot would see.
run: deps
	@$(MAKE) --no-print-directory -j$(JOBS) build
	@HOLDFAST_LUA=lua examples/demo/run.sh $(O)/holdfast

install: build
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/holdfast
	install -m 755 $(O)/holdfast $(DESTDIR)$(PREFIX)/bin/holdfast
	cp -R lua policies examples $(DESTDIR)$(PREFIX)/share/holdfast/
	install -D -m 644 examples/man/holdfast.1 $(DESTDIR)$(PREFIX)/share/man/man1/holdfast.1
	install -D -m 644 examples/completion/holdfast.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/holdfast

clean:
	rm -rf build

-include $(shell find $(O)/obj -name '*.d' 2>/dev/null)
-include $(wildcard $(O)/unit/*.d)
