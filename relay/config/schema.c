#include "config/schema.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "config/value.h"

/*
 * The table of keys, and how a text becomes the value of one.  Defaults are
 * texts too and take the same way, so a default out of its own range cannot
 * exist unnoticed.
 */
#define AT(member) .offset = offsetof(struct config, member)
#define COUNT_AT(member) .count_offset = offsetof(struct config, member)
#define MIB (INT64_C(1) << 20)

static const char * const auth_choices[] = {"plain", "external", NULL};
static const char * const ordering_choices[] = {"strict", "pipelined", NULL};
static const char * const cloudevents_choices[] = {"off", "binary", NULL};
static const char * const on_dead_choices[] = {"continue", "hold", NULL};
static const char * const wake_choices[] = {"listen", "poll", NULL};
static const char * const level_choices[] = {"debug", "info", "warn", "error", NULL};
static const char * const format_choices[] = {"logfmt", "json", NULL};

/* SQL text and lock keys are made from it: no quoting, room for suffixes. */
static const char *
check_schema(const char * text)
{
	size_t len = strlen(text);

	if (len < 1 || len > 40 || isdigit((unsigned char)text[0]) ||
	    strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789_") != len)
		return ("a name of at most 40 small letters, digits and _");
	return (NULL);
}

static const char *
check_listen(const char * text)
{
	static const char wanted[] = "HOST:PORT like 127.0.0.1:9464, or [::1]:9464 for IPv6";
	const char * colon = strrchr(text, ':');
	int64_t port;

	if (colon == NULL || colon - text > 255 || value_integer(colon + 1, &port) != NULL ||
	    !isdigit((unsigned char)colon[1]) || port > 65535)
		return (wanted);
	if (text[0] == '[' ? colon[-1] != ']' : memchr(text, ':', (size_t)(colon - text)) != NULL)
		return (wanted);
	return (NULL);
}

static const char *
check_not_empty(const char * text)
{
	return (*text == '\0' ? "set" : NULL);
}

/* RFC 3986's characters; how they stand together is for their reader. */
static const char *
check_source(const char * text)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "0123456789-._~:/?#[]@!$&'()*+,;=%";
	size_t len = strlen(text);

	if (len < 1 || len > 255 || strspn(text, allowed) != len)
		return ("a URI or a part of one like /shop/orders, of at most 255 bytes,"
			" with other characters percent-encoded");
	return (NULL);
}

