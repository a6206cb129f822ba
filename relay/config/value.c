#include "config/value.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * No reader accepts what it does not use up whole, and none overflows: a
 * value that no int64_t holds is refused like one that is no number.
 */
struct unit {
	const char * name;
	int64_t factor;
};

static const struct unit duration_units[] = {
    {"d", CLOCK_S(86400)},
    {"h", CLOCK_S(3600)},
    {"m", CLOCK_S(60)},
    {"s", CLOCK_S(1)},
    {"ms", CLOCK_MS(1)},
    {NULL, 0},
};

static const struct unit size_units[] = {
    {"TiB", INT64_C(1) << 40},
    {"GiB", INT64_C(1) << 30},
    {"MiB", INT64_C(1) << 20},
    {"KiB", INT64_C(1) << 10},
    {"B", 1},
    {"", 1},
    {NULL, 0},
};

const char *
value_bool(const char * text, bool * value)
{
	static const char * const words[] = {"false", "true", "no", "yes", "off", "on"};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (strcasecmp(text, words[i]) == 0) {
			*value = i % 2 != 0;
			return (NULL);
		}
	}
	return ("true or false");
}

/* Read digits into *value and move *text behind them. */
static bool
read_digits(const char ** text, int64_t * value)
{
	const char * p = *text;

	*value = 0;
	for (; *p >= '0' && *p <= '9'; p++) {
		if (__builtin_mul_overflow(*value, 10, value) ||
		    __builtin_add_overflow(*value, *p - '0', value))
			return (false);
	}
	if (p == *text)
		return (false);
	*text = p;
	return (true);
}

const char *
value_integer(const char * text, int64_t * value)
{
	bool negative = *text == '-';

	if (*text == '-' || *text == '+')
		text++;
	if (!read_digits(&text, value) || *text != '\0')
		return ("a whole number");
	if (negative)
		*value = -*value;
	return (NULL);
}

const char *
value_number(const char * text, double * value)
{
	char * end;

	/* strtod would also take hexadecimals, infinities and leading blanks. */
	if (text[strspn(text, "0123456789.")] != '\0' || strlen(text) > 32)
		return ("a number");
	*value = strtod(text, &end);
	if (end == text || *end != '\0' || !isfinite(*value))
		return ("a number");
	return (NULL);
}

static const struct unit *
read_unit(const char ** text, const struct unit * units)
{
	size_t len = strspn(*text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ");

	for (const struct unit * unit = units; unit->name != NULL; unit++) {
		if (strlen(unit->name) == len && strncmp(*text, unit->name, len) == 0) {
			*text += len;
			return (unit);
		}
	}
	return (NULL);
}

const char *
value_duration(const char * text, clock_ns * value)
{
	static const char wanted[] = "a duration like 500ms, 10s, 1m or 1h";
	int64_t total = 0;

	if (strcmp(text, "0") == 0) {
		*value = 0;
		return (NULL);
	}
	do {
		const struct unit * unit;
		int64_t number;

		if (!read_digits(&text, &number) ||
		    (unit = read_unit(&text, duration_units)) == NULL ||
		    __builtin_mul_overflow(number, unit->factor, &number) ||
		    __builtin_add_overflow(total, number, &total))
			return (wanted);
	} while (*text != '\0');
	*value = total;
	return (NULL);
}

const char *
value_size(const char * text, int64_t * value)
{
	static const char wanted[] = "a size like 65536, 512KiB or 64MiB";
	const struct unit * unit;

	if (!read_digits(&text, value) || (unit = read_unit(&text, size_units)) == NULL ||
	    *text != '\0' || __builtin_mul_overflow(*value, unit->factor, value))
		return (wanted);
	return (NULL);
}

static void
print_units(char * text, size_t size, int64_t value, const struct unit * units)
{
	for (const struct unit * unit = units; unit->name != NULL; unit++) {
		if (value != 0 && value % unit->factor == 0 && strcmp(unit->name, "B") != 0) {
			snprintf(text, size, "%" PRId64 "%s", value / unit->factor, unit->name);
			return;
		}
	}
	snprintf(text, size, "%" PRId64, value);
}

void
value_print_duration(char * text, size_t size, clock_ns value)
{
	print_units(text, size, value, duration_units);
}

void
value_print_size(char * text, size_t size, int64_t value)
{
	print_units(text, size, value, size_units);
}

/* Behind any run of ${NAME}. */
static const char *
skip_variables(const char * p)
{
	const char * end;

	while (p[0] == '$' && p[1] == '{' && (end = strchr(p, '}')) != NULL)
		p = end + 1;
	return (p);
}

bool
value_holds_password(const char * text)
{
	const char * p = strstr(text, "://");

	/* scheme://user:password@host */
	if (p != NULL) {
		const char * at = strchr(p + 3, '@');
		const char * colon = strchr(skip_variables(p + 3), ':');

		if (at != NULL && colon != NULL && colon < at && skip_variables(colon + 1) < at)
			return (true);
	}

	/* password=..., sslpassword=..., in a conninfo or a URI's query. */
	for (p = text; (p = strcasestr(p, "password")) != NULL;) {
		p += strlen("password");
		p += strspn(p, " ");
		if (*p != '=')
			continue;
		p++;
		p += strspn(p, " '");
		p = skip_variables(p);
		if (*p != '\0' && *p != ' ' && *p != '\'' && *p != '&')
			return (true);
	}
	return (false);
}
