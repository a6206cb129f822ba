#include "outbox_text.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

/*
 * A reader that keeps nothing: it only says whether the text is what it should
 * be, and where it stops being that.
 *
 * What must stay true: whatever Postgres would refuse is refused here, since a
 * statement that fails takes the caller's transaction with it.  The database
 * checks headers by the same rules (headers_valid in the migrations).  Depth is
 * bounded, so recursion is too.
 */
#define NUMERIC_BEFORE_MAX 131072 /* digits before and after the point: documentation of numeric */
#define NUMERIC_AFTER_MAX 16383

struct reader {
	const char * start;
	const char * p;
	char * reason;
	size_t size;
	int depth;
	int depth_max;
	bool headers;
};

static bool
fail(struct reader * r, const char * why)
{
	snprintf(r->reason, r->size, "%s at byte %zu", why, (size_t)(r->p - r->start));
	return (false);
}

size_t
outbox_utf8_invalid(const char * text, size_t len)
{
	size_t i = 0;

	while (i < len) {
		unsigned char c = (unsigned char)text[i];
		unsigned char low = 0x80, high = 0xbf;
		size_t more;

		if (c < 0x80) {
			i++;
			continue;
		}
		if (c >= 0xc2 && c <= 0xdf)
			more = 1;
		else if (c >= 0xe0 && c <= 0xef)
			more = 2;
		else if (c >= 0xf0 && c <= 0xf4)
			more = 3;
		else
			return (i);
		if (c == 0xe0)
			low = 0xa0; /* else overlong */
		else if (c == 0xed)
			high = 0x9f; /* else a surrogate */
		else if (c == 0xf0)
			low = 0x90;
		else if (c == 0xf4)
			high = 0x8f; /* else above U+10FFFF */
		if (len - i <= more)
			return (i);
		for (size_t k = 1; k <= more; k++) {
			unsigned char d = (unsigned char)text[i + k];

			if (d < low || d > high)
				return (i);
			low = 0x80;
			high = 0xbf;
		}
		i += more + 1;
	}
	return (len);
}

static void
skip_space(struct reader * r)
{
	r->p += strspn(r->p, " \t\r\n");
}

/* Four hexadecimal digits; -1 if they are not there. */
static int32_t
hex4(const char * p)
{
	int32_t n = 0;

	for (int i = 0; i < 4; i++) {
		char c = p[i];

		if (c >= '0' && c <= '9')
			n = n * 16 + (c - '0');
		else if (c >= 'a' && c <= 'f')
			n = n * 16 + (c - 'a' + 10);
		else if (c >= 'A' && c <= 'F')
			n = n * 16 + (c - 'A' + 10);
		else
			return (-1);
	}
	return (n);
}

static size_t
utf8_write(char * out, int32_t code)
{
	if (code < 0x80) {
		out[0] = (char)code;
		return (1);
	}
	if (code < 0x800) {
		out[0] = (char)(0xc0 | code >> 6);
		out[1] = (char)(0x80 | (code & 0x3f));
		return (2);
	}
	if (code < 0x10000) {
		out[0] = (char)(0xe0 | code >> 12);
		out[1] = (char)(0x80 | (code >> 6 & 0x3f));
		out[2] = (char)(0x80 | (code & 0x3f));
		return (3);
	}
	out[0] = (char)(0xf0 | code >> 18);
	out[1] = (char)(0x80 | (code >> 12 & 0x3f));
	out[2] = (char)(0x80 | (code >> 6 & 0x3f));
	out[3] = (char)(0x80 | (code & 0x3f));
	return (4);
}