/* One setting a paragraph. */
/* clang-format off */
const struct setting schema[] = {
	{.key = "postgres.dsn", .type = SETTING_STRING, AT(postgres.dsn), .fallback = "",
	    .secret = CONFIG_SECRET_DSN},
	{.key = "postgres.password_file", .type = SETTING_FILE, AT(postgres.password_file),
	    .nullable = true},
	{.key = "postgres.schema", .type = SETTING_STRING, AT(postgres.schema),
	    .fallback = "outbox", .check = check_schema},
	{.key = "postgres.wait_for_flush", .type = SETTING_BOOL, AT(postgres.wait_for_flush),
	    .fallback = "false"},

	{.key = "rabbitmq.urls", .type = SETTING_STRINGS, AT(rabbitmq.urls),
	    COUNT_AT(rabbitmq.url_count), .fallback = "amqp://localhost:5672/%2f",
	    .min = 1, .max = SCHEMA_LIST_MAX, .check = check_not_empty,
	    .secret = CONFIG_SECRET_URL},
	{.key = "rabbitmq.password_file", .type = SETTING_FILE, AT(rabbitmq.password_file),
	    .nullable = true},
	{.key = "rabbitmq.auth", .type = SETTING_ENUM, AT(rabbitmq.auth), .fallback = "plain",
	    .choices = auth_choices},
	{.key = "rabbitmq.heartbeat", .type = SETTING_DURATION, AT(rabbitmq.heartbeat),
	    .fallback = "10s", .max = CLOCK_S(65535)},
	{.key = "rabbitmq.tls.ca_file", .type = SETTING_FILE, AT(rabbitmq.tls.ca_file),
	    .nullable = true},
	{.key = "rabbitmq.tls.cert_file", .type = SETTING_FILE, AT(rabbitmq.tls.cert_file),
	    .nullable = true},
	{.key = "rabbitmq.tls.key_file", .type = SETTING_FILE, AT(rabbitmq.tls.key_file),
	    .nullable = true},
	{.key = "rabbitmq.tls.server_name", .type = SETTING_STRING, AT(rabbitmq.tls.server_name),
	    .nullable = true, .check = check_not_empty},

	{.key = "publish.window", .type = SETTING_INTEGER, AT(publish.window),
	    .fallback = "10000", .min = 1, .max = 1000000},
	{.key = "publish.batch", .type = SETTING_INTEGER, AT(publish.batch),
	    .fallback = "500", .min = 1, .max = 100000},
	{.key = "publish.max_bytes_in_flight", .type = SETTING_SIZE,
	    AT(publish.max_bytes_in_flight), .fallback = "64MiB", .min = MIB / 16,
	    .max = 1024 * 1024 * MIB},
	{.key = "publish.confirm_timeout", .type = SETTING_DURATION,
	    AT(publish.confirm_timeout), .fallback = "15s", .min = CLOCK_S(1),
	    .max = CLOCK_S(3600)},
	{.key = "publish.mandatory", .type = SETTING_BOOL, AT(publish.mandatory),
	    .fallback = "true"},
	{.key = "publish.ordering", .type = SETTING_ENUM, AT(publish.ordering),
	    .fallback = "strict", .choices = ordering_choices},
	{.key = "publish.cloudevents", .type = SETTING_ENUM, AT(publish.cloudevents),
	    .fallback = "off", .choices = cloudevents_choices},
	{.key = "publish.cloudevents_source", .type = SETTING_STRING,
	    AT(publish.cloudevents_source), .fallback = "/outbox", .check = check_source},

	{.key = "retry.initial", .type = SETTING_DURATION, AT(retry.initial), .fallback = "1s",
	    .min = CLOCK_MS(1), .max = CLOCK_S(86400)},
	{.key = "retry.multiplier", .type = SETTING_NUMBER, AT(retry.multiplier),
	    .fallback = "2", .min = 1, .max = 100},
	{.key = "retry.max", .type = SETTING_DURATION, AT(retry.max), .fallback = "5m",
	    .min = CLOCK_MS(1), .max = CLOCK_S(86400)},
	{.key = "retry.max_attempts", .type = SETTING_INTEGER, AT(retry.max_attempts),
	    .fallback = "10", .min = 1, .max = 1000000},
	{.key = "retry.on_dead", .type = SETTING_ENUM, AT(retry.on_dead),
	    .fallback = "continue", .choices = on_dead_choices},

	{.key = "wake.mode", .type = SETTING_ENUM, AT(wake.mode), .fallback = "listen",
	    .choices = wake_choices},
	{.key = "wake.poll_interval", .type = SETTING_DURATION, AT(wake.poll_interval),
	    .fallback = "1s", .min = CLOCK_MS(1), .max = CLOCK_S(3600)},

	{.key = "http.listen", .type = SETTING_STRING, AT(http.listen),
	    .fallback = "127.0.0.1:9464", .nullable = true, .check = check_listen},

	{.key = "log.level", .type = SETTING_ENUM, AT(log.level), .fallback = "info",
	    .choices = level_choices},
	{.key = "log.format", .type = SETTING_ENUM, AT(log.format), .fallback = "logfmt",
	    .choices = format_choices},

	{.key = "topology.exchanges", .type = SETTING_MAPS, AT(topology.exchanges),
	    COUNT_AT(topology.exchange_count), .fallback = "[]", .max = 10000},
	{.key = "topology.queues", .type = SETTING_MAPS, AT(topology.queues),
	    COUNT_AT(topology.queue_count), .fallback = "[]", .max = 10000},
	{.key = "topology.bindings", .type = SETTING_MAPS, AT(topology.bindings),
	    COUNT_AT(topology.binding_count), .fallback = "[]", .max = 10000},
};
/* clang-format on */

const size_t schema_size = sizeof(schema) / sizeof(schema[0]);
_Static_assert(sizeof(schema) / sizeof(schema[0]) <= SCHEMA_SIZE_MAX, "SCHEMA_SIZE_MAX");

const struct setting *
schema_find(const char * key)
{
	for (size_t i = 0; i < schema_size; i++) {
		if (strcmp(schema[i].key, key) == 0)
			return (&schema[i]);
	}
	return (NULL);
}

bool
schema_has_section(const char * key)
{
	size_t len = strlen(key);

	for (size_t i = 0; i < schema_size; i++) {
		if (strncmp(schema[i].key, key, len) == 0 && schema[i].key[len] == '.')
			return (true);
	}
	return (false);
}

void
schema_environment_name(const struct setting * setting, char * name, size_t size)
{
	snprintf(name, size, SCHEMA_ENVIRONMENT_PREFIX "%s", setting->key);
	for (char * p = name; *p != '\0'; p++)
		*p = *p == '.' ? '_' : (char)toupper((unsigned char)*p);
}

static void
print_bound(const struct setting * setting, char * text, size_t size, int64_t value)
{
	if (setting->type == SETTING_DURATION)
		value_print_duration(text, size, value);
	else if (setting->type == SETTING_SIZE)
		value_print_size(text, size, value);
	else
		snprintf(text, size, "%" PRId64, value);
}

