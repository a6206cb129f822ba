#include "amqp/transport.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/*
 * Connecting is a small machine: TCP to one address after the other until one
 * answers, then TLS on that one.
 *
 * TCP_USER_TIMEOUT is left alone on purpose: it also ends a connection whose
 * peer keeps its window shut although it answers every probe, and that is
 * what a broker with a resource alarm does, for hours if need be (V: never
 * reconnect because of it).  Heartbeats find a dead peer.
 */
struct transport {
	struct transport_options options;
	struct addrinfo * addresses;
	struct addrinfo * address; /* being tried */
	int fd;
	struct tls * tls;
	enum transport_state state;
	enum tls_want want;
	clock_ns address_deadline;
	int64_t certificate_expiry;
};

static void
set_option(int fd, int level, int name, int value)
{
	/* Each is a refinement: without it the connection still works. */
	(void)setsockopt(fd, level, name, &value, sizeof(value));
}

static void
drop_socket(struct transport * t)
{
	tls_free(t->tls);
	t->tls = NULL;
	if (t->fd >= 0)
		close(t->fd);
	t->fd = -1;
}

static void
say_refused(const struct transport * t, int error_number, struct error * e)
{
	char address[INET6_ADDRSTRLEN + 32] = "?";

	(void)getnameinfo(t->address->ai_addr, t->address->ai_addrlen, address, sizeof(address),
	    NULL, 0, NI_NUMERICHOST);
	error_set(e, EXIT_UNREACHABLE, "cannot connect to %s (%s) port %u: %s", t->options.host,
	    address, t->options.port, strerror(error_number));
	if (error_number == ECONNREFUSED)
		error_remedy(e, "is the broker running, and is the port right?");
	else if (error_number == ETIMEDOUT)
		error_remedy(e, "look for a firewall between here and the broker");
}

/* Begin with t->address or the first one after it that takes a connect. */
static enum transport_state
try_addresses(struct transport * t, clock_ns now, struct error * e)
{
	const struct addrinfo * rest;
	int left;

	for (; t->address != NULL; t->address = t->address->ai_next) {
		t->fd = socket(t->address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC,
		    0);
		if (t->fd < 0) {
			say_refused(t, errno, e);
			continue;
		}
		set_option(t->fd, IPPROTO_TCP, TCP_NODELAY, 1);
		set_option(t->fd, SOL_SOCKET, SO_KEEPALIVE, 1);
		set_option(t->fd, IPPROTO_TCP, TCP_KEEPIDLE, t->options.keepalive_s);
		set_option(t->fd, IPPROTO_TCP, TCP_KEEPINTVL, t->options.keepalive_s);
		set_option(t->fd, IPPROTO_TCP, TCP_KEEPCNT, 3);
		left = 0;
		for (rest = t->address; rest != NULL; rest = rest->ai_next)
			left++;
		t->address_deadline = now + (t->options.deadline - now) / left;
		if (connect(t->fd, t->address->ai_addr, t->address->ai_addrlen) == 0 ||
		    errno == EINPROGRESS)
			return (TRANSPORT_CONNECTING);
		say_refused(t, errno, e);
		drop_socket(t);
	}
	return (TRANSPORT_FAILED);
}

static enum transport_state
next_address(struct transport * t, clock_ns now, int error_number, struct error * e)
{
	say_refused(t, error_number, e);
	drop_socket(t);
	t->address = t->address->ai_next;
	return (try_addresses(t, now, e));
}

struct transport *
transport_open(const struct transport_options * options, clock_ns now, struct error * e)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
	    .ai_flags = AI_ADDRCONFIG | AI_NUMERICSERV};
	struct transport * t = calloc(1, sizeof(*t));
	char port[8];
	int rc;

	if (t == NULL) {
		error_set(e, EXIT_BUG, "out of memory");
		return (NULL);
	}
	t->options = *options;
	t->fd = -1;
	(void)snprintf(port, sizeof(port), "%u", options->port & 0xffff);
	if ((rc = getaddrinfo(options->host, port, &hints, &t->addresses)) != 0) {
		error_set(e, EXIT_UNREACHABLE, "cannot resolve host \"%s\": %s", options->host,
		    rc == EAI_SYSTEM ? strerror(errno) : gai_strerror(rc));
		error_remedy(e, "correct the host in rabbitmq.urls, or look at the name service");
		t->addresses = NULL;
		goto fail;
	}
	t->address = t->addresses;
	if ((t->state = try_addresses(t, now, e)) == TRANSPORT_FAILED)
		goto fail;
	return (t);

fail:
	transport_close(t, false);
	return (NULL);
}

