#include "amqp/url.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

/*
 * amqp_parse_url of rabbitmq-c refuses percent-encoded bytes above 0x7f and
 * all queries, hence a reader of our own.
 *
 *   amqp[s]://[user[:password]@][host][:port][/vhost][?name=value[&...]]
 *
 * What must stay true: the text is cut at its delimiters first and decoded
 * part by part after that, so that an encoded delimiter is data; and no error
 * repeats anything of the userinfo.  Decoded parts are C strings: %00 is
 * refused.
 */

static int
hex(char c)
{
	if (c >= '0' && c <= '9')
		return (c - '0');
	if (c >= 'a' && c <= 'f')
		return (c - 'a' + 10);
	if (c >= 'A' && c <= 'F')
		return (c - 'A' + 10);
	return (-1);
}

/* Decode [text, end) into out[0..max], a C string. */
static int
decode(char * out, size_t max, const char * text, const char * end, const char * what,
    struct error * e)
{
	size_t n = 0;

	while (text < end) {
		char c = *text++;

		if (c == '%') {
			int high = text < end ? hex(text[0]) : -1;
			int low = text + 1 < end ? hex(text[1]) : -1;

			if (high < 0 || low < 0)
				return (error_set(e, EXIT_CONFIGURATION,
				    "AMQP URL: a %% in the %s is not followed by two hexadecimal digits",
				    what));
			c = (char)(high * 16 + low);
			text += 2;
			if (c == '\0')
				return (error_set(e, EXIT_CONFIGURATION,
				    "AMQP URL: the %s contains %%00", what));
		} else if ((unsigned char)c <= ' ' || c == 0x7f)
			return (error_set(e, EXIT_CONFIGURATION,
			    "AMQP URL: the %s contains a space or control character; "
			    "write it percent-encoded",
			    what));
		if (n == max)
			return (error_set(e, EXIT_CONFIGURATION,
			    "AMQP URL: the %s is longer than %zu bytes", what, max));
		out[n++] = c;
	}
	out[n] = '\0';
	return (0);
}

/* A decimal number in [text, end), at most ${max}. */
static int
number(int64_t * value, const char * text, const char * end, int64_t max)
{
	int64_t n = 0;

	if (text == end)
		return (-1);
	for (; text < end; text++) {
		if (*text < '0' || *text > '9')
			return (-1);
		n = n * 10 + (*text - '0');
		if (n > max)
			return (-1);
	}
	*value = n;
	return (0);
}

/* Where else the configuration says what some clients put into the query. */
static const struct {
	const char * parameter;
	const char * remedy;
} elsewhere[] = {
    {"cacertfile", "set rabbitmq.tls.ca_file instead"},
    {"certfile", "set rabbitmq.tls.cert_file instead"},
    {"keyfile", "set rabbitmq.tls.key_file instead"},
    {"server_name_indication", "set rabbitmq.tls.server_name instead"},
    {"auth_mechanism", "set rabbitmq.auth instead"},
    {"password", "set rabbitmq.password_file instead"},
    {"verify", "leave it out: the broker's certificate is always verified"},
    {"fail_if_no_peer_cert", "leave it out: the broker's certificate is always verified"},
    {"channel_max", "leave it out: the relay takes four, or one where more are refused"},
    {"frame_max", "leave it out: the broker's own limit holds"},
};

static int
parse_parameter(struct url * url, const char * name, const char * end, struct error * e)
{
	const char * equals = memchr(name, '=', (size_t)(end - name));
	const char * value = equals == NULL ? end : equals + 1;
	size_t len = (size_t)((equals == NULL ? end : equals) - name);
	int64_t n;
	size_t i;

	if (len == 9 && memcmp(name, "heartbeat", 9) == 0) {
		if (number(&n, value, end, UINT16_MAX))
			return (error_set(e, EXIT_CONFIGURATION,
			    "AMQP URL: heartbeat must be a number of seconds from 0 to 65535"));
		url->heartbeat_s = (int32_t)n;
		return (0);
	}
	if (len == 18 && memcmp(name, "connection_timeout", 18) == 0) {
		if (number(&n, value, end, 86400000) || n == 0)
			return (error_set(e, EXIT_CONFIGURATION,
			    "AMQP URL: connection_timeout "
			    "must be a number of milliseconds from 1 to 86400000"));
		url->connection_timeout_ms = n;
		return (0);
	}
	for (i = 0; i < sizeof(elsewhere) / sizeof(elsewhere[0]); i++) {
		if (strlen(elsewhere[i].parameter) == len &&
		    memcmp(elsewhere[i].parameter, name, len) == 0) {
			error_set(e, EXIT_CONFIGURATION,
			    "AMQP URL: the query parameter %s is "
			    "not supported",
			    elsewhere[i].parameter);
			return (error_remedy(e, "%s", elsewhere[i].remedy));
		}
	}
	/* An unencoded '?' in a password would show up here: no name. */
	error_set(e, EXIT_CONFIGURATION, "AMQP URL: unknown query parameter");
	return (error_remedy(e,
	    "known ones are heartbeat (seconds) and connection_timeout "
	    "(milliseconds); write a '?' that is meant as data as %%3f"));
}

static int
parse_query(struct url * url, const char * query, const char * end, struct error * e)
{
	const char * next;

	for (; query < end; query = next + 1) {
		if ((next = memchr(query, '&', (size_t)(end - query))) == NULL)
			next = end;
		if (next > query && parse_parameter(url, query, next, e))
			return (-1);
	}
	return (0);
}

