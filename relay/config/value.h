#ifndef CONFIG_VALUE_H
#define CONFIG_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"

/*
 * Texts to values and back.  The readers return NULL, or in words what the
 * text should have been.
 */

/**
 * value_bool(text, value):
 * true, yes, on / false, no, off, in any case.
 */
const char * value_bool(const char * text, bool * value);

/**
 * value_integer(text, value):
 * Decimal digits with an optional sign.
 */
const char * value_integer(const char * text, int64_t * value);

/**
 * value_number(text, value):
 * A decimal number, like 1.5.
 */
const char * value_number(const char * text, double * value);

/**
 * value_duration(text, value):
 * Numbers with a unit each (ms, s, m, h, d), like 500ms or 1h30m; 0 needs none.
 */
const char * value_duration(const char * text, clock_ns * value);

/**
 * value_size(text, value):
 * Bytes, or a number with KiB, MiB, GiB or TiB.
 */
const char * value_size(const char * text, int64_t * value);

/**
 * value_print_duration(text, size, value) / value_print_size(text, size, value):
 * The shortest text that reads as ${value}.
 */
void value_print_duration(char * text, size_t size, clock_ns value);
void value_print_size(char * text, size_t size, int64_t value);

/**
 * value_holds_password(text):
 * Whether a DSN or URL seems to hold a password, ${NAME} aside.
 */
bool value_holds_password(const char * text);

#endif /* CONFIG_VALUE_H */
