/*
 * Preloaded into a relay: it dies (SIGKILL, no last words) at a named point.
 *
 *   KILL_AT=POINT        or POINT:N for the N-th time that it is reached
 *
 *   publish.before       messages are encoded, none of these bytes is sent
 *   publish.after        they are sent, no confirm is read
 *   confirm.read         confirms are read off the socket and not yet heard of
 *   NAME.before          the statement NAME is about to be queued: one that is
 *                        prepared, or "move", which begins with $KILL_SQL
 *   NAME.sent            it is sent with all of its transaction; the server may
 *                        or may not have got it
 *   NAME.committed       the server has answered; nobody has read it
 */
#include <dlfcn.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <libpq-fe.h>

#define CLASS_BASIC 60
#define METHOD_PUBLISH 40
#define METHOD_ACK 80

static int amqp_fd = -1;
static bool armed; /* the statement is queued, its transaction not yet sent */
static char armed_name[64];

static void
reached(const char * name, const char * phase)
{
	static long left = -1;
	const char * point = getenv("KILL_AT");
	const char * count = point == NULL ? NULL : strchr(point, ':');
	size_t length;

	if (point == NULL)
		return;
	length = count == NULL ? strlen(point) : (size_t)(count - point);
	if (length != strlen(name) + 1 + strlen(phase) || strncmp(point, name, strlen(name)) != 0 ||
	    point[strlen(name)] != '.' ||
	    strncmp(point + strlen(name) + 1, phase, strlen(phase)) != 0)
		return;
	if (left < 0)
		left = count == NULL ? 1 : strtol(count + 1, NULL, 10);
	if (--left == 0)
		kill(getpid(), SIGKILL);
}

/* ---- the broker's socket ---- */

/* Is this method's frame anywhere in what begins with a whole frame? */
static bool
has_method(const unsigned char * data, size_t size, unsigned int method)
{
	while (size >= 11) {
		size_t frame = ((size_t)data[3] << 24 | (size_t)data[4] << 16 |
				   (size_t)data[5] << 8 | data[6]) +
		    8;

		if (data[0] == 1 && data[7] == 0 && data[8] == CLASS_BASIC && data[9] == 0 &&
		    data[10] == method)
			return (true);
		if (frame > size)
			break;
		data += frame;
		size -= frame;
	}
	return (false);
}

ssize_t
sendmsg(int fd, const struct msghdr * message, int flags)
{
	ssize_t (*real)(int, const struct msghdr *,
	    int) = (ssize_t(*)(int, const struct msghdr *, int))dlsym(RTLD_NEXT, "sendmsg");
	bool publishes = message->msg_iovlen > 0 &&
	    has_method(message->msg_iov[0].iov_base, message->msg_iov[0].iov_len, METHOD_PUBLISH);
	ssize_t n;

	if (publishes)
		reached("publish", "before");
	n = real(fd, message, flags);
	amqp_fd = fd;
	if (publishes && n > 0)
		reached("publish", "after");
	return (n);
}

ssize_t
recv(int fd, void * data, size_t size, int flags)
{
	ssize_t (*real)(int, void *, size_t,
	    int) = (ssize_t(*)(int, void *, size_t, int))dlsym(RTLD_NEXT, "recv");
	ssize_t n = real(fd, data, size, flags);

	if (fd == amqp_fd && n > 0 && has_method(data, (size_t)n, METHOD_ACK))
		reached("confirm", "read");
	return (n);
}

/* ---- statements ---- */

static void
about_to_send(const char * name)
{
	const char * point = getenv("KILL_AT");
	size_t length = strlen(name);

	reached(name, "before");
	if (point == NULL || strncmp(point, name, length) != 0 || point[length] != '.')
		return;
	armed = true;
	strncpy(armed_name, name, sizeof(armed_name) - 1);
}

int
PQsendQueryPrepared(PGconn * connection, const char * name, int count, const char * const * values,
    const int * lengths, const int * formats, int result_format)
{
	int (*real)(PGconn *, const char *, int, const char * const *, const int *, const int *,
	    int) = (int (*)(PGconn *, const char *, int, const char * const *, const int *,
	    const int *, int))dlsym(RTLD_NEXT, "PQsendQueryPrepared");

	about_to_send(name);
	return (real(connection, name, count, values, lengths, formats, result_format));
}

int
PQsendQueryParams(PGconn * connection, const char * sql, int count, const Oid * types,
    const char * const * values, const int * lengths, const int * formats, int result_format)
{
	int (*real)(PGconn *, const char *, int, const Oid *, const char * const *, const int *,
	    const int *,
	    int) = (int (*)(PGconn *, const char *, int, const Oid *, const char * const *,
	    const int *, const int *, int))dlsym(RTLD_NEXT, "PQsendQueryParams");
	const char * wanted = getenv("KILL_SQL");

	if (wanted != NULL && strncmp(sql, wanted, strlen(wanted)) == 0)
		about_to_send("move");
	return (real(connection, sql, count, types, values, lengths, formats, result_format));
}

/* The end of the transaction: send it all, and see whether it is answered. */
int
PQpipelineSync(PGconn * connection)
{
	int (*real)(PGconn *) = (int (*)(PGconn *))dlsym(RTLD_NEXT, "PQpipelineSync");
	struct pollfd fd = {.fd = PQsocket(connection), .events = POLLIN};
	int result = real(connection);

	if (!armed)
		return (result);
	armed = false;
	while (PQflush(connection) == 1)
		;
	reached(armed_name, "sent");
	/* Answers to former requests may come first. */
	while (PQsocket(connection) >= 0 && strstr(getenv("KILL_AT"), ".committed") != NULL) {
		char seen[65536];
		ssize_t before;

		if (poll(&fd, 1, 10000) <= 0)
			break;
		/* Done when the server has nothing more to say for a moment. */
		do
			before = recv(fd.fd, seen, sizeof(seen), MSG_PEEK | MSG_DONTWAIT);
		while (poll(NULL, 0, 200) == 0 &&
		    recv(fd.fd, seen, sizeof(seen), MSG_PEEK | MSG_DONTWAIT) != before);
		reached(armed_name, "committed");
		break;
	}
	return (result);
}
