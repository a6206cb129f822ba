#include "base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/control.h"
#include "base/utf8.h"

/*
 * A line is built in a fixed array and written with one write(2), so lines of
 * several processes do not mix and logging needs no memory.  Whatever the
 * values hold, the line is one line, valid in its format and valid UTF-8: a
 * value that does not fit is cut between characters, and room for the closing
 * characters is never given away.
 *
 * The thread that serves HTTP logs, too, so what log_configure sets is atomic.
 */
#define LINE_MAX_BYTES 4096
#define LINE_TAIL 8 /* closing quote, brace, newline */
#define REPEAT_INTERVAL CLOCK_S(30)

struct line {
	char text[LINE_MAX_BYTES];
	size_t len;
};

static _Atomic enum log_level least_level = LOG_LEVEL_INFO;
static _Atomic enum log_format line_format = LOG_FORMAT_LOGFMT;

static const char * const level_names[] = {"debug", "info", "warn", "error"};

/* Append all of text or nothing. */
static bool
put(struct line * l, const char * text, size_t len)
{
	if (len > LINE_MAX_BYTES - LINE_TAIL - l->len)
		return (false);
	memcpy(l->text + l->len, text, len);
	l->len += len;
	return (true);
}

/* The closing characters, for which put() leaves room. */
static void
put_tail(struct line * l, char c)
{
	if (l->len < LINE_MAX_BYTES)
		l->text[l->len++] = c;
}

/* Of a sequence of up to three bytes. */
static unsigned int
code_point(const unsigned char * p, size_t len)
{
	if (len == 1)
		return (p[0]);
	if (len == 2)
		return ((p[0] & 0x1fu) << 6 | (p[1] & 0x3fu));
	return ((p[0] & 0x0fu) << 12 | (p[1] & 0x3fu) << 6 | (p[2] & 0x3fu));
}

/* Both formats quote a string as JSON does. */
static void
put_quoted(struct line * l, const char * text)
{
	const unsigned char * p = (const unsigned char *)text;
	char escape[8];

	if (!put(l, "\"", 1))
		return;
	while (*p != '\0') {
		size_t len = utf8_length(p);
		bool fits;

		if (len == 0) {
			fits = put(l, "\xef\xbf\xbd", 3);
			len = 1;
		} else if (*p == '"' || *p == '\\') {
			escape[0] = '\\';
			escape[1] = (char)*p;
			fits = put(l, escape, 2);
		} else if (*p == '\n') {
			fits = put(l, "\\n", 2);
		} else if (*p == '\t') {
			fits = put(l, "\\t", 2);
		} else if (control_length((const char *)p) > 0) {
			snprintf(escape, sizeof(escape), "\\u%04x", code_point(p, len));
			fits = put(l, escape, 6);
		} else {
			fits = put(l, (const char *)p, len);
		}
		if (!fits)
			break;
		p += len;
	}
	put_tail(l, '"');
}

static bool
is_bare(const char * text)
{
	if (*text == '\0')
		return (false);
	for (const char * p = text; *p != '\0'; p++) {
		if ((unsigned char)*p <= ' ' || (unsigned char)*p >= 0x7f || *p == '"' ||
		    *p == '=' || *p == '\\')
			return (false);
	}
	return (true);
}

static void
put_field(struct line * l, const struct log_field * field)
{
	char number[24];
	size_t before = l->len;
	bool fits;

	if (line_format == LOG_FORMAT_JSON) {
		fits = put(l, ",\"", 2) && put(l, field->key, strlen(field->key)) &&
		    put(l, "\":", 2);
	} else {
		fits = put(l, " ", 1) && put(l, field->key, strlen(field->key)) && put(l, "=", 1);
	}

	/* A key needs room for the shortest value. */
	if (!fits || l->len + sizeof(number) > LINE_MAX_BYTES - LINE_TAIL) {
		l->len = before;
		return;
	}
	if (field->text == NULL) {
		int len = snprintf(number, sizeof(number), "%" PRId64, field->number);

		put(l, number, (size_t)len);
	} else if (line_format == LOG_FORMAT_LOGFMT && is_bare(field->text) &&
	    put(l, field->text, strlen(field->text))) {
		return;
	} else {
		put_quoted(l, field->text);
	}
}

static void
put_head(struct line * l, enum log_level level, const char * event)
{
	struct timespec t;
	struct tm tm;
	char time_text[40];
	char head[160];
	int len;

	clock_gettime(CLOCK_REALTIME, &t);
	gmtime_r(&t.tv_sec, &tm);
	strftime(time_text, sizeof(time_text), "%Y-%m-%dT%H:%M:%S", &tm);
	len = snprintf(head, sizeof(head),
	    line_format == LOG_FORMAT_JSON ?
		"{\"time\":\"%s.%03ldZ\",\"level\":\"%s\",\"event\":\"%.64s\"" :
		"time=%s.%03ldZ level=%s event=%.64s",
	    time_text, t.tv_nsec / 1000000, level_names[level], event);
	put(l, head, (size_t)len);
}

void
log_write(enum log_level level, const char * event, const struct log_field * fields)
{
	struct line l;
	size_t written = 0;
	int saved_errno = errno;

	if (level < least_level)
		return;
	l.len = 0;
	put_head(&l, level, event);
	for (const struct log_field * field = fields; field->key != NULL; field++)
		put_field(&l, field);
	if (line_format == LOG_FORMAT_JSON)
		put_tail(&l, '}');
	put_tail(&l, '\n');

	/* A pipe may take a part; a full or closed one takes nothing, and the
	 * relay's work matters more than its log. */
	while (written < l.len) {
		ssize_t n = write(STDERR_FILENO, l.text + written, l.len - written);

		if (n > 0)
			written += (size_t)n;
		else if (n == 0 || errno != EINTR)
			break;
	}
	errno = saved_errno;
}

void
log_failure(enum log_level level, const char * event, const struct error * e)
{
	struct log_field fields[5];
	size_t n = 0;

	fields[n++] = LOG_STR("error", e->text);
	if (e->sqlstate[0] != '\0')
		fields[n++] = LOG_STR("sqlstate", e->sqlstate);
	if (e->amqp_code != 0)
		fields[n++] = LOG_INT("amqp_code", e->amqp_code);
	if (e->remedy[0] != '\0')
		fields[n++] = LOG_STR("remedy", e->remedy);
	fields[n] = LOG_END;
	log_write(level, event, fields);
}

void
log_configure(enum log_level level, enum log_format format)
{
	least_level = level;
	line_format = format;
}

int
log_due(int64_t * last, int64_t now)
{
	if (*last != 0 && now - *last < REPEAT_INTERVAL)
		return (0);
	*last = now;
	return (1);
}

void
log_repeated(struct log_repeat * repeat, int64_t now, const char * event, const struct error * e)
{
	char reason[sizeof(repeat->reason)];

	snprintf(reason, sizeof(reason), "%s %d %.40s", e->sqlstate, e->amqp_code, e->remedy);
	if (log_due(&repeat->since, now))
		repeat->told = 0;
	else if (repeat->told == LOG_REASONS_MAX || strcmp(reason, repeat->reason) == 0)
		return;
	repeat->told++;
	memcpy(repeat->reason, reason, sizeof(reason));
	log_failure(LOG_LEVEL_WARN, event, e);
}
