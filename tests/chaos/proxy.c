#include "proxy.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/*
 * A TCP proxy that breaks connections in every way that a network can.  It serves 127.0.0.1 alone and ends with
 * its stdin.  One command a line on stdin, one answer each on stdout: "ok ..." or "error ...".
 *
 *   listen NAME SERVER_PORT            "ok PORT": connect there to reach 127.0.0.1:SERVER_PORT
 *   target NAME SERVER_PORT            new connections go there from now on
 *   latency NAME DIRECTION MS JITTER_MS
 *   slice NAME DIRECTION BYTES GAP_US  sends of so many bytes, with a pause between them
 *   bandwidth NAME DIRECTION BYTES_PER_S
 *   stall NAME DIRECTION               reads and passes on nothing: the sender's buffers fill
 *   drop NAME DIRECTION                throws everything away, also the end of a stream: half-open, "both" a black hole
 *   refuse NAME                        new connections are reset at once
 *   heal NAME                          none of the above; what "drop" has robbed of bytes is reset, as the peer would
 *   reset NAME                         RST to both sides of every connection
 *   finish NAME DIRECTION              FIN in that direction behind what is on its way, as by shutdown()
 *   stats NAME                         "ok CONNECTIONS ACCEPTED BYTES_UP BYTES_DOWN"; the bytes are those passed on
 *
 * DIRECTION is up (client to server), down or both.  Faults stand for connections that are there and that come.
 */
enum { PORTS_MAX = 16, CONNECTIONS_MAX = 256, LINE_MAX_BYTES = 256, WORDS_MAX = 5, FIRST_FD = 1 };

struct port {
	char name[32];
	int listener;
	uint16_t server_port;
	struct fault faults[DIRECTIONS];
	bool refuse;
	uint64_t accepted;
	uint64_t bytes[DIRECTIONS];
};

struct connection {
	struct port * port; /* NULL: this place is free */
	int fds[2];         /* client, server; -1: gone, and the other side does not know */
	bool connecting;
	struct flow flows[DIRECTIONS];
};

struct proxy {
	struct port ports[PORTS_MAX];
	size_t port_count;
	struct connection connections[CONNECTIONS_MAX];
	uint64_t random;
	char line[LINE_MAX_BYTES];
	size_t line_size;
	bool ended;
};

static int64_t
now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (t.tv_sec * 1000000000 + t.tv_nsec);
}

static struct sockaddr_in
address_of(uint16_t port)
{
	return ((struct sockaddr_in){.sin_family = AF_INET,
	    .sin_port = htons(port),
	    .sin_addr.s_addr = htonl(INADDR_LOOPBACK)});
}

/* ---- connections ---- */

static void
fd_reset(int fd)
{
	struct linger linger = {.l_onoff = 1};

	if (fd < 0)
		return;
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	close(fd);
}

static void
connection_forget(struct connection * c)
{
	for (int d = 0; d < DIRECTIONS; d++)
		flow_free(&c->flows[d]);
	c->port = NULL;
}

static void
connection_reset(struct connection * c)
{
	fd_reset(c->fds[0]);
	fd_reset(c->fds[1]);
	connection_forget(c);
}

/* One side broke.  The other learns of it, unless what it would be told is dropped. */
static void
connection_lose_side(struct connection * c, int side)
{
	struct flow * flow = &c->flows[side == 0 ? UP : DOWN];

	if (!flow->fault->drop || c->fds[1 - side] < 0) {
		connection_reset(c);
		return;
	}
	fd_reset(c->fds[side]);
	c->fds[side] = -1;
	flow->ended = flow->lossy = true;
}

