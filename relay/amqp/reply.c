#include "amqp/reply.h"

#include <string.h>

#include "amqp/rabbitmq.h"

/*
 * The texts, from RabbitMQ's sources and by trial (3.10; 3.12 and 4.x put
 * "write " before "access"):
 *
 *   NOT_FOUND - no exchange 'NAME' in vhost 'VHOST'
 *   ACCESS_REFUSED - access to exchange 'NAME' in vhost 'VHOST' refused for user 'USER'
 *   ACCESS_REFUSED - cannot publish to internal exchange 'NAME' in vhost 'VHOST'
 *   ACCESS_REFUSED - access to topic 'KEY' in exchange 'NAME' in vhost 'VHOST' refused ...
 *   NOT_ALLOWED - access to vhost 'VHOST' refused for user 'USER'
 *
 * Nothing is escaped in them.  What must stay true: an exchange is named only
 * when nothing else can be meant, since all of its messages will wait for it.
 * So what surrounds the name must be there completely (RabbitMQ cuts a text at
 * 255 bytes), and a quote within a name ends nothing.  A topic that is refused
 * says nothing about the other topics of its exchange.
 */
#define TEXT_SHOWN 400
#define NAME_SHOWN 255
#define IN_ITS_LOG "look into the broker's log for what it could not take"

static int
shown(struct bytes text, int max)
{
	return (text.len < (size_t)max ? (int)text.len : max);
}

static bool
contains(struct bytes text, const char * part)
{
	return (memmem(text.data, text.len, part, strlen(part)) != NULL);
}

static bool
take_prefix(struct bytes * text, const char * prefix)
{
	size_t len = strlen(prefix);

	if (text->len < len || memcmp(text->data, prefix, len) != 0)
		return (false);
	text->data += len;
	text->len -= len;
	return (true);
}

static bool
take_suffix(struct bytes * text, const char * suffix)
{
	size_t len = strlen(suffix);

	if (text->len < len || memcmp(text->data + text->len - len, suffix, len) != 0)
		return (false);
	text->len -= len;
	return (true);
}

/* Cut ${text} before the last ${part}; what was behind it goes to ${rest}. */
static bool
split_last(struct bytes * text, const char * part, struct bytes * rest)
{
	size_t len = strlen(part), at;

	for (at = text->len - (text->len < len ? text->len : len) + 1; at-- > 0;) {
		if (text->len - at < len || memcmp(text->data + at, part, len) != 0)
			continue;
		*rest = (struct bytes){text->data + at + len, text->len - at - len};
		text->len = at;
		return (true);
	}
	return (false);
}

/* The last in the text, so that an exchange's name cannot pretend to be one. */
static struct bytes
refused_user(const struct reply * reply)
{
	struct bytes text = reply->text, user;

	if (!split_last(&text, " refused for user '", &user) || !take_suffix(&user, "'"))
		return (bytes_from(reply->user));
	return (user);
}

struct bytes
reply_exchange(const struct reply * reply)
{
	struct bytes name = reply->text, user;

	switch (reply->code) {
	case AMQP_NOT_FOUND:
		if (!take_prefix(&name, "NOT_FOUND - no exchange '"))
			return (BYTES_NONE);
		break;
	case AMQP_ACCESS_REFUSED:
		if (!take_prefix(&name, "ACCESS_REFUSED - "))
			return (BYTES_NONE);
		if (take_prefix(&name, "cannot publish to internal exchange '"))
			break;
		(void)take_prefix(&name, "write ");
		if (!take_prefix(&name, "access to exchange '") ||
		    !split_last(&name, " refused for user '", &user) || !take_suffix(&user, "'"))
			return (BYTES_NONE);
		break;
	default:
		return (BYTES_NONE);
	}
	if (!take_suffix(&name, "'") || !take_suffix(&name, reply->vhost) ||
	    !take_suffix(&name, "' in vhost '"))
		return (BYTES_NONE);
	return (name);
}

/*
 * Frame, syntax and sequence errors (501 to 506) and 540 say that the broker
 * could not read what it was given; 541 that a process of the broker's died of
 * it.  Not 530: after login nothing that is published leads to it.  Not 320:
 * an operator, a shutdown, a vhost that was deleted.
 */
bool
reply_blames_message(uint16_t code)
{
	return ((code >= AMQP_FRAME_ERROR && code <= AMQP_RESOURCE_ERROR) ||
	    code == AMQP_NOT_IMPLEMENTED || code == AMQP_INTERNAL_ERROR);
}

