#include "amqp/attempts.h"

#include <assert.h>

/*
 * What must stay true: all urls are tried before a long sleep, and what was
 * lost is tried last (V); nothing that a broker or a message does over and
 * over makes us spin.
 */
#define CONNECT_INITIAL CLOCK_MS(100)
#define CONNECT_MAX CLOCK_S(10)
/* Each close finds a culprit or halves those who may be: work that ends, and
 * innocents wait for it.  Ten culprits, each tried ten times, need hundreds. */
#define CHANNEL_INITIAL CLOCK_MS(2)
#define CHANNEL_MAX CLOCK_MS(20)
#define RENEWAL_INITIAL CLOCK_S(1)
#define RENEWAL_MAX CLOCK_S(30)
#define STEADY CLOCK_S(5)  /* up for so long: the last trouble is over */
#define FORGET CLOCK_S(60) /* no nack for so long: likewise */

void
attempts_init(struct attempts * a, size_t urls, uint64_t seed)
{
	assert(urls > 0);
	*a = (struct attempts){.urls = urls};
	backoff_init(&a->connect, CONNECT_INITIAL, 2, CONNECT_MAX, seed);
	/* Slowly: a culprit among 128 is found by eight closes in a row. */
	backoff_init(&a->channel, CHANNEL_INITIAL, 1.5, CHANNEL_MAX, seed + 1);
	backoff_init(&a->renewal, RENEWAL_INITIAL, 2, RENEWAL_MAX, seed + 2);
}

void
attempts_up(struct attempts * a, clock_ns now)
{
	a->up_since = now;
}

clock_ns
attempts_channel_closed(struct attempts * a, clock_ns now)
{
	/* At once when all was well. */
	if (now - a->up_since >= STEADY)
		backoff_reset(&a->channel);
	if (a->channel.failures > 0)
		return (backoff_next(&a->channel));
	a->channel.failures = 1;
	return (0);
}

void
attempts_restart(struct attempts * a, bool skip)
{
	a->failed = 0;
	if (skip)
		a->url = (a->url + 1) % a->urls;
}

clock_ns
attempts_down(struct attempts * a, clock_ns now, enum attempts_end end)
{
	clock_ns pause = 0;

	switch (end) {
	case ATTEMPTS_NEVER_UP:
		a->url = (a->url + 1) % a->urls;
		if (++a->failed < a->urls)
			return (0);
		a->failed = 0;
		return (backoff_next(&a->connect));
	case ATTEMPTS_LOST:
		if (now - a->up_since >= STEADY)
			backoff_reset(&a->connect);
		pause = backoff_next(&a->connect);
		break;
	case ATTEMPTS_BLAMED:
		/* The broker is well; the culprit is looked for, close by close. */
		pause = attempts_channel_closed(a, now);
		break;
	}
	attempts_restart(a, true);
	return (pause);
}

bool
attempts_nacked(struct attempts * a, clock_ns now)
{
	if (now - a->nacked_at >= FORGET)
		backoff_reset(&a->renewal);
	a->nacked_at = now;
	if (now < a->renew_at)
		return (false);
	a->renew_at = now + backoff_next(&a->renewal);
	return (true);
}
