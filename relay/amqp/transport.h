#ifndef AMQP_TRANSPORT_H
#define AMQP_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "amqp/tls.h"
#include "base/clock.h"
#include "base/error.h"

/*
 * A byte stream to a broker: non-blocking TCP, through TLS for amqps.  Tries
 * every address of the host in turn.  Only the resolver blocks.
 */
struct transport;

enum transport_state {
	TRANSPORT_CONNECTING, /* call transport_progress */
	TRANSPORT_READY,      /* read and write */
	TRANSPORT_FAILED
};

struct transport_options {
	const char * host;
	unsigned int port;
	struct tls_context * context; /* NULL: plain; borrowed while connecting */
	const char * name;            /* for tls_new; borrowed likewise */
	int keepalive_s;              /* of silence until TCP probes the peer */
	clock_ns deadline;            /* for all of connecting */
};

/**
 * transport_open(options, now, e):
 * Resolve the host and begin to connect; each address gets an even share of
 * the time until the deadline.  NULL with ${e} set on failure.
 */
struct transport * transport_open(const struct transport_options * options, clock_ns now,
    struct error * e);

/**
 * transport_close(t, discard):
 * Close.  With ${discard} the kernel drops what it has not sent yet.  NULL is
 * fine.
 */
void transport_close(struct transport * t, bool discard);

/**
 * transport_progress(t, now, e):
 * Go on connecting.  On TRANSPORT_FAILED ${e} tells the last address's fate.
 */
enum transport_state transport_progress(struct transport * t, clock_ns now, struct error * e);

int transport_fd(const struct transport * t);

/**
 * transport_certificate_expiry(t):
 * When the first of the broker's certificate and ours expires, in seconds since
 * 1970; 0: not connected, or no TLS.
 */
int64_t transport_certificate_expiry(const struct transport * t);

/* While connecting: what to poll for, and until when. */
short transport_poll_events(const struct transport * t);
clock_ns transport_deadline(const struct transport * t);

/**
 * transport_read(t, data, size, e) / transport_write(t, parts, count, e):
 * Bytes moved; 0: not now; -1: the connection has ended, ${e} says how.
 */
long transport_read(struct transport * t, char * data, size_t size, struct error * e);
long transport_write(struct transport * t, const struct iovec * parts, size_t count,
    struct error * e);

/**
 * transport_tls(t):
 * The session that encrypts it; NULL: none does.
 */
const struct tls * transport_tls(const struct transport * t);

#endif /* AMQP_TRANSPORT_H */
