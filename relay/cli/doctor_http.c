/*
 * Whoever has the port is asked who it is: a relay of ours is no trouble.
 */
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cli/doctor.h"
#include "cli/probe.h"
#include "http/address.h"

#define PORTS_TRIED 100

/* 0: the address could be served; else why not. */
static int
try_to_bind(const struct http_address * address)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
	    .ai_flags = AI_NUMERICSERV | AI_PASSIVE};
	struct addrinfo * addresses;
	int fd, problem = 0, on = 1;

	if (getaddrinfo(address->host[0] == '\0' ? NULL : address->host, address->port, &hints,
		&addresses) != 0)
		return (EADDRNOTAVAIL);
	fd = socket(addresses->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	/* As a server does: connections of one that ended are no obstacle. */
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
	    bind(fd, addresses->ai_addr, addresses->ai_addrlen) != 0 || listen(fd, 1) != 0)
		problem = errno;
	if (fd >= 0)
		close(fd);
	freeaddrinfo(addresses);
	return (problem);
}

/* A port near by that is free. */
static void
remedy_port(struct findings * findings, const struct http_address * address)
{
	struct http_address other = {.host = "127.0.0.1"};
	long port = strtol(address->port, NULL, 10);

	for (long next = port + 1; next <= port + PORTS_TRIED && next <= 65535; next++) {
		snprintf(other.port, sizeof(other.port), "%hu", (unsigned short)next);
		if (try_to_bind(&other) != 0)
			continue;
		finding_remedy(findings,
		    "export OUTBOX_RELAY_HTTP_LISTEN=127.0.0.1:%s  # or set http.listen; "
		    "ss -ltnp shows who listens where",
		    other.port);
		return;
	}
	finding_remedy(findings, "choose another port for http.listen");
}

void
doctor_http(const char * listen, struct findings * findings)
{
	static char answer[PROBE_ANSWER_MAX];
	struct http_address address;
	struct error e;
	int problem;

	if (listen == NULL || http_address_split(listen, &address)) {
		finding_ok(findings, "http", "no metrics and health: http.listen is null");
		return;
	}
	if ((problem = try_to_bind(&address)) == 0) {
		finding_ok(findings, "http", "%s is free; no relay serves there", listen);
	} else if (problem == EADDRINUSE && probe_ask(listen, "/stats", answer, &e) == 0 &&
	    strstr(answer, "\"backlog\":") != NULL) {
		finding_ok(findings, "http", "a relay answers at %s", listen);
	} else if (problem == EADDRINUSE) {
		finding_warn(findings, "http",
		    "%s is taken by another program: the relay serves no metrics and health",
		    listen);
		remedy_port(findings, &address);
	} else {
		finding_warn(findings, "http", "%s cannot be served: %s", listen,
		    strerror(problem));
		remedy_port(findings, &address);
	}
}
