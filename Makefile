# holdfast. `make run` shows the main job, `make test` runs every test; both do all set-up themselves.
#
# A flavour is one way to compile the same sources, each in a folder of its own:
#   release  build/release   what is installed
#   test     build/test      marks and planted engine bugs compiled in, for the suite
#   asan     build/asan      as test, with AddressSanitizer and LeakSanitizer
#   ubsan    build/ubsan     as test, with UndefinedBehaviorSanitizer
FLAVOUR ?= release
O       := build/$(FLAVOUR)
PREFIX  ?= /usr/local

CC        ?= cc
PKGS      := luajit libuv libwebsockets openssl libcurl libzstd zlib libcjson
WARNINGS  := -Wall -Wextra -Wshadow -Wpointer-arith -Wstrict-prototypes -Wmissing-prototypes \
             -Wwrite-strings -Wvla
CPPFLAGS  += -Iruntime -D_GNU_SOURCE $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
CFLAGS    ?= -O2 -g
CFLAGS    += -std=gnu11 -fPIC -fno-common -fno-strict-aliasing -MMD -MP $(WARNINGS)
LDLIBS    := $(shell pkg-config --libs $(PKGS) 2>/dev/null) -lm -ldl -lpthread
LDFLAGS   += -Wl,-E

ifeq ($(FLAVOUR),test)
CPPFLAGS += -DHOLDFAST_TEST
endif
ifeq ($(FLAVOUR),asan)
CPPFLAGS += -DHOLDFAST_TEST
CFLAGS   += -fsanitize=address -fno-omit-frame-pointer -O1
LDFLAGS  += -fsanitize=address
endif
ifeq ($(FLAVOUR),ubsan)
CPPFLAGS += -DHOLDFAST_TEST
CFLAGS   += -fsanitize=undefined -fno-sanitize-recover=undefined -O1
LDFLAGS  += -fsanitize=undefined
endif
ifdef WERROR
CFLAGS   += -Werror
endif

MODULES  := base engine frame crypto policy config bind peer net sim store deliver ops cli
ARCHIVES := $(MODULES:%=$(O)/lib%.a) $(O)/libtop.a

.PHONY: all build
all: build
build: $(O)/holdfast

# --- objects and one archive per folder of runtime/ -------------------------------------------
$(O)/obj/%.o: runtime/%.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) -c $< -o $@

define MODULE_RULE
$(O)/lib$(1).a: $(patsubst runtime/%.c,$(O)/obj/%.o,$(wildcard runtime/$(1)/*.c))
	@rm -f $$@; ar rcs $$@ $$^
endef
$(foreach m,$(MODULES),$(eval $(call MODULE_RULE,$(m))))
$(O)/libtop.a: $(patsubst runtime/%.c,$(O)/obj/%.o,$(filter-out runtime/main.c,$(wildcard runtime/*.c)))
	@rm -f $@; ar rcs $@ $^

$(O)/holdfast: $(O)/obj/main.o $(ARCHIVES)
	$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $(O)/obj/main.o -Wl,--start-group $(ARCHIVES) -Wl,--end-group $(LDLIBS)

# --- tests: a small busted host, and one Lua module per C module under test -----------------------
# tests/support/unit_NAME.c becomes `require "unit.NAME"`; its first line names the archives it
# needs:  /* modules: frame base */
$(O)/runner: tests/support/runner.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) -o $@ $< $(shell pkg-config --libs luajit 2>/dev/null) -lm -ldl

unit_modules = $(shell sed -n '1s,.*modules: \(.*\) \*/.*,\1,p' tests/support/unit_$(1).c)
define UNIT_RULE
$(O)/unit/$(1).so: tests/support/unit_$(1).c $(patsubst %,$(O)/lib%.a,$(call unit_modules,$(1)))
	@mkdir -p $$(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) $(filter -fsanitize%,$(LDFLAGS)) -shared -o $$@ $$< -Wl,--start-group \
	  $(patsubst %,$(O)/lib%.a,$(call unit_modules,$(1))) -Wl,--end-group $(LDLIBS)
endef
UNITS := $(patsubst tests/support/unit_%.c,%,$(wildcard tests/support/unit_*.c))
$(foreach u,$(UNITS),$(eval $(call UNIT_RULE,$(u))))

.PHONY: unit-%
# One module's unit specs alone: make FLAVOUR=test unit-frame
unit-%: $(O)/runner $(O)/unit/%.so
	HOLDFAST_BUILD=$(O) $(O)/runner tests/unit/$*

.PHONY: clean
clean:
	rm -rf build

-include $(shell find $(O) -name '*.d' 2>/dev/null)
