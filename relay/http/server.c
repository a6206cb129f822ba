/*
 * What must stay true: the two threads share the copies under ${lock}, which
 * either holds for one memcpy and the loop only tries to take, and the
 * atomics; nothing else.
 *
 * libmicrohttpd runs inside our own thread (external polling), so that one
 * place decides who may stay: each connection serves one request, and is cut
 * when that takes too long or when newer ones need the room.  Its own time-out
 * would be renewed by each byte of a client that sends one a second.
 */
#include "http/server.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <microhttpd.h>

#include "base/log.h"
#include "http/address.h"
#include "http/answer.h"

#define THREAD_STACK ((size_t)192 << 10)
#define PORT_RETRY CLOCK_S(10)
#define STOP_TIMEOUT_S 1

#define CONNECTIONS_MAX 32
#define CONNECTIONS_USUAL 16                /* above it the oldest ones go */
#define CONNECTION_MEMORY ((size_t)8 << 10) /* for the request, and the head of the answer */
#define CONNECTION_LIFE CLOCK_S(10)
#define BACKLOG 128

#define NEWEST_WANTED CLOCK_S(15)

struct visitor {
	struct MHD_Connection * connection; /* NULL: nobody */
	clock_ns since;
	bool cut;
};

struct http_server {
	char * listen;
	pthread_t thread;
	int stop; /* eventfd */
	atomic_bool stopping;
	_Atomic clock_ns turned;
	_Atomic clock_ns newest_asked;

	pthread_mutex_t lock;
	struct stats stats;
	struct backlog_newest newest;

	/* The thread's own. */
	struct MHD_Daemon * daemon; /* NULL: the port is not ours yet */
	int64_t warned;
	struct visitor visitors[CONNECTIONS_MAX];
	struct answer_facts facts;
	struct buffer out;
};

/* ---- one request ---- */

static void
look(struct http_server * server)
{
	pthread_mutex_lock(&server->lock);
	server->facts.stats = server->stats;
	server->facts.newest = server->newest;
	pthread_mutex_unlock(&server->lock);
	server->facts.still = clock_now() - atomic_load(&server->turned);
}

static struct MHD_Response *
make_response(const struct answer * answer)
{
	struct MHD_Response * response;

	response = MHD_create_response_from_buffer(answer->body.len,
	    (void *)(uintptr_t)answer->body.data, MHD_RESPMEM_MUST_COPY);
	if (response == NULL)
		return (NULL);
	MHD_add_response_header(response, "Content-Type", answer->content_type);
	MHD_add_response_header(response, "Content-Security-Policy", answer->policy);
	MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
	MHD_add_response_header(response, "Referrer-Policy", "no-referrer");
	MHD_add_response_header(response, "Cache-Control", "no-store");
	MHD_add_response_header(response, "Connection", "close");
	if (answer->allow)
		MHD_add_response_header(response, "Allow", "GET, HEAD");
	return (response);
}

/* Called when the head of a request is there; a body is never read. */
static enum MHD_Result
on_request(void * context, struct MHD_Connection * connection, const char * url,
    const char * method, const char * version, const char * data, size_t * data_size,
    void ** request)
{
	struct http_server * server = context;
	struct MHD_Response * response;
	struct answer answer;
	enum MHD_Result result;

	(void)version;
	(void)data;
	(void)data_size;
	(void)request;
	look(server);
	if (answer_wants_newest(url))
		atomic_store(&server->newest_asked, clock_now());
	answer_make(&answer, method, url, &server->facts, &server->out);
	if ((response = make_response(&answer)) == NULL)
		return (MHD_NO);
	result = MHD_queue_response(connection, answer.status, response);
	MHD_destroy_response(response);
	return (result);
}

/* ---- who may stay ---- */

static void
on_connection(void * context, struct MHD_Connection * connection, void ** slot,
    enum MHD_ConnectionNotificationCode code)
{
	struct http_server * server = context;
	struct visitor * visitor = *slot;

	if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
		if (visitor != NULL)
			visitor->connection = NULL;
		return;
	}
	for (size_t i = 0; i < CONNECTIONS_MAX; i++) {
		visitor = &server->visitors[i];
		if (visitor->connection != NULL)
			continue;
		*visitor = (struct visitor){.connection = connection, .since = clock_now()};
		*slot = visitor;
		return;
	}
}