/* After the backslash. */
static bool
read_escape(struct reader * r, int32_t * code)
{
	static const char names[] = "\"\\/bfnrt";
	static const char values[] = "\"\\/\b\f\n\r\t";
	const char * name;
	int32_t low;

	if (*r->p != 'u') {
		if (*r->p == '\0' || (name = strchr(names, *r->p)) == NULL)
			return (fail(r, "unknown escape sequence"));
		*code = (unsigned char)values[name - names];
		r->p++;
		return (true);
	}
	if ((*code = hex4(r->p + 1)) < 0)
		return (fail(r, "\\u without four hexadecimal digits"));
	if (*code == 0)
		return (fail(r, "\\u0000, which Postgres cannot store,"));
	if (*code >= 0xdc00 && *code <= 0xdfff)
		return (fail(r, "second half of a surrogate pair"));
	r->p += 5;
	if (*code >= 0xd800 && *code <= 0xdbff) {
		if (r->p[0] != '\\' || r->p[1] != 'u' || (low = hex4(r->p + 2)) < 0xdc00 ||
		    low > 0xdfff)
			return (fail(r, "half of a surrogate pair"));
		*code = 0x10000 + ((*code - 0xd800) << 10) + (low - 0xdc00);
		r->p += 6;
	}
	return (true);
}

/* A string, and what it says in as far as that fits into key (of OUTBOX_KEY_MAX + 1 bytes). */
static bool
read_string(struct reader * r, char * key, size_t * key_len)
{
	size_t len = 0;

	r->p++;
	while (*r->p != '"') {
		char bytes[4];
		size_t n = 1;

		if ((unsigned char)*r->p < 0x20)
			return (fail(r,
			    *r->p == '\0' ? "unterminated string" : "unescaped control character"));
		if (*r->p == '\\') {
			int32_t code = 0;

			r->p++;
			if (!read_escape(r, &code))
				return (false);
			n = utf8_write(bytes, code);
		} else
			bytes[0] = *r->p++;
		if (key != NULL && len + n <= OUTBOX_KEY_MAX)
			memcpy(key + len, bytes, n);
		len += n;
	}
	r->p++;
	if (key != NULL)
		*key_len = len;
	return (true);
}

static size_t
skip_digits(struct reader * r)
{
	size_t n = strspn(r->p, "0123456789");

	r->p += n;
	return (n);
}

/* After the letter e; bounded, and then larger than anything allowed. */
static int64_t
read_exponent(const char * text, const char * end)
{
	bool negative = *text == '-';
	int64_t exponent = 0;

	if (*text == '-' || *text == '+')
		text++;
	for (; text < end; text++) {
		if (exponent < INT32_MAX)
			exponent = exponent * 10 + (*text - '0');
	}
	return (negative ? -exponent : exponent);
}

/* Whether the number is within int64, exactly: the database compares decimals. */
static bool
within_int64(const char * text, const char * end)
{
	static const char largest[] = "9223372036854775807", least[] = "9223372036854775808";
	const char * limit = *text == '-' ? least : largest;
	char digits[19] = "0000000000000000000";
	bool more = false, fraction = false;
	int64_t before = 0; /* digits before the point, without leading zeroes */
	size_t used = 0;
	int order;

	for (; text < end && *text != 'e' && *text != 'E'; text++) {
		if (*text == '.')
			fraction = true;
		else if (*text != '-') {
			if (used > 0 || *text != '0') {
				if (used < sizeof(digits))
					digits[used++] = *text;
				else if (*text != '0')
					more = true;
				before += !fraction;
			} else
				before -= fraction;
		}
	}
	if (text < end)
		before += read_exponent(text + 1, end);
	if (used == 0 || before < 19)
		return (true);
	if (before > 19)
		return (false);
	order = memcmp(digits, limit, sizeof(digits));
	return (order < 0 || (order == 0 && !more));
}

/* Whether Postgres's numeric, which jsonb is made of, holds the number. */
static bool
within_numeric(const char * text, const char * end)
{
	int64_t before = 0, after = 0, exponent = 0;
	bool fraction = false;

	for (; text < end && *text != 'e' && *text != 'E'; text++) {
		if (*text == '.')
			fraction = true;
		else if (*text != '-' && fraction)
			after++;
		else if (*text != '-')
			before++;
	}
	if (text < end)
		exponent = read_exponent(text + 1, end);
	return (before + exponent <= NUMERIC_BEFORE_MAX && after - exponent <= NUMERIC_AFTER_MAX);
}

