#ifndef CLI_TELLING_H
#define CLI_TELLING_H

#include <stdbool.h>

#include "base/clock.h"
#include "base/error.h"
#include "cli/broker.h"
#include "cli/pausing.h"
#include "core/backlog.h"
#include "core/core.h"
#include "http/stats.h"
#include "postgres/source.h"

/*
 * What the daemon tells those who watch it over HTTP: gathers how all parts
 * stand, a few times a second at most, and hands it to the server's thread.
 * With http.listen off it does nothing.
 */
struct telling;

struct telling_options {
	const char * listen; /* NULL: off */
	const char * schema;
	uint32_t window;
};

/**
 * telling_new(options, e):
 * NULL with ${e}.
 */
struct telling * telling_new(const struct telling_options * options, struct error * e);
void telling_free(struct telling * telling);

/**
 * telling_source(telling, state, reason):
 * The source's state has changed; STATS_STARTING: it is not connected, because
 * of ${reason}.
 */
void telling_source(struct telling * telling, enum stats_state state, const char * reason);

/**
 * telling_backlog(telling, backlog), telling_newest(telling, newest):
 * What the source has read; copied.
 */
void telling_backlog(struct telling * telling, const struct backlog * backlog);
void telling_newest(struct telling * telling, const struct backlog_newest * newest);

/**
 * telling_paused(telling, pause):
 * What a person has paused; copied.
 */
void telling_paused(struct telling * telling, const struct pause * pause);

/* Who is asked. */
struct telling_parts {
	struct core * core;
	struct source * source;
	struct broker * broker;
	const struct pausing * pausing;
	bool stopping;
};

/**
 * telling_turn(telling, now, parts), telling_deadline(telling):
 * At the end of each turn of the loop; when the next one must be.
 */
void telling_turn(struct telling * telling, clock_ns now, const struct telling_parts * parts);
clock_ns telling_deadline(const struct telling * telling);

#endif /* CLI_TELLING_H */
