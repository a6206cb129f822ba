#ifndef HTTP_SERVER_H
#define HTTP_SERVER_H

#include <stdbool.h>

#include "base/clock.h"
#include "base/error.h"
#include "core/backlog.h"
#include "http/stats.h"

/*
 * Metrics, health and a page over HTTP, on a thread of its own.  The loop
 * hands over copies and never waits: not for a client, not for the port, not
 * for the resolver.  A port that is taken is a warning, tried again every 10 s;
 * the relay's own work goes on.
 *
 * Whoever connects can do little harm: GET and HEAD of five paths, no request
 * body, bounded connections and times; who comes when there is no room makes
 * the oldest one go.
 */
struct http_server;

/**
 * http_server_new(listen, e):
 * Serve at ${listen} (http/address.h; copied).  NULL with ${e} when there is
 * no memory or no thread.
 */
struct http_server * http_server_new(const char * listen, struct error * e);

/**
 * http_server_free(server):
 * End the thread, within a second; NULL is fine.
 */
void http_server_free(struct http_server * server);

/**
 * http_server_turned(server, now):
 * The loop is alive.  To be called at least every HTTP_TURN_MAX.
 */
#define HTTP_TURN_MAX CLOCK_S(2)
void http_server_turned(struct http_server * server, clock_ns now);

/**
 * http_server_post(server, stats, newest):
 * Hand over how the relay stands; ${newest}: NULL when it has not changed.
 * False: somebody is just copying it; try again soon.
 */
bool http_server_post(struct http_server * server, const struct stats * stats,
    const struct backlog_newest * newest);

/**
 * http_server_wants_newest(server, now):
 * Whether somebody has lately asked for what the newest messages would be
 * shown in.
 */
bool http_server_wants_newest(const struct http_server * server, clock_ns now);

#endif /* HTTP_SERVER_H */
