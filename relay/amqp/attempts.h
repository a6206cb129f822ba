#ifndef AMQP_ATTEMPTS_H
#define AMQP_ATTEMPTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/backoff.h"
#include "base/clock.h"

/*
 * Which url a link tries next, and how long it waits before it connects, or
 * opens a channel, again.  Pure: no I/O, time is passed in.
 */
struct attempts {
	size_t url;    /* index of the one of this attempt, or of the next */
	size_t urls;   /* how many there are */
	size_t failed; /* of this pass over all urls */
	clock_ns up_since;
	struct backoff connect;
	struct backoff channel;
	struct backoff renewal;
	clock_ns renew_at; /* not before */
	clock_ns nacked_at;
};

enum attempts_end {
	ATTEMPTS_NEVER_UP, /* this attempt failed */
	ATTEMPTS_LOST,     /* a connection that was up is lost */
	ATTEMPTS_BLAMED    /* the broker closed it over something published */
};

/**
 * attempts_init(a, urls, seed):
 * Begin with the first of ${urls} (at least one).
 */
void attempts_init(struct attempts * a, size_t urls, uint64_t seed);

/**
 * attempts_up(a, now):
 * A channel is ready for publishing.
 */
void attempts_up(struct attempts * a, clock_ns now);

/**
 * attempts_down(a, now, end):
 * The connection is over.  The next url is up; returns how long to wait first.
 */
clock_ns attempts_down(struct attempts * a, clock_ns now, enum attempts_end end);

/**
 * attempts_channel_closed(a, now):
 * How long to wait before a channel is opened on the same connection.
 */
clock_ns attempts_channel_closed(struct attempts * a, clock_ns now);

/**
 * attempts_restart(a, skip):
 * A new pass over all urls begins; ${skip}: not with the one of now.
 */
void attempts_restart(struct attempts * a, bool skip);

/**
 * attempts_nacked(a, now):
 * The broker refused a message; whether to replace the channel.
 */
bool attempts_nacked(struct attempts * a, clock_ns now);

#endif /* AMQP_ATTEMPTS_H */
