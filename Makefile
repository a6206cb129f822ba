# outbox-relay.  "make help" lists the targets.
SHELL = /bin/bash
.DEFAULT_GOAL = all

CC ?= gcc
BUILD ?= build
PKGS = libpq librabbitmq yaml-0.1 libssl libcrypto jansson libsystemd
CFLAGS ?= -O2 -g
WARNINGS = -Wall -Wextra -Wshadow -Wstrict-prototypes -Wconversion
ALL_CFLAGS = -std=gnu17 -D_GNU_SOURCE -Irelay -Iinclude -I$(BUILD) $(WARNINGS) \
	$(shell pkg-config --cflags $(PKGS)) $(CFLAGS) $(EXTRA_CFLAGS)
ALL_LIBS = $(shell pkg-config --libs $(PKGS)) $(EXTRA_LDFLAGS)

RELAY_SOURCES = $(shell find relay -name '*.c')
RELAY_OBJECTS = $(RELAY_SOURCES:%.c=$(BUILD)/%.o)
LIBRARY_OBJECTS = $(filter-out $(BUILD)/relay/main.o,$(RELAY_OBJECTS))
UNIT_SOURCES = $(wildcard tests/unit/test_*.c)
UNIT_TESTS = $(UNIT_SOURCES:tests/unit/%.c=$(BUILD)/tests/unit/%)

all: $(BUILD)/outbox-relay

$(BUILD)/outbox-relay: $(RELAY_OBJECTS)
	$(CC) $(CFLAGS) $(EXTRA_CFLAGS) -o $@ $^ $(ALL_LIBS)

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

$(BUILD)/librelay.a: $(LIBRARY_OBJECTS)
	rm -f $@ && ar rcs $@ $^

$(BUILD)/tests/unit/%: $(BUILD)/tests/unit/%.o $(BUILD)/librelay.a
	$(CC) $(CFLAGS) $(EXTRA_CFLAGS) -o $@ $^ $(ALL_LIBS) -lcmocka

check-unit: $(UNIT_TESTS)
	@set -e; for t in $^; do $$t; done

clean:
	rm -rf $(BUILD)

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
.PHONY: all check-unit clean
.SECONDARY:
