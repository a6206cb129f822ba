#ifndef HTTP_STATS_H
#define HTTP_STATS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/histogram.h"
#include "core/backlog.h"

/*
 * How the relay stands, as plain values: the loop fills one in and hands it
 * over by copying; whatever is served is made from the copy.  No pointer, no
 * secret, no payload.  Times are milliseconds since 1970; 0: unknown, or never.
 */
enum stats_state { STATS_STARTING, STATS_LEADING, STATS_STANDBY, STATS_STOPPING };

#define STATS_REASONS_MAX 3
#define STATS_EXCHANGES_MAX 10

struct stats {
	int64_t started_at_ms;
	int64_t now_ms; /* when this was filled in */
	enum stats_state state;
	/* Why it is not ready, for people; none: it is. */
	size_t reason_count;
	char reasons[STATS_REASONS_MAX][320];

	char schema[48];
	char database[128]; /* "": not known yet */
	char host[72];      /* this one */
	int64_t pid;

	struct {
		bool up;
		char reason[256]; /* why not; "": it is, or no attempt has failed yet */
		uint64_t reconnects;
	} postgres;

	struct {
		bool up;
		bool blocked;
		char blocked_reason[256];
		char reason[256];
		char url[256]; /* without a user; "": not known yet */
		uint64_t reconnects;
		int64_t certificate_expires_s; /* since 1970; 0: no TLS */
	} broker;

	struct backlog backlog;
	int64_t backlog_read_at_ms;

	struct {
		bool all;
		size_t exchange_count; /* may be more than are listed */
		char exchanges[STATS_EXCHANGES_MAX][256];
	} paused;

	uint64_t window, in_flight, unrecorded;
	uint64_t published, confirmed, nacked, returned, unfit, republished, delayed, dead,
	    recorded;
	struct {
		uint64_t notify, timer, poll;
	} wakeups;

	/* Over the last seconds; below 0: nothing was confirmed. */
	double confirmed_per_second;
	double confirm_p50, confirm_p99, commit_p50, commit_p99;

	struct histogram confirm;           /* from publish to confirm */
	struct histogram commit_to_confirm; /* from created_at to confirm */
};

#endif /* HTTP_STATS_H */