void
transport_close(struct transport * t, bool discard)
{
	struct linger linger = {.l_onoff = 1, .l_linger = 0};

	if (t == NULL)
		return;
	if (discard && t->fd >= 0)
		(void)setsockopt(t->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	drop_socket(t);
	if (t->addresses != NULL)
		freeaddrinfo(t->addresses);
	free(t);
}

static enum transport_state
progress_tcp(struct transport * t, clock_ns now, struct error * e)
{
	struct pollfd poll_fd = {.fd = t->fd, .events = POLLOUT};
	socklen_t size = sizeof(int);
	int error_number = 0;

	if (poll(&poll_fd, 1, 0) <= 0 || poll_fd.revents == 0) {
		if (now < t->address_deadline)
			return (TRANSPORT_CONNECTING);
		return (next_address(t, now, ETIMEDOUT, e));
	}
	if (getsockopt(t->fd, SOL_SOCKET, SO_ERROR, &error_number, &size) != 0)
		error_number = errno;
	if (error_number != 0)
		return (next_address(t, now, error_number, e));
	if (t->options.context == NULL)
		return (TRANSPORT_READY);
	if ((t->tls = tls_new(t->options.context, t->fd, t->options.name, e)) == NULL)
		return (TRANSPORT_FAILED);
	t->want = TLS_WANT_WRITE;
	return (TRANSPORT_CONNECTING);
}

/* Of the broker's certificate and ours; 0: there is none. */
static int64_t
first_expiry(const struct tls * tls)
{
	int64_t peer, own;

	tls_expiry(tls, &peer, &own);
	return (own != 0 && (peer == 0 || own < peer) ? own : peer);
}

enum transport_state
transport_progress(struct transport * t, clock_ns now, struct error * e)
{
	if (t->state == TRANSPORT_CONNECTING && t->tls == NULL)
		t->state = progress_tcp(t, now, e);
	if (t->state == TRANSPORT_CONNECTING && t->tls != NULL) {
		switch (tls_handshake(t->tls, &t->want, e)) {
		case 1:
			t->state = TRANSPORT_READY;
			t->certificate_expiry = first_expiry(t->tls);
			break;
		case 0:
			if (now >= t->options.deadline) {
				t->state = TRANSPORT_FAILED;
				error_set(e, EXIT_UNREACHABLE, "TLS handshake: no answer in time");
				error_remedy(e, "does this port speak TLS?");
			}
			break;
		default:
			t->state = TRANSPORT_FAILED;
		}
	}
	if (t->state == TRANSPORT_READY && t->addresses != NULL) {
		freeaddrinfo(t->addresses);
		t->addresses = t->address = NULL;
	}
	return (t->state);
}

int64_t
transport_certificate_expiry(const struct transport * t)
{
	return (t->tls != NULL && t->state == TRANSPORT_READY ? t->certificate_expiry : 0);
}

int
transport_fd(const struct transport * t)
{
	return (t->fd);
}

short
transport_poll_events(const struct transport * t)
{
	return (t->tls != NULL && t->want == TLS_WANT_READ ? POLLIN : POLLOUT);
}

clock_ns
transport_deadline(const struct transport * t)
{
	return (t->tls != NULL ? t->options.deadline : t->address_deadline);
}

long
transport_read(struct transport * t, char * data, size_t size, struct error * e)
{
	ssize_t n;

	if (t->tls != NULL)
		return (tls_read(t->tls, data, size, e));
	do
		n = recv(t->fd, data, size, 0);
	while (n < 0 && errno == EINTR);
	if (n > 0)
		return (n);
	if (n == 0)
		return (error_set(e, EXIT_UNREACHABLE, "the broker closed the connection"));
	if (errno == EAGAIN || errno == EWOULDBLOCK)
		return (0);
	return (error_set(e, EXIT_UNREACHABLE, "connection lost: %s", strerror(errno)));
}

static long
write_tls(struct transport * t, const struct iovec * parts, size_t count, struct error * e)
{
	long total = 0, n;
	size_t i;

	for (i = 0; i < count; i++) {
		if ((n = tls_write(t->tls, parts[i].iov_base, parts[i].iov_len, e)) < 0)
			return (total > 0 ? total : -1);
		total += n;
		if ((size_t)n < parts[i].iov_len)
			break;
	}
	return (total);
}

long
transport_write(struct transport * t, const struct iovec * parts, size_t count, struct error * e)
{
	struct msghdr message = {.msg_iov = (struct iovec *)(uintptr_t)parts, .msg_iovlen = count};
	ssize_t n;

	if (t->tls != NULL)
		return (write_tls(t, parts, count, e));
	do
		n = sendmsg(t->fd, &message, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n >= 0)
		return (n);
	if (errno == EAGAIN || errno == EWOULDBLOCK)
		return (0);
	return (error_set(e, EXIT_UNREACHABLE, "connection lost: %s", strerror(errno)));
}

const struct tls *
transport_tls(const struct transport * t)
{
	return (t->tls);
}
