#ifndef AMQP_URL_H
#define AMQP_URL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/*
 * An AMQP URL as RabbitMQ's "URI specification" and "URI query parameters"
 * define it.  What a URL leaves out takes the customary default: user guest,
 * host localhost, port 5672 or 5671, vhost "/".
 */
#define URL_TEXT_MAX 2048     /* bytes of a whole URL */
#define URL_PART_MAX 255      /* bytes of user, host and vhost, decoded */
#define URL_PASSWORD_MAX 1023 /* bytes of a password, decoded */
#define URL_DESCRIPTION_MAX (3 * 3 * (URL_PART_MAX + 1) + 32)

struct url {
	bool tls; /* amqps */
	char user[URL_PART_MAX + 1];
	char password[URL_PASSWORD_MAX + 1];
	bool has_password;
	char host[URL_PART_MAX + 1]; /* without the brackets of IPv6 */
	uint16_t port;
	char vhost[URL_PART_MAX + 1];
	int32_t heartbeat_s;           /* ?heartbeat=; -1: not given */
	int64_t connection_timeout_ms; /* ?connection_timeout=; -1: not given */
};

/**
 * url_parse(url, text, e):
 * Read ${text}.  -1 with ${e} (EXIT_CONFIGURATION) naming what is wrong and
 * never the password, so the whole URL is not repeated either.
 */
int url_parse(struct url * url, const char * text, struct error * e);

/**
 * url_describe(url, text):
 * Write ${url} without its password as a URL into ${text}.
 */
void url_describe(const struct url * url, char text[URL_DESCRIPTION_MAX]);

#endif /* AMQP_URL_H */