static void
cut(struct visitor * visitor)
{
	const union MHD_ConnectionInfo * info = MHD_get_connection_info(visitor->connection,
	    MHD_CONNECTION_INFO_CONNECTION_FD);

	/* libmicrohttpd sees the end of it and cleans up. */
	visitor->cut = true;
	if (info != NULL)
		shutdown(info->connect_fd, SHUT_RDWR);
}

/* Returns how many are there. */
static size_t
cut_those_who_stay_too_long(struct http_server * server, clock_ns now)
{
	struct visitor * oldest;
	size_t count = 0, staying = 0;

	for (size_t i = 0; i < CONNECTIONS_MAX; i++) {
		struct visitor * visitor = &server->visitors[i];

		if (visitor->connection == NULL)
			continue;
		count++;
		if (!visitor->cut && now - visitor->since >= CONNECTION_LIFE)
			cut(visitor);
		staying += !visitor->cut;
	}
	for (; staying > CONNECTIONS_USUAL; staying--) {
		oldest = NULL;
		for (size_t i = 0; i < CONNECTIONS_MAX; i++) {
			struct visitor * visitor = &server->visitors[i];

			if (visitor->connection != NULL && !visitor->cut &&
			    (oldest == NULL || visitor->since < oldest->since))
				oldest = visitor;
		}
		if (oldest == NULL)
			break;
		cut(oldest);
	}
	return (count);
}

/* ---- the port ---- */

static int
listen_at(const struct addrinfo * address)
{
	int on = 1;
	int fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int error_number;

	if (fd < 0)
		return (-1);
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 &&
	    bind(fd, address->ai_addr, address->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0)
		return (fd);
	error_number = errno;
	close(fd);
	errno = error_number;
	return (-1);
}

/* The first address that can be had, those of IPv4 first: "localhost" means
 * 127.0.0.1 to most who ask. */
static int
open_port(const char * where, struct error * e)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
	    .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
	struct addrinfo * addresses;
	struct http_address address;
	int fd = -1, rc;

	if (http_address_split(where, &address))
		return (error_set(e, EXIT_CONFIGURATION, "http.listen is not HOST:PORT"));
	rc = getaddrinfo(address.host[0] == '\0' ? NULL : address.host, address.port, &hints,
	    &addresses);
	if (rc != 0)
		return (error_set(e, EXIT_UNREACHABLE, "cannot resolve host \"%s\": %s",
		    address.host, rc == EAI_SYSTEM ? strerror(errno) : gai_strerror(rc)));
	errno = EAFNOSUPPORT;
	for (int ipv4 = 1; ipv4 >= 0 && fd < 0; ipv4--)
		for (const struct addrinfo * a = addresses; a != NULL && fd < 0; a = a->ai_next)
			if ((a->ai_family == AF_INET) == ipv4)
				fd = listen_at(a);
	if (fd < 0)
		error_set(e, EXIT_UNREACHABLE, "cannot listen at %s: %s", where, strerror(errno));
	freeaddrinfo(addresses);
	return (fd);
}

static int
start(struct http_server * server, struct error * e)
{
	int fd = open_port(server->listen, e);

	if (fd < 0)
		return (-1);
	server->daemon = MHD_start_daemon(MHD_USE_EPOLL, 0, NULL, NULL, on_request, server,
	    MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT,
	    (unsigned int)CONNECTIONS_MAX, MHD_OPTION_CONNECTION_MEMORY_LIMIT, CONNECTION_MEMORY,
	    MHD_OPTION_CONNECTION_TIMEOUT, (unsigned int)(CONNECTION_LIFE / CLOCK_S(1)),
	    MHD_OPTION_NOTIFY_CONNECTION, on_connection, server, MHD_OPTION_SIGPIPE_HANDLED_BY_APP,
	    1, MHD_OPTION_END);
	if (server->daemon != NULL)
		return (0);
	close(fd);
	return (error_set(e, EXIT_BUG, "libmicrohttpd does not start"));
}

static void
try_to_start(struct http_server * server)
{
	struct error e;

	if (start(server, &e) == 0) {
		log_info("http_listening", LOG_STR("address", server->listen));
		return;
	}
	if (!log_due(&server->warned, clock_now()))
		return;
	log_warn("http_listen_failed", LOG_STR("reason", e.text),
	    LOG_STR("remedy",
		"set http.listen to a free port, or to null; tried again every 10 s"));
}

/* ---- the thread ---- */

