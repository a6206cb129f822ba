# outbox-relay.  "make help" lists the targets.
SHELL = /bin/bash
.DEFAULT_GOAL = all

ifeq ($(origin CC),default)
CC = gcc
endif
BUILD ?= build
CFLAGS ?= -O2 -g
PREFIX ?= /usr/local
LIBDIR ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
SYSCONFDIR ?= /etc
MANDIR ?= $(PREFIX)/share/man
UNITDIR ?= $(PREFIX)/lib/systemd/system
ZSHDIR ?= $(PREFIX)/share/zsh/site-functions
PYTHON ?= /usr/bin/python3

# A line a step, so that warnings are seen; V=1 shows the whole commands.
ifdef V
step =
else ifneq ($(findstring s,$(filter-out --%,$(firstword -$(MAKEFLAGS)))),)
step = @
else
step = @echo '  $(1)	$@';
endif

PKGS = libpq librabbitmq yaml-0.1 libssl libcrypto jansson libmicrohttpd
WARNINGS = -Wall -Wextra -Wshadow -Wstrict-prototypes -Wconversion
# Asked for once, and only when something is compiled: "make test" must work before anything is installed.
PKG_CFLAGS = $(eval PKG_CFLAGS := $(shell pkg-config --cflags $(PKGS)))$(PKG_CFLAGS)
PKG_LIBS = $(eval PKG_LIBS := $(shell pkg-config --libs $(PKGS)))$(PKG_LIBS)
ALL_CFLAGS = -std=c17 -D_GNU_SOURCE -Irelay -Iinclude $(WARNINGS) $(PKG_CFLAGS) $(CFLAGS) $(EXTRA_CFLAGS)
ALL_LIBS = -pthread -Wl,--as-needed $(PKG_LIBS) $(EXTRA_LDFLAGS)

