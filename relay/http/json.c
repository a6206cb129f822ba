#include "http/json.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/utf8.h"

/*
 * What must stay true: whatever the texts hold (names and reasons come from
 * databases, brokers and their users), the result is JSON in valid UTF-8.
 */

static void
put(struct json * j, const char * text, size_t len)
{
	if (!j->failed && buffer_append(j->out, text, len))
		j->failed = true;
}

static void
put_quoted(struct json * j, const char * text)
{
	const unsigned char * p = (const unsigned char *)text;
	char escape[8];

	put(j, "\"", 1);
	while (*p != '\0') {
		size_t len = utf8_length(p);

		/* "<" as well, so that no reader takes it for markup. */
		if (len == 0) {
			put(j, "\\ufffd", 6);
			len = 1;
		} else if (*p == '"' || *p == '\\') {
			put(j, "\\", 1);
			put(j, (const char *)p, 1);
		} else if (*p < 0x20 || *p == 0x7f || *p == '<') {
			snprintf(escape, sizeof(escape), "\\u%04x", *p);
			put(j, escape, 6);
		} else
			put(j, (const char *)p, len);
		p += len;
	}
	put(j, "\"", 1);
}

/* What stands before a value. */
static void
put_key(struct json * j, const char * key)
{
	if (j->comma)
		put(j, ",", 1);
	j->comma = true;
	if (key == NULL)
		return;
	put_quoted(j, key);
	put(j, ":", 1);
}

void
json_begin(struct json * j, const char * key, char bracket)
{
	put_key(j, key);
	put(j, &bracket, 1);
	j->comma = false;
}

void
json_end(struct json * j, char bracket)
{
	put(j, &bracket, 1);
	j->comma = true;
}

void
json_text(struct json * j, const char * key, const char * text)
{
	put_key(j, key);
	put_quoted(j, text);
}

static void
put_null(struct json * j, const char * key)
{
	put_key(j, key);
	put(j, "null", 4);
}

void
json_text_or_null(struct json * j, const char * key, const char * text)
{
	if (text[0] == '\0')
		put_null(j, key);
	else
		json_text(j, key, text);
}

void
json_number(struct json * j, const char * key, int64_t number)
{
	char text[24];

	put_key(j, key);
	put(j, text, (size_t)snprintf(text, sizeof(text), "%" PRId64, number));
}

void
json_bool(struct json * j, const char * key, bool value)
{
	put_key(j, key);
	if (value)
		put(j, "true", 4);
	else
		put(j, "false", 5);
}

void
json_decimal(struct json * j, const char * key, double value)
{
	char text[40];

	if (!isfinite(value)) {
		put_null(j, key);
		return;
	}
	put_key(j, key);
	put(j, text, (size_t)snprintf(text, sizeof(text), "%.9g", value));
}

void
json_decimal_or_null(struct json * j, const char * key, double value)
{
	if (value < 0)
		put_null(j, key);
	else
		json_decimal(j, key, value);
}

void
json_time(struct json * j, const char * key, int64_t ms)
{
	time_t seconds = (time_t)(ms / 1000);
	struct tm tm;
	char date[40], text[48];

	/* gmtime_r refuses years beyond an int. */
	if (ms <= 0 || gmtime_r(&seconds, &tm) == NULL) {
		put_null(j, key);
		return;
	}
	strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(text, sizeof(text), "%s.%03dZ", date, (int)(ms % 1000));
	json_text(j, key, text);
}
