#include "proxy.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/*
 * One direction of a proxied connection.
 *
 * What must stay true: bytes are neither reordered nor changed, and none is lost but under "drop", which marks the
 * flow lossy.  At most HELD_MAX bytes wait here: then nothing more is read, and the sender feels it as it would
 * feel a slow network.
 */
enum { HELD_MAX = 256 * 1024, READ_SIZE = 64 * 1024, SENDS_A_SECOND = 100 };

void
flow_init(struct flow * flow, const struct fault * fault, int from)
{
	*flow = (struct flow){.fault = fault, .from = from};
	flow->end = &flow->first;
}

static void
flow_drop_first(struct flow * flow)
{
	struct chunk * chunk = flow->first;

	flow->held -= chunk->size - chunk->sent;
	flow->first = chunk->next;
	if (flow->first == NULL)
		flow->end = &flow->first;
	free(chunk);
}

void
flow_free(struct flow * flow)
{
	while (flow->first != NULL)
		flow_drop_first(flow);
}

int64_t
random_below(uint64_t * state, int64_t limit)
{
	/* splitmix64 */
	uint64_t z = (*state += 0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
	z ^= z >> 31;
	return (limit > 0 ? (int64_t)(z % (uint64_t)limit) : 0);
}

static void
flow_keep(struct flow * flow, const char * data, size_t size, int64_t now, uint64_t * random)
{
	struct chunk * chunk = malloc(sizeof(*chunk) + size);
	int64_t due = now + flow->fault->latency_ns + random_below(random, flow->fault->jitter_ns);

	if (chunk == NULL)
		abort();
	flow->last_due = due > flow->last_due ? due : flow->last_due;
	*chunk = (struct chunk){.due = flow->last_due, .size = size};
	memcpy(chunk->data, data, size);
	*flow->end = chunk;
	flow->end = &chunk->next;
	flow->held += size;
}

bool
flow_read(struct flow * flow, int fd, int64_t now, uint64_t * random)
{
	char data[READ_SIZE];
	ssize_t size = recv(fd, data, sizeof(data), 0);

	if (size < 0)
		return (errno == EAGAIN || errno == EINTR);
	if (size == 0)
		flow->ended = true;
	if (flow->fault->drop)
		flow->lossy = true;
	else if (size > 0 && !flow->cut)
		flow_keep(flow, data, (size_t)size, now, random);
	return (true);
}

bool
flow_wants(const struct flow * flow)
{
	return (!flow->ended && !flow->fault->stall &&
	    (flow->fault->drop || flow->held < HELD_MAX));
}

int64_t
flow_due(const struct flow * flow)
{
	int64_t due;

	if (flow->fault->stall || flow->told || flow->lossy)
		return (INT64_MAX);
	if (flow->first == NULL)
		return (flow->ended || flow->cut ? 0 : INT64_MAX);
	/* A latency that was healed holds nothing up any more. */
	due = flow->fault->latency_ns > 0 ? flow->first->due : 0;
	if (flow->fault->slice == 0 && flow->fault->bandwidth == 0)
		return (due);
	return (due > flow->not_before ? due : flow->not_before);
}

static size_t
flow_portion(const struct flow * flow)
{
	const struct fault * fault = flow->fault;
	size_t portion = flow->first->size - flow->first->sent;

	if (fault->slice > 0 && portion > fault->slice)
		portion = fault->slice;
	if (fault->bandwidth > 0 && portion > (size_t)(fault->bandwidth / SENDS_A_SECOND + 1))
		portion = (size_t)(fault->bandwidth / SENDS_A_SECOND + 1);
	return (portion);
}

bool
flow_write(struct flow * flow, int fd, int64_t now)
{
	while (flow_due(flow) <= now && flow->first != NULL) {
		struct chunk * chunk = flow->first;
		ssize_t sent = send(fd, chunk->data + chunk->sent, flow_portion(flow),
		    MSG_NOSIGNAL);

		if (sent < 0)
			return (errno == EAGAIN || errno == EINTR);
		chunk->sent += (size_t)sent;
		flow->held -= (size_t)sent;
		flow->not_before = now + flow->fault->gap_ns;
		if (flow->fault->bandwidth > 0)
			flow->not_before += sent * 1000000000 / flow->fault->bandwidth;
		if (chunk->sent == chunk->size)
			flow_drop_first(flow);
	}
	if (flow_due(flow) <= now && flow->first == NULL) {
		flow->told = true;
		shutdown(fd, SHUT_WR);
	}
	return (true);
}
