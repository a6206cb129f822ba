#ifndef CORE_BACKLOG_H
#define CORE_BACKLOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * How much waits, as the source reads it for people who watch.  No decision
 * depends on it.
 */
struct backlog {
	int64_t pending, delayed, dead;
	bool estimated;          /* exact only up to 10,000 of each */
	double oldest_pending_s; /* age of the oldest pending one; below 0: none */
};

/* One that waits, or was given up, and why.  Texts are cut if need be. */
struct backlog_entry {
	int64_t id;
	int32_t attempts;
	int64_t at_ms; /* since 1970: its next attempt (0: unknown), or its death */
	char exchange[256];
	char routing_key[256];
	char reason[256];
};

#define BACKLOG_NEWEST_MAX 10

struct backlog_newest {
	size_t delayed_count, dead_count;
	struct backlog_entry delayed[BACKLOG_NEWEST_MAX]; /* but those that are only scheduled
	                                                     or behind others */
	struct backlog_entry dead[BACKLOG_NEWEST_MAX];
};

#endif /* CORE_BACKLOG_H */