static void
connection_open(struct proxy * proxy, struct port * port)
{
	struct sockaddr_in address = address_of(port->server_port);
	int client = accept4(port->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	struct connection * c = proxy->connections;
	int server, on = 1;

	if (client < 0)
		return;
	port->accepted++;
	while (c < proxy->connections + CONNECTIONS_MAX && c->port != NULL)
		c++;
	if (port->refuse || c == proxy->connections + CONNECTIONS_MAX) {
		fd_reset(client);
		return;
	}
	server = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (server < 0) {
		fd_reset(client);
		return;
	}
	setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(server, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	*c = (struct connection){.port = port, .fds = {client, server}};
	flow_init(&c->flows[UP], &port->faults[UP], 0);
	flow_init(&c->flows[DOWN], &port->faults[DOWN], 1);
	c->connecting = connect(server, (struct sockaddr *)&address, sizeof(address)) < 0;
	if (c->connecting && errno != EINPROGRESS)
		connection_reset(c);
}

/* Bytes from one side, and to the other.  False: the connection is not what it was. */
static bool
connection_step(struct proxy * proxy, struct connection * c, int direction, bool readable)
{
	struct flow * flow = &c->flows[direction];
	int from = c->fds[flow->from], to = c->fds[1 - flow->from];
	size_t before;

	if (readable && from >= 0 && flow_wants(flow) &&
	    !flow_read(flow, from, now_ns(), &proxy->random)) {
		connection_lose_side(c, flow->from);
		return (false);
	}
	if (to < 0 || c->connecting) {
		/* Bytes for a host that knows nothing of the connection: it would answer with a reset. */
		if (to < 0 && flow->held > 0)
			connection_reset(c);
		return (c->port != NULL);
	}
	before = flow->held;
	if (!flow_write(flow, to, now_ns())) {
		connection_lose_side(c, 1 - flow->from);
		return (false);
	}
	c->port->bytes[direction] += before - flow->held;
	return (true);
}

/* revents are those of the two sides. */
static void
connection_turn(struct proxy * proxy, struct connection * c, const short * revents)
{
	int error = 0;
	socklen_t size = sizeof(error);

	if (c->connecting && revents[1] != 0) {
		getsockopt(c->fds[1], SOL_SOCKET, SO_ERROR, &error, &size);
		if (error != 0) {
			connection_reset(c);
			return;
		}
		c->connecting = false;
	}
	for (int d = 0; d < DIRECTIONS; d++) {
		if (!connection_step(proxy, c, d, (revents[c->flows[d].from] & ~POLLOUT) != 0))
			return;
	}
	if (c->flows[UP].told && c->flows[DOWN].told && c->flows[UP].ended &&
	    c->flows[DOWN].ended) {
		close(c->fds[0]);
		close(c->fds[1]);
		connection_forget(c);
	}
}

/* What to poll for; wake is moved to the time at which something is due. */
static void
connection_interest(const struct connection * c, struct pollfd * polled, int64_t now,
    int64_t * wake)
{
	for (int side = 0; side < 2; side++)
		polled[side] = (struct pollfd){.fd = c->fds[side]};
	if (c->connecting)
		polled[1].events |= POLLOUT;
	for (int d = 0; d < DIRECTIONS; d++) {
		const struct flow * flow = &c->flows[d];
		int64_t due = flow_due(flow);

		if (flow_wants(flow) && !(c->connecting && flow->from == 1))
			polled[flow->from].events |= POLLIN;
		if (c->connecting)
			continue;
		if (due <= now)
			polled[1 - flow->from].events |= POLLOUT;
		else if (due < *wake)
			*wake = due;
	}
	/* A socket nobody waits for would still report that its peer hung up, again and again. */
	for (int side = 0; side < 2; side++) {
		if (polled[side].events == 0)
			polled[side].fd = -1;
	}
}

/* ---- commands ---- */

static struct port *
port_find(struct proxy * proxy, const char * name)
{
	for (size_t i = 0; i < proxy->port_count; i++) {
		if (strcmp(proxy->ports[i].name, name) == 0)
			return (&proxy->ports[i]);
	}
	return (NULL);
}

static void
command_listen(struct proxy * proxy, const char * name, uint16_t server_port)
{
	struct port * port = &proxy->ports[proxy->port_count];
	struct sockaddr_in address = address_of(0);
	socklen_t size = sizeof(address);

	if (proxy->port_count == PORTS_MAX || strlen(name) >= sizeof(port->name)) {
		printf("error too many ports, or too long a name\n");
		return;
	}
	*port = (struct port){.server_port = server_port};
	strcpy(port->name, name);
	port->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (port->listener < 0 || bind(port->listener, (struct sockaddr *)&address, size) < 0 ||
	    listen(port->listener, SOMAXCONN) < 0 ||
	    getsockname(port->listener, (struct sockaddr *)&address, &size) < 0) {
		printf("error %s\n", strerror(errno));
		return;
	}
	proxy->port_count++;
	printf("ok %d\n", ntohs(address.sin_port));
}

static void
port_heal(struct proxy * proxy, struct port * port)
{
	memset(port->faults, 0, sizeof(port->faults));
	port->refuse = false;
	for (struct connection * c = proxy->connections; c < proxy->connections + CONNECTIONS_MAX;
	     c++) {
		if (c->port == port && (c->flows[UP].lossy || c->flows[DOWN].lossy))
			connection_reset(c);
	}
}

static size_t
port_each(struct proxy * proxy, const struct port * port, bool reset, const bool * finish)
{
	size_t count = 0;

	for (struct connection * c = proxy->connections; c < proxy->connections + CONNECTIONS_MAX;
	     c++) {
		if (c->port != port)
			continue;
		count++;
		for (int d = 0; finish != NULL && d < DIRECTIONS; d++)
			c->flows[d].cut |= finish[d];
		if (reset)
			connection_reset(c);
	}
	return (count);
}

static bool
fault_set(struct fault * fault, const char * verb, int64_t a, int64_t b)
{
	if (strcmp(verb, "latency") == 0) {
		fault->latency_ns = a * 1000000;
		fault->jitter_ns = b * 1000000;
	} else if (strcmp(verb, "slice") == 0) {
		fault->slice = (size_t)a;
		fault->gap_ns = b * 1000;
	} else if (strcmp(verb, "bandwidth") == 0) {
		fault->bandwidth = a;
	} else if (strcmp(verb, "stall") == 0) {
		fault->stall = true;
	} else if (strcmp(verb, "drop") == 0) {
		fault->drop = true;
	} else {
		return (false);
	}
	return (true);
}

/* Commands with a direction; numbers that are not given are 0. */
static void
command_directed(struct proxy * proxy, struct port * port, char ** words)
{
	int64_t a = words[3] ? strtoll(words[3], NULL, 10) : 0;
	int64_t b = words[4] ? strtoll(words[4], NULL, 10) : 0;
	const char * direction = words[2] ? words[2] : "";
	bool both = strcmp(direction, "both") == 0;
	bool chosen[DIRECTIONS] = {both || strcmp(direction, "up") == 0,
	    both || strcmp(direction, "down") == 0};

	if (!chosen[UP] && !chosen[DOWN]) {
		printf("error no such command or direction\n");
		return;
	}
	if (strcmp(words[0], "finish") == 0) {
		printf("ok %zu\n", port_each(proxy, port, false, chosen));
		return;
	}
	for (int d = 0; d < DIRECTIONS; d++) {
		if (chosen[d] && !fault_set(&port->faults[d], words[0], a, b)) {
			printf("error no such command\n");
			return;
		}
	}
	printf("ok\n");
}

static void
command(struct proxy * proxy, char * line)
{
	char * words[WORDS_MAX] = {NULL};
	char * rest = NULL;
	struct port * port;

	for (size_t i = 0; i < WORDS_MAX; i++)
		words[i] = strtok_r(i == 0 ? line : NULL, " ", &rest);
	if (words[0] == NULL || words[1] == NULL) {
		printf("error no command or no name\n");
		return;
	}
	port = port_find(proxy, words[1]);
	if (strcmp(words[0], "listen") == 0 && words[2] != NULL && port == NULL) {
		command_listen(proxy, words[1], (uint16_t)atoi(words[2]));
	} else if (port == NULL) {
		printf("error no such name, or it is there already\n");
	} else if (strcmp(words[0], "target") == 0 && words[2] != NULL) {
		port->server_port = (uint16_t)atoi(words[2]);
		printf("ok\n");
	} else if (strcmp(words[0], "refuse") == 0) {
		port->refuse = true;
		printf("ok\n");
	} else if (strcmp(words[0], "heal") == 0) {
		port_heal(proxy, port);
		printf("ok\n");
	} else if (strcmp(words[0], "reset") == 0) {
		printf("ok %zu\n", port_each(proxy, port, true, NULL));
	} else if (strcmp(words[0], "stats") == 0) {
		printf("ok %zu %llu %llu %llu\n", port_each(proxy, port, false, NULL),
		    (unsigned long long)port->accepted, (unsigned long long)port->bytes[UP],
		    (unsigned long long)port->bytes[DOWN]);
	} else {
		command_directed(proxy, port, words);
	}
}

static void
commands_read(struct proxy * proxy)
{
	ssize_t size = read(STDIN_FILENO, proxy->line + proxy->line_size,
	    sizeof(proxy->line) - proxy->line_size);
	char * end;

	if (size <= 0) {
		proxy->ended = true;
		return;
	}
	proxy->line_size += (size_t)size;
	while ((end = memchr(proxy->line, '\n', proxy->line_size)) != NULL) {
		size_t used = (size_t)(end - proxy->line) + 1;

		*end = '\0';
		command(proxy, proxy->line);
		fflush(stdout);
		proxy->line_size -= used;
		memmove(proxy->line, proxy->line + used, proxy->line_size);
	}
	/* A line without end. */
	if (proxy->line_size == sizeof(proxy->line))
		proxy->ended = true;
}

/* ---- the loop ---- */

static void
proxy_turn(struct proxy * proxy)
{
	static struct pollfd polled[FIRST_FD + PORTS_MAX + 2 * CONNECTIONS_MAX];
	static struct connection * owners[CONNECTIONS_MAX];
	int64_t now = now_ns(), wake = INT64_MAX;
	struct timespec timeout;
	size_t first, count, connections = 0;

	polled[0] = (struct pollfd){.fd = STDIN_FILENO, .events = POLLIN};
	for (size_t i = 0; i < proxy->port_count; i++)
		polled[FIRST_FD + i] = (struct pollfd){.fd = proxy->ports[i].listener,
		    .events = POLLIN};
	first = count = FIRST_FD + proxy->port_count;
	for (struct connection * c = proxy->connections; c < proxy->connections + CONNECTIONS_MAX;
	     c++) {
		if (c->port == NULL)
			continue;
		connection_interest(c, &polled[count], now, &wake);
		owners[connections++] = c;
		count += 2;
	}
	if (wake != INT64_MAX)
		timeout = (struct timespec){(wake - now) / 1000000000, (wake - now) % 1000000000};
	if (ppoll(polled, (nfds_t)count, wake == INT64_MAX ? NULL : &timeout, NULL) < 0)
		return;
	/* Connections before commands: what a command opens or closes was not polled. */
	for (size_t i = 0; i < connections; i++) {
		short revents[2] = {polled[first + 2 * i].revents,
		    polled[first + 2 * i + 1].revents};

		connection_turn(proxy, owners[i], revents);
	}
	for (size_t i = 0; i < first - FIRST_FD; i++) {
		if (polled[FIRST_FD + i].revents != 0)
			connection_open(proxy, &proxy->ports[i]);
	}
	if (polled[0].revents != 0)
		commands_read(proxy);
}

int
main(int argc, char ** argv)
{
	static struct proxy proxy;

	proxy.random = argc > 1 ? strtoull(argv[1], NULL, 10) : 0;
	while (!proxy.ended)
		proxy_turn(&proxy);
	for (struct connection * c = proxy.connections; c < proxy.connections + CONNECTIONS_MAX;
	     c++) {
		if (c->port != NULL)
			connection_reset(c);
	}
	return (0);
}
