#ifndef CHAOS_PROXY_H
#define CHAOS_PROXY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Which way bytes go: from the client to the server, or back. */
enum direction { UP, DOWN, DIRECTIONS };

/* What stands until it is healed, of one port and direction; all zero: nothing. */
struct fault {
	int64_t latency_ns;
	int64_t jitter_ns; /* up to so much more, at random */
	size_t slice;      /* at most so many bytes a send; 0: no limit */
	int64_t gap_ns;    /* between two such sends */
	int64_t bandwidth; /* bytes a second; 0: no limit */
	bool stall;        /* nothing is read, nothing passed on; nothing is lost */
	bool drop;         /* all is read and thrown away, ends of the stream as well */
};

/* Bytes read at once, on their way. */
struct chunk {
	struct chunk * next;
	int64_t due; /* while the latency stands */
	size_t size;
	size_t sent;
	char data[];
};

/* One direction of a connection: what was read from one side and goes to the other. */
struct flow {
	const struct fault * fault; /* the port's */
	int from;                   /* side of the connection: 0 client, 1 server */
	struct chunk * first;
	struct chunk ** end;
	size_t held;      /* bytes in the chunks */
	int64_t last_due; /* of the newest chunk: jitter never reorders */
	int64_t not_before;
	bool ended; /* nothing more comes from there */
	bool cut;   /* what still comes is thrown away: the end was made up */
	bool told;  /* the other side knows of the end */
	bool lossy; /* something was thrown away: this connection can never go on */
};

/*
 * flow_read() takes what fd has and keeps it; flow_write() passes on what may go by now.  Both return false when
 * the socket is broken (errno says how).  random is a state of random_below().
 */
void flow_init(struct flow * flow, const struct fault * fault, int from);
void flow_free(struct flow * flow);
bool flow_read(struct flow * flow, int fd, int64_t now, uint64_t * random);
bool flow_write(struct flow * flow, int fd, int64_t now);

/* Whether it wants to read; when it may write (INT64_MAX: not until something happens). */
bool flow_wants(const struct flow * flow);
int64_t flow_due(const struct flow * flow);

/* A number below limit (or 0) from a seed's sequence. */
int64_t random_below(uint64_t * state, int64_t limit);

#endif
