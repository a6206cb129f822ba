#include <string.h>

#include "amqp/credentials.h"
#include "amqp/link_state.h"

/*
 * From a url to a session: socket, TLS, and who we are.
 *
 * What must stay true: password and certificates are read for each attempt, so
 * that they can be replaced under a running relay (V).
 */
#define KEEPALIVE_S 60 /* while no heartbeat is asked for */

int
link_check_tls(const struct link * l, struct error * e)
{
	struct tls_context * context;
	struct url url;
	bool tls = false;
	size_t i;

	for (i = 0; i < l->options.url_count; i++) {
		if (url_parse(&url, l->options.urls[i], e))
			return (-1);
		tls = tls || url.tls;
	}
	if (!tls)
		return (0);
	if ((context = tls_context_new(&l->options.tls, e)) == NULL)
		return (-1);
	tls_context_free(context);
	return (0);
}

int
link_connect(struct link * l, clock_ns now, struct error * e)
{
	const char * server_name = l->options.tls.server_name;

	/* For an error of the url itself; it was valid in link_new. */
	strcpy(l->peer, "rabbitmq.urls");
	if (url_parse(&l->url, l->options.urls[l->attempts.url], e))
		return (-1);
	url_describe(&l->url, l->peer);
	l->timeout = l->options.connect_timeout;
	if (l->url.connection_timeout_ms >= 0)
		l->timeout = CLOCK_MS(l->url.connection_timeout_ms);
	l->connect_deadline = now + l->timeout;
	/* Anew each time: certificates are renewed under a running relay. */
	if (l->url.tls && (l->tls = tls_context_new(&l->options.tls, e)) == NULL)
		return (-1);
	l->transport = transport_open(
	    &(struct transport_options){.host = l->url.host,
		.port = l->url.port,
		.context = l->tls,
		.name = server_name != NULL ? server_name : l->url.host,
		.keepalive_s = l->options.heartbeat_s > 0 ? (int)l->options.heartbeat_s :
							    KEEPALIVE_S,
		.deadline = l->connect_deadline},
	    now, e);
	return (l->transport == NULL ? -1 : 0);
}

static int
begin_session(struct link * l, clock_ns now, struct error * e)
{
	struct session_options options = {.user = l->url.user,
	    .password = l->url.password,
	    .vhost = l->url.vhost,
	    .connection_name = l->options.connection_name,
	    .external = l->options.external_auth,
	    .channel_count = l->channels_wished,
	    .heartbeat_s = l->options.heartbeat_s};

	if (l->url.heartbeat_s >= 0)
		options.heartbeat_s = (uint32_t)l->url.heartbeat_s;
	if (options.connection_name == NULL)
		options.connection_name = "outbox-relay";
	if ((!options.external && credentials_find(&l->url, l->options.password_file, e)) ||
	    session_begin(&l->session, &options, &link_session_events, l, &l->out, &l->codec, e))
		return (-1);
	l->state = STATE_TALKING;
	l->last_read = l->last_write = now;
	return (0);
}

int
link_connecting(struct link * l, clock_ns now, struct error * e)
{
	switch (transport_progress(l->transport, now, e)) {
	case TRANSPORT_CONNECTING:
		return (0);
	case TRANSPORT_READY:
		return (begin_session(l, now, e));
	default:
		return (-1);
	}
}