static void
explain_refusal(const struct reply * reply, struct error * e)
{
	struct bytes user = refused_user(reply);

	e->code = EXIT_PERMISSION;
	if (reply->phase == REPLY_LOGIN)
		error_remedy(e,
		    reply->external ?
			"does a user exist that bears the name in the client certificate?" :
			"correct the user or password (rabbitmq.urls, rabbitmq.password_file)");
	else if (contains(reply->text, " internal exchange '"))
		error_remedy(e,
		    "only other exchanges may publish to an internal one: correct the exchange "
		    "where the message is written");
	else if (contains(reply->text, " access to topic '") && reply->phase == REPLY_LATER)
		error_remedy(e,
		    "grant it: rabbitmqctl set_topic_permissions -p \"%s\" \"%.*s\" EXCHANGE "
		    "'TOPICS' '.*'",
		    reply->vhost, shown(user, NAME_SHOWN), user.data);
	else
		error_remedy(e,
		    "grant it: rabbitmqctl set_permissions -p \"%s\" \"%.*s\" '' 'EXCHANGES' ''",
		    reply->vhost, shown(user, NAME_SHOWN), user.data);
}

static void
explain_vhost(const struct reply * reply, struct error * e)
{
	struct bytes user = refused_user(reply);

	if (contains(reply->text, "not found")) {
		e->code = EXIT_CONFIGURATION;
		error_remedy(e, "create it (rabbitmqctl add_vhost \"%s\") or correct rabbitmq.urls",
		    reply->vhost);
	} else if (contains(reply->text, " limit (")) {
		/* Of connections: somebody else's may end at any time. */
		error_remedy(e,
		    "close connections that nobody needs, or raise the limit (rabbitmqctl "
		    "set_vhost_limits, set_user_limits)");
	} else {
		e->code = EXIT_PERMISSION;
		error_remedy(e,
		    "grant it: rabbitmqctl set_permissions -p \"%s\" \"%.*s\" '' 'EXCHANGES' ''",
		    reply->vhost, shown(user, NAME_SHOWN), user.data);
	}
}

void
reply_explain(const struct reply * reply, struct error * e)
{
	error_set(e, EXIT_UNREACHABLE, "%u %.*s", (unsigned int)reply->code,
	    shown(reply->text, TEXT_SHOWN), reply->text.data);
	e->amqp_code = reply->code;
	switch (reply->code) {
	case AMQP_ACCESS_REFUSED:
		explain_refusal(reply, e);
		break;
	case AMQP_NOT_ALLOWED:
		if (reply->phase == REPLY_VHOST)
			explain_vhost(reply, e);
		break;
	case AMQP_INTERNAL_ERROR:
		if (reply->phase == REPLY_VHOST && contains(reply->text, "is down")) {
			error_remedy(e, "start it: rabbitmqctl restart_vhost -p \"%s\"",
			    reply->vhost);
			break;
		}
		error_remedy(e, IN_ITS_LOG);
		break;
	case AMQP_NOT_FOUND:
		e->code = EXIT_CONFIGURATION;
		error_remedy(e, "declare the exchange, or correct it where the message is written");
		break;
	case AMQP_PRECONDITION_FAILED:
		e->code = EXIT_CONFIGURATION;
		if (contains(reply->text, "larger than"))
			error_remedy(e,
			    "raise max_message_size in the broker's configuration, or write smaller "
			    "messages");
		break;
	case AMQP_CONNECTION_FORCED:
		error_remedy(e, "an operator or a shutdown closed it; it is tried again");
		break;
	default:
		if (reply_blames_message(reply->code))
			error_remedy(e, IN_ITS_LOG);
		break;
	}
}

/* The exchange as a person would call it. */
#define ROUTE_FORMAT "routing key '%.*s' at %s%.*s%s"
#define ROUTE_ARGUMENTS(m) \
	shown((m)->routing_key, NAME_SHOWN), (m)->routing_key.data, \
	    (m)->exchange.len == 0 ? "the default exchange" : "exchange '", \
	    shown((m)->exchange, NAME_SHOWN), (m)->exchange.data, \
	    (m)->exchange.len == 0 ? "" : "'"

void
reply_returned(const struct message * m, uint16_t code, struct error * e)
{
	if (code != AMQP_NO_ROUTE) {
		error_set(e, EXIT_FOUND,
		    "the broker returned the message for " ROUTE_FORMAT " (%u)", ROUTE_ARGUMENTS(m),
		    (unsigned int)code);
	} else if (m->exchange.len == 0) {
		/* The default exchange routes to the queue of that name. */
		error_set(e, EXIT_FOUND,
		    "there is no queue '%.*s' (default exchange, 312 NO_ROUTE)",
		    shown(m->routing_key, NAME_SHOWN), m->routing_key.data);
		error_remedy(e, "declare the queue, or correct exchange and routing key");
	} else {
		error_set(e, EXIT_FOUND, "no queue is bound for " ROUTE_FORMAT " (312 NO_ROUTE)",
		    ROUTE_ARGUMENTS(m));
		error_remedy(e, "bind a queue to the exchange, or correct the routing key");
	}
	e->amqp_code = code;
}

void
reply_nacked(const struct message * m, struct error * e)
{
	error_set(e, EXIT_FOUND, "a queue refused the message for " ROUTE_FORMAT " (basic.nack)",
	    ROUTE_ARGUMENTS(m));
	error_remedy(e,
	    "look at the queues that it is routed to: is one full (x-max-length with overflow "
	    "reject-publish), or without its leader?");
}
