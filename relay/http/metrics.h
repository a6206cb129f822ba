#ifndef HTTP_METRICS_H
#define HTTP_METRICS_H

#include "base/buffer.h"
#include "http/stats.h"

#define METRICS_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

/**
 * metrics_write(out, stats):
 * ${stats} in Prometheus's text format; docs/metrics.md explains each.  What
 * is not known is left out: a standby says nothing of the backlog.  0, or -1
 * if it does not fit.
 */
int metrics_write(struct buffer * out, const struct stats * stats);

#endif /* HTTP_METRICS_H */