static bool
read_number(struct reader * r)
{
	const char * start = r->p;

	if (*r->p == '-')
		r->p++;
	if (*r->p == '0')
		r->p++;
	else if (skip_digits(r) == 0)
		return (fail(r, "no JSON value"));
	if (*r->p == '.') {
		r->p++;
		if (skip_digits(r) == 0)
			return (fail(r, "number without digits after its point"));
	}
	if (*r->p == 'e' || *r->p == 'E') {
		r->p++;
		if (*r->p == '-' || *r->p == '+')
			r->p++;
		if (skip_digits(r) == 0)
			return (fail(r, "number without digits in its exponent"));
	}
	if (r->headers && !within_int64(start, r->p))
		return (fail(r, "number outside the range of int64 (send it as a string)"));
	if (!within_numeric(start, r->p))
		return (fail(r, "number that Postgres cannot hold"));
	return (true);
}

static bool read_value(struct reader * r);

static bool
read_key(struct reader * r)
{
	static const char * const own[] = {"x-ordering-key", "x-outbox-id"};
	char key[OUTBOX_KEY_MAX + 1];
	size_t len = 0;

	if (*r->p != '"')
		return (fail(r, "no key in quotation marks"));
	if (!read_string(r, key, &len))
		return (false);
	if (!r->headers)
		return (true);
	if (len > OUTBOX_KEY_MAX)
		return (fail(r, "key longer than 255 bytes that ends"));
	for (size_t i = 0; r->depth == 1 && i < sizeof(own) / sizeof(own[0]); i++) {
		if (len == strlen(own[i]) && memcmp(key, own[i], len) == 0)
			return (fail(r,
			    "header that the relay sets (x-outbox-id, x-ordering-key)"));
	}
	return (true);
}

/* An object or an array. */
static bool
read_members(struct reader * r, bool object)
{
	char end = object ? '}' : ']';

	if (++r->depth > r->depth_max)
		return (fail(r, "nested too deep"));
	r->p++;
	skip_space(r);
	if (*r->p == end) {
		r->p++;
		r->depth--;
		return (true);
	}
	for (;;) {
		skip_space(r);
		if (object) {
			if (!read_key(r))
				return (false);
			skip_space(r);
			if (*r->p != ':')
				return (fail(r, "no colon after a key"));
			r->p++;
		}
		if (!read_value(r))
			return (false);
		if (*r->p == end)
			break;
		if (*r->p != ',')
			return (fail(r,
			    object ? "no comma or closing brace" : "no comma or closing bracket"));
		r->p++;
	}
	r->p++;
	r->depth--;
	return (true);
}

/* A value and the space around it. */
static bool
read_value(struct reader * r)
{
	static const char * const words[] = {"true", "false", "null"};
	bool good = false;

	skip_space(r);
	if (*r->p == '{' || *r->p == '[')
		good = read_members(r, *r->p == '{');
	else if (*r->p == '"')
		good = read_string(r, NULL, NULL);
	else if (*r->p == 't' || *r->p == 'f' || *r->p == 'n') {
		for (size_t i = 0; i < sizeof(words) / sizeof(words[0]) && !good; i++) {
			if (strncmp(r->p, words[i], strlen(words[i])) == 0) {
				r->p += strlen(words[i]);
				good = true;
			}
		}
		if (!good)
			return (fail(r, "no JSON value"));
	} else
		good = read_number(r);
	if (good)
		skip_space(r);
	return (good);
}

static bool
check(const char * text, bool headers, char * reason, size_t size)
{
	struct reader r = {.start = text,
	    .p = text,
	    .reason = reason,
	    .size = size,
	    .depth_max = headers ? OUTBOX_HEADERS_DEPTH_MAX : OUTBOX_JSON_DEPTH_MAX,
	    .headers = headers};

	if (headers) {
		skip_space(&r);
		if (*r.p != '{')
			return (fail(&r, "no JSON object"));
	}
	if (!read_value(&r))
		return (false);
	return (*r.p == '\0' || fail(&r, "something after the JSON value"));
}

bool
outbox_json_check(const char * text, char * reason, size_t size)
{
	return (check(text, false, reason, size));
}

bool
outbox_headers_check(const char * text, char * reason, size_t size)
{
	return (check(text, true, reason, size));
}