/* Why an ordered value cannot be: wrong text, or out of its range. */
static int
refuse(const struct setting * setting, const char * wanted, char * why, size_t why_size)
{
	char min[32];
	char max[32];

	if (wanted != NULL) {
		snprintf(why, why_size, "%s", wanted);
		return (-1);
	}
	print_bound(setting, min, sizeof(min), setting->min);
	print_bound(setting, max, sizeof(max), setting->max);
	snprintf(why, why_size, "from %s to %s", min, max);
	return (-1);
}

static int
store_string(const struct setting * setting, const char ** value, struct pool * pool,
    const char * text, char * why, size_t why_size)
{
	const char * wanted;

	if (text == NULL) {
		*value = NULL;
		return (0);
	}
	if (setting->type == SETTING_FILE && (*text == '\0' || strlen(text) > 4000))
		return (refuse(setting, "the name of a file", why, why_size));
	if (setting->check != NULL && (wanted = setting->check(text)) != NULL)
		return (refuse(setting, wanted, why, why_size));
	if ((*value = pool_copy(pool, text, strlen(text))) == NULL)
		return (-2);
	return (0);
}

static int
store_enum(const struct setting * setting, int * value, const char * text, char * why,
    size_t why_size)
{
	const char * wanted = text;
	bool no;
	size_t len;

	/* "off" is one of YAML's booleans, and so are its other names. */
	if (value_bool(text, &no) == NULL && !no)
		wanted = "off";
	for (int i = 0; setting->choices[i] != NULL; i++) {
		if (strcasecmp(setting->choices[i], wanted) == 0) {
			*value = i;
			return (0);
		}
	}
	len = (size_t)snprintf(why, why_size, "one of");
	for (int i = 0; setting->choices[i] != NULL && len < why_size; i++)
		len += (size_t)snprintf(why + len, why_size - len, "%s %s", i > 0 ? "," : "",
		    setting->choices[i]);
	return (-1);
}

static int
store_ordered(const struct setting * setting, void * value, const char * text, char * why,
    size_t why_size)
{
	const char * wanted;
	int64_t number;

	if (setting->type == SETTING_DURATION)
		wanted = value_duration(text, &number);
	else if (setting->type == SETTING_SIZE)
		wanted = value_size(text, &number);
	else
		wanted = value_integer(text, &number);
	if (wanted != NULL || number < setting->min || number > setting->max)
		return (refuse(setting, wanted, why, why_size));
	if (setting->type == SETTING_DURATION)
		*(clock_ns *)value = number;
	else if (setting->type == SETTING_SIZE)
		*(size_t *)value = (size_t)number;
	else
		*(uint32_t *)value = (uint32_t)number;
	return (0);
}

int
schema_store(const struct setting * setting, struct config * config, struct pool * pool,
    const char * text, char * why, size_t why_size)
{
	void * value = (char *)config + setting->offset;
	const char * wanted;

	/* Only texts have room for null in struct config. */
	if (text == NULL &&
	    (!setting->nullable ||
		(setting->type != SETTING_STRING && setting->type != SETTING_FILE)))
		return (refuse(setting, "set", why, why_size));
	switch (setting->type) {
	case SETTING_STRING:
	case SETTING_FILE:
		return (store_string(setting, value, pool, text, why, why_size));
	case SETTING_BOOL:
		if ((wanted = value_bool(text, value)) != NULL)
			return (refuse(setting, wanted, why, why_size));
		return (0);
	case SETTING_ENUM:
		return (store_enum(setting, value, text, why, why_size));
	case SETTING_NUMBER:
		wanted = value_number(text, value);
		if (wanted != NULL || *(double *)value < (double)setting->min ||
		    *(double *)value > (double)setting->max)
			return (refuse(setting, wanted, why, why_size));
		return (0);
	default:
		return (store_ordered(setting, value, text, why, why_size));
	}
}

void
schema_print(const struct setting * setting, const struct config * config, char * text, size_t size)
{
	const void * value = (const char *)config + setting->offset;

	switch (setting->type) {
	case SETTING_BOOL:
		snprintf(text, size, "%s", *(const bool *)value ? "true" : "false");
		break;
	case SETTING_ENUM:
		snprintf(text, size, "%s", setting->choices[*(const int *)value]);
		break;
	case SETTING_NUMBER:
		snprintf(text, size, "%.15g", *(const double *)value);
		break;
	case SETTING_DURATION:
		value_print_duration(text, size, *(const clock_ns *)value);
		break;
	case SETTING_SIZE:
		value_print_size(text, size, (int64_t) * (const size_t *)value);
		break;
	case SETTING_INTEGER:
		snprintf(text, size, "%" PRIu32, *(const uint32_t *)value);
		break;
	default:
		/* Strings and lists are shown by config_item itself. */
		text[0] = '\0';
		break;
	}
}
