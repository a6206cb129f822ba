#ifndef CLI_BROKER_H
#define CLI_BROKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "amqp/link.h"
#include "base/clock.h"
#include "base/error.h"
#include "core/core.h"

/*
 * The broker's side of the daemon: the two connections that the core knows
 * (enum core_link), what they tell it, and what it asks of them.  The second
 * one is there only while the core has something for it.
 */
struct broker;

struct broker_options {
	struct link_options link; /* of the main one, but its connection_name */
	const char * names[CORE_LINKS];
	uint32_t windows[CORE_LINKS]; /* most unsettled messages */
	bool once;                    /* fail for good if the first pass over all urls does */
};

/**
 * broker_new(options, core, e):
 * Everything is borrowed for its life.  No connection is made before
 * broker_lease allows it.  NULL with ${e}.
 */
struct broker * broker_new(const struct broker_options * options, struct core * core,
    struct error * e);
void broker_free(struct broker * broker);

/**
 * broker_lease(broker, now, until):
 * Connect if ${now} is before ${until}, and write nothing at or after it;
 * otherwise cut the connections now.
 */
void broker_lease(struct broker * broker, clock_ns now, clock_ns until);

#define BROKER_FDS CORE_LINKS
struct pollfd;
/**
 * broker_poll(broker, fds), broker_deadline(broker), broker_turn(...):
 * What to poll (always BROKER_FDS entries), until when, and what came of it.
 */
void broker_poll(const struct broker * broker, struct pollfd * fds);
clock_ns broker_deadline(const struct broker * broker);
void broker_turn(struct broker * broker, clock_ns now, const struct pollfd * fds);

/**
 * broker_publish(broker, now, action), broker_reset(broker, now, action):
 * Do what the core asks.  What was published goes out with broker_flush.
 */
void broker_publish(struct broker * broker, clock_ns now, const struct core_action * action);
void broker_reset(struct broker * broker, clock_ns now, const struct core_action * action);
void broker_flush(struct broker * broker, clock_ns now);

/**
 * broker_failure(broker):
 * Why there is no use in going on: no url let us in, and only a person can
 * change that.  NULL: all is well, or it is tried again.
 */
const struct error * broker_failure(const struct broker * broker);

/**
 * broker_status(broker):
 * One line for people: how the main connection stands.
 */
const char * broker_status(const struct broker * broker);

/*
 * The same in parts, and when the first certificate expires (seconds since
 * 1970; 0: no TLS, or not connected).  Texts live until the next turn.
 */
struct broker_report {
	bool up;
	bool blocked;
	const char * blocked_reason;
	const char * reason; /* why it is not up; "": no attempt has failed */
	const char * peer;   /* the url tried last, without password; "": none yet */
	uint64_t reconnects; /* of the main connection */
	int64_t certificate_expiry_s;
};

/**
 * broker_report(broker, report):
 * How the main connection stands.
 */
void broker_report(const struct broker * broker, struct broker_report * report);

/**
 * broker_close(broker):
 * Say goodbye, as far as the broker answers in half a second.
 */
void broker_close(struct broker * broker);

#endif /* CLI_BROKER_H */