/* For so long nothing need be done unless a socket says so. */
static clock_ns
patience(struct http_server * server)
{
	MHD_UNSIGNED_LONG_LONG timeout_ms;
	clock_ns wait = PORT_RETRY;

	if (server->daemon == NULL)
		return (wait);
	if (cut_those_who_stay_too_long(server, clock_now()) > 0)
		wait = CLOCK_S(1);
	if (MHD_get_timeout(server->daemon, &timeout_ms) == MHD_YES &&
	    timeout_ms < (MHD_UNSIGNED_LONG_LONG)(wait / CLOCK_MS(1)))
		wait = CLOCK_MS((clock_ns)timeout_ms);
	return (wait);
}

static void
turn(struct http_server * server)
{
	struct pollfd fds[2] = {{.fd = server->stop, .events = POLLIN}, {.fd = -1}};
	const union MHD_DaemonInfo * info;

	if (server->daemon == NULL)
		try_to_start(server);
	if (server->daemon != NULL) {
		info = MHD_get_daemon_info(server->daemon, MHD_DAEMON_INFO_EPOLL_FD);
		fds[1] = (struct pollfd){.fd = info->epoll_fd, .events = POLLIN};
	}
	poll(fds, 2, (int)(patience(server) / CLOCK_MS(1)));
	if (server->daemon != NULL)
		MHD_run(server->daemon);
}

static void *
run(void * context)
{
	struct http_server * server = context;

	pthread_setname_np(pthread_self(), "http");
	while (!atomic_load(&server->stopping))
		turn(server);
	if (server->daemon != NULL)
		MHD_stop_daemon(server->daemon);
	return (NULL);
}

/* ---- the loop's side ---- */

static void
release(struct http_server * server)
{
	if (server->stop >= 0)
		close(server->stop);
	pthread_mutex_destroy(&server->lock);
	buffer_free(&server->out);
	free(server->listen);
	free(server);
}

/* Signals are the loop's alone; the stack is what this thread needs. */
static int
start_thread(struct http_server * server)
{
	pthread_attr_t attributes;
	sigset_t all, before;
	int rc;

	if ((rc = pthread_attr_init(&attributes)) != 0)
		return (rc);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	if ((rc = pthread_attr_setstacksize(&attributes, THREAD_STACK)) == 0)
		rc = pthread_create(&server->thread, &attributes, run, server);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attributes);
	return (rc);
}

struct http_server *
http_server_new(const char * listen, struct error * e)
{
	struct http_server * server = calloc(1, sizeof(*server));
	int rc;

	if (server == NULL) {
		error_set(e, EXIT_BUG, "out of memory");
		return (NULL);
	}
	pthread_mutex_init(&server->lock, NULL);
	server->out.max = ANSWER_MAX;
	atomic_init(&server->turned, clock_now());
	server->stats.reason_count = 1;
	strcpy(server->stats.reasons[0], "starting");
	server->listen = strdup(listen);
	if ((server->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0 || server->listen == NULL) {
		error_set(e, EXIT_BUG, "cannot serve HTTP: %s", strerror(errno));
		release(server);
		return (NULL);
	}
	if ((rc = start_thread(server)) != 0) {
		error_set(e, EXIT_BUG, "cannot start the thread for HTTP: %s", strerror(rc));
		release(server);
		return (NULL);
	}
	return (server);
}

void
http_server_free(struct http_server * server)
{
	uint64_t one = 1;
	struct timespec until;

	if (server == NULL)
		return;
	atomic_store(&server->stopping, true);
	/* Cannot fail: nobody else writes to it. */
	(void)!write(server->stop, &one, sizeof(one));
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += STOP_TIMEOUT_S;
	/* It may be stuck in the resolver; it ends with the process then, which
	 * still needs what it uses. */
	if (pthread_timedjoin_np(server->thread, NULL, &until) == 0)
		release(server);
}

void
http_server_turned(struct http_server * server, clock_ns now)
{
	atomic_store_explicit(&server->turned, now, memory_order_relaxed);
}

bool
http_server_post(struct http_server * server, const struct stats * stats,
    const struct backlog_newest * newest)
{
	if (pthread_mutex_trylock(&server->lock) != 0)
		return (false);
	server->stats = *stats;
	if (newest != NULL)
		server->newest = *newest;
	pthread_mutex_unlock(&server->lock);
	return (true);
}

bool
http_server_wants_newest(const struct http_server * server, clock_ns now)
{
	clock_ns asked = atomic_load_explicit(&server->newest_asked, memory_order_relaxed);

	return (asked != 0 && now - asked < NEWEST_WANTED);
}