static int
parse_host_port(struct url * url, const char * text, const char * end, struct error * e)
{
	const char * host_end;
	int64_t n;

	if (text < end && *text == '[') {
		if ((host_end = memchr(text, ']', (size_t)(end - text))) == NULL)
			return (error_set(e, EXIT_CONFIGURATION,
			    "AMQP URL: the IPv6 address lacks its closing bracket"));
		if (decode(url->host, URL_PART_MAX, text + 1, host_end, "host", e))
			return (-1);
		if (url->host[0] == '\0')
			return (error_set(e, EXIT_CONFIGURATION, "AMQP URL: empty brackets"));
		host_end++;
	} else {
		if ((host_end = memchr(text, ':', (size_t)(end - text))) == NULL)
			host_end = end;
		if (host_end > text && decode(url->host, URL_PART_MAX, text, host_end, "host", e))
			return (-1);
	}
	if (host_end == end)
		return (0);
	if (*host_end != ':' || number(&n, host_end + 1, end, UINT16_MAX) || n == 0) {
		error_set(e, EXIT_CONFIGURATION,
		    "AMQP URL: the port must be a number from 1 to 65535");
		return (error_remedy(e,
		    "an IPv6 address is written in brackets; an '@', ':', '/' "
		    "or '?' in user or password is written percent-encoded"));
	}
	url->port = (uint16_t)n;
	return (0);
}

int
url_parse(struct url * url, const char * text, struct error * e)
{
	const char *end, *authority, *authority_end, *at, *colon, *path_end, *query;

	*url = (struct url){.user = "guest",
	    .host = "localhost",
	    .vhost = "/",
	    .heartbeat_s = -1,
	    .connection_timeout_ms = -1};
	if (strlen(text) > URL_TEXT_MAX)
		return (error_set(e, EXIT_CONFIGURATION, "AMQP URL: longer than %d bytes",
		    URL_TEXT_MAX));
	end = text + strlen(text);

	if (strncasecmp(text, "amqp://", 7) == 0) {
		authority = text + 7;
		url->port = 5672;
	} else if (strncasecmp(text, "amqps://", 8) == 0) {
		authority = text + 8;
		url->port = 5671;
		url->tls = true;
	} else {
		error_set(e, EXIT_CONFIGURATION,
		    "AMQP URL: it must begin with amqp:// or amqps://");
		return (error_remedy(e, "write it as amqp://user@host:5672/vhost"));
	}
	if (memchr(authority, '#', (size_t)(end - authority)) != NULL)
		return (error_set(e, EXIT_CONFIGURATION,
		    "AMQP URL: it contains '#'; write it as %%23"));

	authority_end = authority + strcspn(authority, "/?");
	query = authority + strcspn(authority, "?");

	/* The last '@': one that belongs to a password would else move the rest
	 * of the password into the host, and from there into a log. */
	at = memrchr(authority, '@', (size_t)(authority_end - authority));
	if (at != NULL) {
		colon = memchr(authority, ':', (size_t)(at - authority));
		if (decode(url->user, URL_PART_MAX, authority, colon == NULL ? at : colon, "user",
			e))
			return (-1);
		if (colon != NULL) {
			if (decode(url->password, URL_PASSWORD_MAX, colon + 1, at, "password", e))
				return (-1);
			url->has_password = true;
		}
		authority = at + 1;
	}
	if (parse_host_port(url, authority, authority_end, e))
		return (-1);

	path_end = query;
	if (*authority_end == '/') {
		if (memchr(authority_end + 1, '/', (size_t)(path_end - authority_end - 1)) !=
		    NULL) {
			error_set(e, EXIT_CONFIGURATION, "AMQP URL: the vhost contains a '/'");
			return (error_remedy(e,
			    "write a '/' of the vhost (or of a password) as %%2f"));
		}
		if (memchr(authority_end + 1, '@', (size_t)(path_end - authority_end - 1)) !=
		    NULL) {
			/* Most likely the end of a password with an unencoded '/'. */
			error_set(e, EXIT_CONFIGURATION, "AMQP URL: the vhost contains an '@'");
			return (error_remedy(e,
			    "write a '/' or '@' that is meant as data as %%2f "
			    "or %%40"));
		}
		if (decode(url->vhost, URL_PART_MAX, authority_end + 1, path_end, "vhost", e))
			return (-1);
	}
	if (*query == '?' && parse_query(url, query + 1, end, e))
		return (-1);
	return (0);
}

/* Append ${part} percent-encoded; ${text} has room by URL_DESCRIPTION_MAX. */
static char *
encode(char * text, const char * part, const char * plain)
{
	static const char digits[] = "0123456789abcdef";

	for (; *part != '\0'; part++) {
		unsigned char c = (unsigned char)*part;

		if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
		    strchr(plain, c) != NULL)
			*text++ = (char)c;
		else {
			*text++ = '%';
			*text++ = digits[c >> 4];
			*text++ = digits[c & 15];
		}
	}
	return (text);
}

void
url_describe(const struct url * url, char text[URL_DESCRIPTION_MAX])
{
	bool brackets = strchr(url->host, ':') != NULL;
	char * p = text;

	p += sprintf(p, "amqp%s://", url->tls ? "s" : "");
	p = encode(p, url->user, "-._~");
	*p++ = '@';
	if (brackets)
		*p++ = '[';
	p = encode(p, url->host, brackets ? "-._~:" : "-._~");
	if (brackets)
		*p++ = ']';
	p += sprintf(p, ":%u/", (unsigned int)url->port);
	p = encode(p, url->vhost, "-._~");
	*p = '\0';
}
