/*
 * A client of one request, for containers that have neither shell nor curl.
 * It asks where the configuration says that the relay serves, so it needs no
 * server but that one; everything has the same deadline.
 */
#include "cli/probe.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/control.h"
#include "base/error.h"
#include "http/address.h"

#define PROBE_TIMEOUT CLOCK_S(3)

/* What serves every address is asked at this one's. */
static const char *
host_to_ask(const char * host)
{
	if (host[0] == '\0' || strcmp(host, "0.0.0.0") == 0)
		return ("127.0.0.1");
	return (strcmp(host, "::") == 0 ? "::1" : host);
}

/* Wait until the socket can be used; false: not in time. */
static bool
wait_for(int fd, short events, clock_ns deadline)
{
	struct pollfd poll_fd = {.fd = fd, .events = events};
	clock_ns left = deadline - clock_now();

	return (left > 0 && poll(&poll_fd, 1, (int)(left / CLOCK_MS(1)) + 1) > 0);
}

/* A connected socket; -1 with errno. */
static int
connect_to(const struct addrinfo * address, clock_ns deadline)
{
	socklen_t size = sizeof(int);
	int fd, problem = 0;

	fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return (-1);
	if (connect(fd, address->ai_addr, address->ai_addrlen) != 0 && errno != EINPROGRESS)
		problem = errno;
	else if (!wait_for(fd, POLLOUT, deadline))
		problem = ETIMEDOUT;
	else if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &problem, &size) != 0)
		problem = errno;
	if (problem == 0)
		return (fd);
	close(fd);
	errno = problem;
	return (-1);
}

static int
connect_to_relay(const char * listen, clock_ns deadline, struct error * e)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
	struct addrinfo * addresses;
	struct http_address address;
	int fd = -1, rc;

	if (http_address_split(listen, &address))
		return (error_set(e, EXIT_CONFIGURATION, "http.listen is not HOST:PORT"));
	rc = getaddrinfo(host_to_ask(address.host), address.port, &hints, &addresses);
	if (rc != 0)
		return (error_set(e, EXIT_UNREACHABLE, "cannot resolve host \"%s\": %s",
		    address.host, rc == EAI_SYSTEM ? strerror(errno) : gai_strerror(rc)));
	for (const struct addrinfo * a = addresses; a != NULL && fd < 0; a = a->ai_next)
		fd = connect_to(a, deadline);
	if (fd < 0) {
		error_set(e, EXIT_UNREACHABLE, "no relay listens at %s: %s", listen,
		    strerror(errno));
		error_remedy(e,
		    "is it running, with the same http.listen, and did it log http_listening?");
	}
	freeaddrinfo(addresses);
	return (fd);
}

/* 0 with the whole answer, or as much as fits, as a string; or -1. */
static int
ask(int fd, const char * path, clock_ns deadline, char answer[PROBE_ANSWER_MAX])
{
	char request[128];
	size_t sent = 0, len = 0;
	ssize_t n;

	snprintf(request, sizeof(request),
	    "GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", path);
	while (sent < strlen(request)) {
		if (!wait_for(fd, POLLOUT, deadline))
			return (-1);
		n = send(fd, request + sent, strlen(request + sent), MSG_NOSIGNAL);
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return (-1);
		sent += n > 0 ? (size_t)n : 0;
	}
	while (len < PROBE_ANSWER_MAX - 1) {
		if (!wait_for(fd, POLLIN, deadline))
			return (-1);
		n = recv(fd, answer + len, PROBE_ANSWER_MAX - 1 - len, 0);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			continue;
		if (n <= 0)
			break;
		len += (size_t)n;
	}
	answer[len] = '\0';
	return (len > 0 ? 0 : -1);
}

int
probe_ask(const char * listen, const char * path, char answer[PROBE_ANSWER_MAX], struct error * e)
{
	clock_ns deadline = clock_now() + PROBE_TIMEOUT;
	int fd = connect_to_relay(listen, deadline, e);
	int failed;

	if (fd < 0)
		return (-1);
	failed = ask(fd, path, deadline, answer);
	close(fd);
	return (failed ? 1 : 0);
}

/* What a JSON array of strings holds behind its bracket, "a","b"], becomes a; b.
 * Whatever it is, it does not grow. */
static void
join_texts(char * texts)
{
	char * out = texts;
	bool quoted = false;
	unsigned int code;

	for (char * c = texts; *c != '\0' && (quoted || *c != ']'); c++) {
		if (*c == '"')
			quoted = !quoted;
		else if (*c == ',' && !quoted && out < c) {
			*out++ = ';';
			*out++ = ' ';
		} else if (*c == '\\' && c[1] == 'u' && sscanf(c + 2, "%4x", &code) == 1 &&
		    strlen(c) >= 6) {
			*out++ = code >= ' ' && code < 0x7f ? (char)code : ' ';
			c += 5;
		} else {
			c += *c == '\\' && c[1] != '\0';
			*out++ = *c;
		}
	}
	*out = '\0';
}

/* The texts in "reasons":[...], or all of the body. */
static int
print_reasons(const char * what, char * answer)
{
	static const char key[] = "\"reasons\":[";
	char * body = strstr(answer, "\r\n\r\n");
	char * reasons = body == NULL ? NULL : strstr(body, key);

	body = body == NULL ? answer : body + 4;
	if (reasons != NULL) {
		body = reasons + strlen(key);
		join_texts(body);
	}
	for (char * c = body; *c != '\0'; c++)
		memset(c, ' ', control_length(c));
	fprintf(stderr, "outbox-relay: not %s: %s\n", what, body);
	return (EXIT_FOUND);
}

static int
run(const struct cli_arguments * arguments, const struct config * config)
{
	static char answer[PROBE_ANSWER_MAX];
	const char * what = arguments->words[0];
	const char * listen = config->http.listen;
	const char * path;
	struct error e;
	int failed;

	if (strcmp(what, "live") == 0)
		path = "/healthz";
	else if (strcmp(what, "ready") == 0)
		path = "/readyz";
	else
		return (cli_usage(arguments->command, "probe: write live or ready, not \"%.60s\"",
		    what));
	if (listen == NULL) {
		error_set(&e, EXIT_CONFIGURATION, "http.listen is null: the relay tells nobody");
		error_remedy(&e, "set http.listen, 127.0.0.1:9464 by default, for relay and probe");
		return (cli_fail(&e));
	}
	if ((failed = probe_ask(listen, path, answer, &e)) < 0)
		return (cli_fail(&e));
	if (failed) {
		fprintf(stderr, "outbox-relay: not %s: no answer from %s within 3 s\n", what,
		    listen);
		return (EXIT_FOUND);
	}
	if (strncmp(answer, "HTTP/1.1 200 ", 13) == 0)
		return (EXIT_WELL);
	return (print_reasons(what, answer));
}

const struct cli_command cli_probe = {
    .name = "probe",
    .words = "live|ready",
    .words_min = 1,
    .words_max = 1,
    .summary = "ask the running relay whether it is alive, or ready",
    .description =
	"Asks at http.listen. live: its loop turns; ready: it leads and both servers are well.\n"
	"Exit code 0: yes; 1: no, and why; 69: nobody listens there. A relay that is not ready\n"
	"loses nothing: restart it for \"live\" alone.",
    .example = "outbox-relay probe ready --config outbox-relay.yaml",
    .run = run,
};
