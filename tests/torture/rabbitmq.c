#include "torture.h"

#include <stdarg.h>
#include <string.h>

#if __has_include(<rabbitmq-c/amqp.h>)
#include <rabbitmq-c/amqp.h>
#include <rabbitmq-c/tcp_socket.h>
#else
#include <amqp.h>
#include <amqp_tcp_socket.h>
#endif

/*
 * rabbitmq-c with its own blocking calls, as libinbox uses it: every one that
 * can fail.  What was to be sent may have reached the broker or not, by turns.
 */
WRAPPED(amqp_parse_url);
WRAPPED(amqp_tcp_socket_new);
WRAPPED(amqp_socket_open_noblock);
WRAPPED(amqp_login_with_properties);
WRAPPED(amqp_get_rpc_reply);
WRAPPED(amqp_consume_message);
WRAPPED(amqp_simple_wait_frame_noblock);
WRAPPED(amqp_basic_ack);
WRAPPED(amqp_basic_reject);
WRAPPED(amqp_connection_close);

static const int losses[] = {AMQP_STATUS_CONNECTION_CLOSED, AMQP_STATUS_SOCKET_ERROR,
    AMQP_STATUS_NO_MEMORY, AMQP_STATUS_HEARTBEAT_TIMEOUT};

static int
loss(void)
{
	return (losses[torture_way(sizeof(losses) / sizeof(losses[0]))]);
}

static amqp_rpc_reply_t
exception(void)
{
	return ((amqp_rpc_reply_t){.reply_type = AMQP_RESPONSE_LIBRARY_EXCEPTION,
	    .library_error = loss()});
}

int
__wrap_amqp_parse_url(char * url, struct amqp_connection_info * parsed)
{
	TORTURED(amqp_parse_url) return (AMQP_STATUS_BAD_URL);
	return (__real_amqp_parse_url(url, parsed));
}

amqp_socket_t *
__wrap_amqp_tcp_socket_new(amqp_connection_state_t state)
{
	TORTURED(amqp_tcp_socket_new) return (NULL);
	return (__real_amqp_tcp_socket_new(state));
}

int
__wrap_amqp_socket_open_noblock(amqp_socket_t * socket, const char * host, int port,
    const struct timeval * timeout)
{
	TORTURED(amqp_socket_open_noblock) return (AMQP_STATUS_SOCKET_ERROR);
	return (__real_amqp_socket_open_noblock(socket, host, port, timeout));
}

/* Its last arguments depend on the way to log in: a user and a password here. */
amqp_rpc_reply_t
__wrap_amqp_login_with_properties(amqp_connection_state_t state, const char * vhost,
    int channel_max, int frame_max, int heartbeat, const amqp_table_t * properties,
    amqp_sasl_method_enum method, ...)
{
	const char *user, *password;
	va_list arguments;

	TORTURED(amqp_login_with_properties) return (exception());
	va_start(arguments, method);
	user = va_arg(arguments, const char *);
	password = va_arg(arguments, const char *);
	va_end(arguments);
	return (__real_amqp_login_with_properties(state, vhost, channel_max, frame_max, heartbeat,
	    properties, method, user, password));
}

amqp_rpc_reply_t
__wrap_amqp_get_rpc_reply(amqp_connection_state_t state)
{
	TORTURED(amqp_get_rpc_reply) return (exception());
	return (__real_amqp_get_rpc_reply(state));
}

/* Before anything has come, or the message is lost on its way to us. */
amqp_rpc_reply_t
__wrap_amqp_consume_message(amqp_connection_state_t state, amqp_envelope_t * envelope,
    const struct timeval * timeout, int flags)
{
	TORTURED(amqp_consume_message)
	{
		if (torture_way(2) == 1 &&
		    __real_amqp_consume_message(state, envelope, timeout, flags).reply_type ==
			AMQP_RESPONSE_NORMAL)
			amqp_destroy_envelope(envelope);
		memset(envelope, 0, sizeof(*envelope));
		return (exception());
	}
	return (__real_amqp_consume_message(state, envelope, timeout, flags));
}

int
__wrap_amqp_simple_wait_frame_noblock(amqp_connection_state_t state, amqp_frame_t * frame,
    const struct timeval * timeout)
{
	TORTURED(amqp_simple_wait_frame_noblock) return (loss());
	return (__real_amqp_simple_wait_frame_noblock(state, frame, timeout));
}

int
__wrap_amqp_basic_ack(amqp_connection_state_t state, amqp_channel_t channel, uint64_t tag,
    amqp_boolean_t multiple)
{
	TORTURED(amqp_basic_ack)
	{
		if (torture_way(2) == 1)
			__real_amqp_basic_ack(state, channel, tag, multiple);
		return (loss());
	}
	return (__real_amqp_basic_ack(state, channel, tag, multiple));
}

int
__wrap_amqp_basic_reject(amqp_connection_state_t state, amqp_channel_t channel, uint64_t tag,
    amqp_boolean_t requeue)
{
	TORTURED(amqp_basic_reject)
	{
		if (torture_way(2) == 1)
			__real_amqp_basic_reject(state, channel, tag, requeue);
		return (loss());
	}
	return (__real_amqp_basic_reject(state, channel, tag, requeue));
}

amqp_rpc_reply_t
__wrap_amqp_connection_close(amqp_connection_state_t state, int code)
{
	TORTURED(amqp_connection_close) return (exception());
	return (__real_amqp_connection_close(state, code));
}
