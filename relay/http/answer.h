#ifndef HTTP_ANSWER_H
#define HTTP_ANSWER_H

#include <stdbool.h>

#include "base/buffer.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "http/stats.h"

/*
 * What is answered to a request; knows nothing of sockets.
 */

/* All that answers are made of. */
struct answer_facts {
	struct stats stats;
	struct backlog_newest newest;
	clock_ns still; /* since the loop turned last */
};

/* A loop that stands still for longer is not healthy, nor is the rest true. */
#define ANSWER_STILL_MAX CLOCK_S(20)

struct answer {
	unsigned int status;
	const char * content_type;
	const char * policy; /* Content-Security-Policy */
	bool allow;          /* 405: say what is allowed */
	struct bytes body;   /* points into ${out}, or is constant */
};

#define ANSWER_MAX ((size_t)128 << 10) /* every text as long as it can be, and escaped */

/**
 * answer_make(answer, method, path, facts, out):
 * Answer to a request for ${path}, which has no query any more.  ${out}: room
 * for the body (max ANSWER_MAX), emptied here.  Every request has an answer.
 */
void answer_make(struct answer * answer, const char * method, const char * path,
    const struct answer_facts * facts, struct buffer * out);

/**
 * answer_wants_newest(path):
 * Whether ${path} shows the newest delayed and dead messages, which are read
 * from the database only while somebody looks.
 */
bool answer_wants_newest(const char * path);

#endif /* HTTP_ANSWER_H */