RELAY_SOURCES := $(shell find relay -name '*.c')
MIGRATIONS := $(wildcard migrations/*/*.sql)
EMBEDDED = $(BUILD)/relay/postgres/migrations_embedded
PAGE = $(BUILD)/relay/http/page_embedded
RELAY_OBJECTS = $(RELAY_SOURCES:%.c=$(BUILD)/%.o) $(EMBEDDED).o $(PAGE).o
LIBRARY_OBJECTS = $(filter-out $(BUILD)/relay/main.o,$(RELAY_OBJECTS))
# The client libraries: lib/NAME*.c and include/NAME.h become libNAME.
CLIENT_NAMES := $(notdir $(basename $(wildcard include/*.h)))
CLIENT_SOURCES := $(wildcard lib/*.c)
CLIENT_OBJECTS = $(CLIENT_SOURCES:%.c=$(BUILD)/%.o)
CLIENT_ARCHIVES = $(CLIENT_NAMES:%=$(BUILD)/lib%.a)
CLIENT_VERSION := $(shell sed -n 's/^\#define OUTBOX_VERSION "\(.*\)"/\1/p' lib/outbox_version.h)
CLIENT_MAJOR := $(firstword $(subst ., ,$(CLIENT_VERSION)))
CLIENT_SHARED = $(CLIENT_NAMES:%=$(BUILD)/lib%.so.$(CLIENT_VERSION))
CLIENT_LIBS_outbox = libpq
CLIENT_LIBS_inbox = libpq librabbitmq
UNIT_SOURCES := $(wildcard tests/unit/test_*.c)
UNIT_TESTS = $(UNIT_SOURCES:tests/unit/%.c=$(BUILD)/tests/unit/%)
DRIVERS := $(patsubst %.c,$(BUILD)/%,$(wildcard tests/integration/*.c))
C_FILES := $(shell find relay include lib tests -name '*.[ch]' 2>/dev/null)

all: $(BUILD)/outbox-relay $(CLIENT_ARCHIVES) $(CLIENT_SHARED) ## build the relay and the client libraries (default)

$(BUILD)/outbox-relay: $(RELAY_OBJECTS)
	$(call step,LD)$(CC) $(CFLAGS) $(EXTRA_CFLAGS) -o $@ $(RELAY_OBJECTS) $(ALL_LIBS)

$(BUILD)/%.o: %.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(call step,CC)$(CC) $(ALL_CFLAGS) $(OBJECT_CFLAGS) -MMD -MP -c -o $@ $<

# The same objects for both forms of a library; only what its header marks can be seen from outside.
$(CLIENT_OBJECTS): OBJECT_CFLAGS = -fPIC -fvisibility=hidden
$(CLIENT_ARCHIVES): $(BUILD)/lib%.a: $(CLIENT_OBJECTS)
	$(call step,AR)rm -f $@ && ar rcs $@ $(filter $(BUILD)/lib/$*%,$^)

$(CLIENT_SHARED): $(BUILD)/lib%.so.$(CLIENT_VERSION): $(CLIENT_OBJECTS)
	$(call step,LD)$(CC) $(CFLAGS) $(EXTRA_CFLAGS) -shared -Wl,-soname,lib$*.so.$(CLIENT_MAJOR) -Wl,--no-undefined -o $@ \
		$(filter $(BUILD)/lib/$*%,$^) -Wl,--as-needed $$(pkg-config --libs $(CLIENT_LIBS_$*)) $(EXTRA_LDFLAGS)

# The migrations are a part of the binary.
$(EMBEDDED).c: relay/postgres/embed_migrations.sh $(MIGRATIONS)
	@mkdir -p $(@D)
	$(call step,GEN)relay/postgres/embed_migrations.sh $(sort $(MIGRATIONS)) >$@.new
	@mv $@.new $@

# So is the page.
$(PAGE).c: relay/http/embed_page.sh relay/http/page.html
	@mkdir -p $(@D)
	$(call step,GEN)relay/http/embed_page.sh relay/http/page.html >$@.new
	@mv $@.new $@

$(EMBEDDED).o $(PAGE).o: %.o: %.c $(BUILD)/flags
	$(call step,CC)$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

$(BUILD)/librelay.a: $(LIBRARY_OBJECTS)
	$(call step,AR)rm -f $@ && ar rcs $@ $(LIBRARY_OBJECTS)

$(BUILD)/tests/unit/%: $(BUILD)/tests/unit/%.o $(BUILD)/librelay.a $(CLIENT_ARCHIVES)
	$(call step,LD)$(CC) $(CFLAGS) $(EXTRA_CFLAGS) -o $@ $< $(BUILD)/librelay.a $(CLIENT_ARCHIVES) $(ALL_LIBS) -lcmocka

$(DRIVERS): %: %.o $(BUILD)/librelay.a $(CLIENT_ARCHIVES)
	$(call step,LD)$(CC) $(CFLAGS) $(EXTRA_CFLAGS) -o $@ $^ $(ALL_LIBS)

PRELOADS := $(patsubst %.c,$(BUILD)/%.so,$(wildcard tests/integration/preload/*.c))
$(PRELOADS): $(BUILD)/%.so: %.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(call step,LD)$(CC) $(ALL_CFLAGS) -fPIC -shared -MMD -MP -o $@ $<

# Changes when the compiler or its flags do, so that everything is built anew.
$(BUILD)/flags: FORCE
	@pkg-config --exists $(PKGS) || { echo "libraries are missing; run: tests/support/install build" >&2; exit 1; }
	@mkdir -p $(@D)
	@flags='$(CC) $(ALL_CFLAGS) $(ALL_LIBS)'; [ "$$(cat $@ 2>/dev/null)" = "$$flags" ] || echo "$$flags" >$@

debug: ## build without optimisation in build/debug
	$(MAKE) BUILD=build/debug CFLAGS='-O0 -g3' all

test: ## install what is missing, build, run the unit and integration tests, and a minute of chaos
	tests/support/install build test node
	$(MAKE) all check-unit
	$(MAKE) check-integration
	$(MAKE) check-chaos CHAOS_ARGS='$(CHAOS_BOUNDED)'

unit-tests: $(UNIT_TESTS)
drivers: $(DRIVERS) $(PRELOADS)
everything: all unit-tests bench-programs drivers fuzz-objects torture-objects $(BUILD)/tests/simulation/simulate \
	$(BUILD)/tests/chaos/proxy

check-unit: unit-tests ## run the unit tests (cmocka)
	@failed=; for t in $(UNIT_TESTS); do $(UNIT_RUNNER) $$t || failed="$$failed $$t"; done; \
	if [ -n "$$failed" ]; then echo "failed:$$failed" >&2; exit 1; fi

# PYTEST_ARGS="-k name -x" chooses; RELAY=build/asan/outbox-relay tests another binary.  Each worker has servers of its own,
# unless $OUTBOX_STACK names some: tests that kill them cannot share them.
PYTEST_WORKERS ?= $(if $(OUTBOX_STACK),0,2)
check-integration: all drivers $(BUILD)/tests/chaos/proxy ## run the integration tests (pytest, a private Postgres and RabbitMQ)
	PYTHONDONTWRITEBYTECODE=1 $(PYTHON) -m pytest -p no:cacheprovider -n $(PYTEST_WORKERS) --dist loadfile \
		tests/integration tests/chaos $(PYTEST_ARGS)

docs-check: all ## the README, typed as it stands, and the man pages against the programs and their headers
	tests/support/install build test
	PYTHONDONTWRITEBYTECODE=1 $(PYTHON) -m pytest -p no:cacheprovider tests/integration/test_readme.py tests/integration/test_man.py

SIMULATION_OBJECTS = $(patsubst %.c,$(BUILD)/%.o,$(wildcard tests/simulation/*.c relay/core/*.c) relay/base/backoff.c relay/base/clock.c \
	relay/base/histogram.c)
$(BUILD)/tests/simulation/simulate: $(SIMULATION_OBJECTS)
	$(call step,LD)$(CC) $(CFLAGS) $(EXTRA_CFLAGS) -o $@ $^

# SIMULATION_ARGS="--seed 7 --verbose" replays one, SIMULATION_ARGS="--hours 8 --seed 1000000" runs for hours.
check-simulation: $(BUILD)/tests/simulation/simulate ## drive the core through 100,000 seeded histories under every fault
	$< $(SIMULATION_ARGS)

# PLANTED="early mark" chooses one.
check-planted: $(BUILD)/flags ## plant bugs, one at a time, that the simulation must find
	CC='$(CC)' tests/simulation/planted $(BUILD)/planted $(if $(PLANTED),'$(PLANTED)')

PROXY_OBJECTS = $(patsubst %.c,$(BUILD)/%.o,$(wildcard tests/chaos/*.c))
$(BUILD)/tests/chaos/proxy: $(PROXY_OBJECTS)
	$(call step,LD)$(CC) $(CFLAGS) $(EXTRA_CFLAGS) -o $@ $^

# The part of it that belongs to "make test".
CHAOS_BOUNDED = --bounded --seed 1 --faults 43
# CHAOS_ARGS="--seed 7 --faults 50" chooses; --help says what else.
check-chaos: all $(BUILD)/tests/chaos/proxy ## break real servers, relays and connections a thousand times
	PYTHONDONTWRITEBYTECODE=1 $(PYTHON) tests/chaos/chaos.py $(CHAOS_ARGS)

check-inbox: all drivers ## 50,000 messages, each sent twice, to 8 consumers that are killed, as the servers are (minutes)
	INBOX_MESSAGES=50000 INBOX_CONSUMERS=8 PYTHONDONTWRITEBYTECODE=1 $(PYTHON) -m pytest -p no:cacheprovider \
		tests/integration/test_libinbox.py -k every_message_twice $(PYTEST_ARGS)

# What must be right in every line: what the core decides, and what goes onto the wire.
COVERED = $(wildcard relay/core/*.c) $(patsubst %,relay/amqp/%.c,codec headers outbound confirms)
coverage: ## print the line coverage of core and codec by unit tests and simulation; fails below 95 %
	@[ ! -d build/coverage ] || find build/coverage -name '*.gcda' -delete
	$(MAKE) BUILD=build/coverage CC=gcc CFLAGS='-O0 -g --coverage' unit-tests build/coverage/tests/simulation/simulate
	$(MAKE) BUILD=build/coverage CC=gcc CFLAGS='-O0 -g --coverage' check-unit >/dev/null 2>build/coverage/tests.log || \
		{ cat build/coverage/tests.log; exit 1; }
	build/coverage/tests/simulation/simulate --histories 2000 >/dev/null
	tests/support/coverage build/coverage 95 $(COVERED)

SANITIZER_FLAGS = -O1 -g -fno-omit-frame-pointer -fno-sanitize-recover=all
asan: ## build with address and undefined-behaviour sanitizers in build/asan, run the unit tests
	$(MAKE) BUILD=build/asan CFLAGS='$(SANITIZER_FLAGS) -fsanitize=address,undefined' all check-unit

# Without address randomisation: gcc 12's thread sanitizer fails on kernels with 32 random bits.
tsan: ## build with the thread sanitizer in build/tsan, run the unit tests
	$(MAKE) BUILD=build/tsan CFLAGS='$(SANITIZER_FLAGS) -fsanitize=thread' \
		UNIT_RUNNER='setarch --addr-no-randomize' all check-unit

# FUZZ_SECONDS=3600 FUZZ_TARGETS=link looks longer at one.  libFuzzer is clang's.
FUZZ_SECONDS ?= 60
FUZZ_SOURCES := $(filter-out tests/fuzz/reference.c,$(wildcard tests/fuzz/*.c))
FUZZ_TARGETS ?= $(FUZZ_SOURCES:tests/fuzz/%.c=%)
FUZZ_PROGRAMS = $(FUZZ_TARGETS:%=$(BUILD)/tests/fuzz/%)
FUZZ_FLAGS = $(SANITIZER_FLAGS) -fsanitize=fuzzer-no-link,address,undefined
fuzz-objects: $(FUZZ_SOURCES:%.c=$(BUILD)/%.o) $(BUILD)/tests/fuzz/reference.o
fuzz-programs: $(FUZZ_PROGRAMS)

$(FUZZ_PROGRAMS): %: %.o $(BUILD)/tests/fuzz/reference.o $(BUILD)/librelay.a
	$(call step,LD)$(CC) $(CFLAGS) -fsanitize=fuzzer $(EXTRA_CFLAGS) -o $@ $^ $(ALL_LIBS)

fuzz: ## feed the parsers what libFuzzer thinks of, FUZZ_SECONDS (60) a target; first all of tests/fuzz/corpus
	tests/support/install build lint
	$(MAKE) CC=clang BUILD=build/fuzz CFLAGS='$(FUZZ_FLAGS)' fuzz-programs
	tests/fuzz/run build/fuzz/tests/fuzz $(FUZZ_SECONDS) $(FUZZ_TARGETS)

# The relay with its calls wrapped: tests/torture/torture.h.
TORTURE_OBJECTS = $(patsubst %.c,$(BUILD)/%.o,$(wildcard tests/torture/*.c))
TORTURE_WRAPS = $(shell sed -n 's/^WRAPPED(\(.*\));/-Wl,--wrap=\1/p' tests/torture/*.c)
torture-objects: $(TORTURE_OBJECTS) $(BUILD)/tests/torture/clients/driver.o
$(BUILD)/tests/torture/outbox-relay: $(TORTURE_OBJECTS) $(RELAY_OBJECTS)
	$(call step,LD)$(CC) $(CFLAGS) $(EXTRA_CFLAGS) $(TORTURE_WRAPS) -o $@ $^ $(ALL_LIBS)

$(BUILD)/tests/torture/clients/driver: $(BUILD)/tests/torture/clients/driver.o $(TORTURE_OBJECTS) $(CLIENT_OBJECTS)
	$(call step,LD)$(CC) $(CFLAGS) $(EXTRA_CFLAGS) $(TORTURE_WRAPS) -o $@ $^ $(ALL_LIBS)

# TORTURE_ARGS="--seconds 90" takes a sample; "--only run:memory:17:on" replays one.
check-torture: ## fail every allocation, libpq and system call of a run in turn, under the sanitizers (half an hour)
	tests/support/install build test
	$(MAKE) BUILD=build/asan CFLAGS='$(SANITIZER_FLAGS) -fsanitize=address,undefined' \
		build/asan/tests/torture/outbox-relay
	tests/support/stack run -- tests/torture/run build/asan/tests/torture/outbox-relay $(TORTURE_ARGS)

check-torture-clients: ## the same with the client libraries, and rabbitmq-c's calls (minutes)
	tests/support/install build test
	$(MAKE) BUILD=build/asan CFLAGS='$(SANITIZER_FLAGS) -fsanitize=address,undefined' \
		build/asan/tests/torture/clients/driver
	tests/support/stack run -- tests/torture/run_clients build/asan/tests/torture/clients/driver $(TORTURE_ARGS)

lint: ## format, include rules, cppcheck, clang-tidy, gcc and clang with -Werror
	tests/support/install build test lint
	$(MAKE) format-check
	tests/support/check-includes
	$(MAKE) $(EMBEDDED).c
	cppcheck --std=c11 --quiet --inline-suppr --error-exitcode=1 --enable=warning,performance,portability \
		--suppress=missingInclude --suppress=normalCheckLevelMaxBranches --suppress=varFuncNullUB \
		--suppress=literalWithCharPtrCompare --include=$$(pkg-config --variable=includedir jansson)/jansson.h \
		-Irelay -Iinclude -D_GNU_SOURCE $(wildcard relay lib)
	printf '%s\n' $(RELAY_SOURCES) $(CLIENT_SOURCES) | xargs -P 2 -n 8 sh -c \
		'clang-tidy --quiet "$$@" -- -std=c17 -D_GNU_SOURCE -Irelay -Iinclude $(PKG_CFLAGS) 2>/dev/null' tidy
	$(MAKE) CC=gcc BUILD=build/werror-gcc EXTRA_CFLAGS=-Werror everything
	$(MAKE) CC=clang BUILD=build/werror-clang EXTRA_CFLAGS=-Werror everything

format: ## put all C files into the project's form
	clang-format -i $(C_FILES)

# Versions differ in a few lines of ten thousand: the one of Debian 12 decides, others only tell.
format-check: ## fail when "make format" (clang-format 14) would change something
	@case "$$(clang-format --version)" in \
	*'version 14.'*) clang-format --dry-run --Werror $(C_FILES) ;; \
	*) clang-format --dry-run $(C_FILES) ;; \
	esac

demo: ## a shop of three services, one of them and the relay killed half-way; it counts messages, stock and money
	tests/support/install build test
	$(MAKE) all
	tests/demo/run

BENCH = $(BUILD)/tests/bench
BENCH_PROGRAMS = $(addprefix $(BENCH)/,bare plain_relay queue writers latency)
bench-programs: $(BENCH_PROGRAMS) $(BENCH)/link_alone $(BENCH)/consumer $(BENCH)/measure

$(BENCH_PROGRAMS): $(BENCH)/%: $(BENCH)/%.o $(BENCH)/bench.o $(BENCH)/writer.o
	$(call step,LD)$(CC) $(CFLAGS) $(EXTRA_CFLAGS) -o $@ $^ $(ALL_LIBS)

$(BENCH)/link_alone: $(BENCH)/link_alone.o $(BENCH)/bench.o $(BUILD)/librelay.a
	$(call step,LD)$(CC) $(CFLAGS) $(EXTRA_CFLAGS) -o $@ $^ $(ALL_LIBS)

$(BENCH)/consumer: $(BENCH)/consumer.o $(BENCH)/bench.o $(BUILD)/libinbox.a
	$(call step,LD)$(CC) $(CFLAGS) $(EXTRA_CFLAGS) -o $@ $^ $(ALL_LIBS)

$(BENCH)/measure: $(BENCH)/measure.o
	$(call step,LD)$(CC) $(CFLAGS) $(EXTRA_CFLAGS) -o $@ $^

bench: ## all measurements with their baselines
	tests/support/install build test
	$(MAKE) all bench-programs
	tests/bench/run

bench-quick: ## the same in under three minutes
	tests/support/install build test
	$(MAKE) all bench-programs
	tests/bench/run --quick

UNITS = $(wildcard systemd/*.service systemd/*.timer)
MAN_PAGES = $(wildcard docs/man/*.[0-9])
EXAMPLES = $(filter-out config/outbox-relay.yaml,$(wildcard config/*.yaml config/*.json))
COMPLETION = $(BUILD)/completion
# Made by running the program; a part of "all" would need one that runs wherever it is built.
completion: $(COMPLETION)/bash $(COMPLETION)/zsh
$(COMPLETION)/%: $(BUILD)/outbox-relay relay/cli/completion.sh
	@mkdir -p $(@D)
	relay/cli/completion.sh $< $* >$@.new
	@mv $@.new $@

install: all completion ## install under PREFIX (default /usr/local) and DESTDIR
	install -D -m 755 $(BUILD)/outbox-relay $(DESTDIR)$(PREFIX)/bin/outbox-relay
	for name in $(CLIENT_NAMES); do \
		install -D -m 644 include/$$name.h $(DESTDIR)$(INCLUDEDIR)/$$name.h && \
		install -D -m 644 $(BUILD)/lib$$name.a $(DESTDIR)$(LIBDIR)/lib$$name.a && \
		install -D -m 755 $(BUILD)/lib$$name.so.$(CLIENT_VERSION) $(DESTDIR)$(LIBDIR)/lib$$name.so.$(CLIENT_VERSION) && \
		ln -sf lib$$name.so.$(CLIENT_VERSION) $(DESTDIR)$(LIBDIR)/lib$$name.so.$(CLIENT_MAJOR) && \
		ln -sf lib$$name.so.$(CLIENT_MAJOR) $(DESTDIR)$(LIBDIR)/lib$$name.so && \
		install -d $(DESTDIR)$(LIBDIR)/pkgconfig && \
		sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@LIBDIR@|$(patsubst $(PREFIX)/%,$${prefix}/%,$(LIBDIR))|' \
			-e 's|@INCLUDEDIR@|$(patsubst $(PREFIX)/%,$${prefix}/%,$(INCLUDEDIR))|' \
			-e 's|@VERSION@|$(CLIENT_VERSION)|' lib/$$name.pc.in >$(DESTDIR)$(LIBDIR)/pkgconfig/$$name.pc || exit 1; done
	for f in $(MIGRATIONS); do \
		install -D -m 644 $$f $(DESTDIR)$(PREFIX)/share/outbox-relay/$$f || exit 1; done
	install -D -m 644 config/outbox-relay.yaml $(DESTDIR)$(SYSCONFDIR)/outbox-relay/outbox-relay.yaml.sample
	for f in $(EXAMPLES); do \
		install -D -m 644 $$f $(DESTDIR)$(PREFIX)/share/doc/outbox-relay/examples/$${f##*/} || exit 1; done
	install -d $(DESTDIR)$(UNITDIR)
	for f in $(UNITS); do \
		sed 's|/usr/local/bin/|$(PREFIX)/bin/|' $$f >$(DESTDIR)$(UNITDIR)/$${f##*/} && \
		chmod 644 $(DESTDIR)$(UNITDIR)/$${f##*/} || exit 1; done
	install -D -m 644 $(COMPLETION)/bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/outbox-relay
	install -D -m 644 $(COMPLETION)/zsh $(DESTDIR)$(ZSHDIR)/_outbox-relay
	for f in $(MAN_PAGES); do \
		install -D -m 644 $$f $(DESTDIR)$(MANDIR)/man$${f##*.}/$${f##*/} || exit 1; done
# Debian's loader finds what lies in /usr/local/lib only after this; a package and a prefix of one's own have other ways.
	if [ -z "$(DESTDIR)" ] && [ "$$(id -u)" = 0 ]; then ldconfig; fi

uninstall: ## remove what install put there (never a configuration)
	rm -f $(DESTDIR)$(PREFIX)/bin/outbox-relay
	rm -f $(CLIENT_NAMES:%=$(DESTDIR)$(INCLUDEDIR)/%.h) $(CLIENT_NAMES:%=$(DESTDIR)$(LIBDIR)/pkgconfig/%.pc) \
		$(foreach end,a so so.$(CLIENT_MAJOR) so.$(CLIENT_VERSION),$(CLIENT_NAMES:%=$(DESTDIR)$(LIBDIR)/lib%.$(end)))
	rm -rf $(DESTDIR)$(PREFIX)/share/outbox-relay $(DESTDIR)$(PREFIX)/share/doc/outbox-relay
	rm -f $(DESTDIR)$(SYSCONFDIR)/outbox-relay/outbox-relay.yaml.sample
	rm -f $(DESTDIR)$(PREFIX)/share/bash-completion/completions/outbox-relay $(DESTDIR)$(ZSHDIR)/_outbox-relay
	rm -f $(patsubst systemd/%,$(DESTDIR)$(UNITDIR)/%,$(UNITS))
	rm -f $(foreach page,$(MAN_PAGES),$(DESTDIR)$(MANDIR)/man$(lastword $(subst ., ,$(page)))/$(notdir $(page)))

VERSION = $(shell sed -n 's/^\#define VERSION "\(.*\)"/\1/p' relay/base/version.h)
dist: ## a tar of the last commit in build/
	@mkdir -p build
	git archive --prefix=outbox-relay-$(VERSION)/ -o build/outbox-relay-$(VERSION).tar.gz HEAD

deb: ## the Debian packages, in build/deb
	tests/support/install build deb
	config/debian/build

check-deb: deb ## lintian, then install, run, upgrade and purge them in a Debian tree made for it; needs root
	config/debian/check

# MATRIX_ARGS="trixie -- all drivers check-integration PYTEST_ARGS='-k delivery'" chooses.
check-matrix: ## "make test" of the last commit in trees of Debian 12 and 13; needs root (40 minutes)
	tests/support/matrix $(MATRIX_ARGS)

clean: ## remove build/ (stop a running stack first)
	rm -rf $(BUILD)

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1	\2/p' Makefile | expand -t 20

-include $(RELAY_OBJECTS:.o=.d) $(CLIENT_OBJECTS:.o=.d) $(UNIT_TESTS:=.d) $(SIMULATION_OBJECTS:.o=.d) $(DRIVERS:=.d) \
	$(wildcard $(BENCH)/*.d $(BUILD)/tests/fuzz/*.d $(BUILD)/tests/torture/*.d $(BUILD)/tests/torture/clients/*.d $(BUILD)/tests/chaos/*.d)
FORCE:
.PHONY: FORCE all debug docs-check test unit-tests drivers everything check-unit check-integration check-simulation check-planted check-chaos check-inbox asan tsan \
	check-torture check-torture-clients torture-objects coverage fuzz fuzz-objects fuzz-programs \
	lint format format-check demo bench bench-quick bench-programs completion install uninstall dist deb check-deb check-matrix clean help
.SECONDARY:
.DELETE_ON_ERROR:
