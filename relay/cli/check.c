#include "cli/check.h"

#include <stdio.h>
#include <string.h>

#include "amqp/url.h"
#include "postgres/dsn.h"

/*
 * main has loaded and judged the configuration before any command runs, so
 * all that is left to say is that it is well, or what it holds.  Whatever
 * could be a password is shown as ***.
 */
static const struct cli_option options[] = {
    {"print", NULL, "show each key, its value and where it comes from"},
    {NULL, NULL, NULL},
};

void
check_servers(const struct config * config, struct config_report * report)
{
	struct error e;
	struct url url;
	int unreadable = dsn_check(config->postgres.dsn, &e);

	if (unreadable && e.code == EXIT_BUG)
		report->out_of_memory = true;
	else if (unreadable)
		config_complain(config, report, "postgres.dsn", 0, e.text, e.remedy);
	for (size_t i = 0; i < config->rabbitmq.url_count; i++) {
		if (url_parse(&url, config->rabbitmq.urls[i], &e))
			config_complain(config, report, "rabbitmq.urls", i, e.text, e.remedy);
	}
	explicit_bzero(&url, sizeof(url));
}

/* A URL without its password. */
static void
describe_url(const char * text, char * description, size_t size)
{
	char shown[URL_DESCRIPTION_MAX];
	const char * at;
	struct url url;

	if (url_parse(&url, text, NULL)) {
		snprintf(description, size, "***");
	} else if (!url.has_password) {
		snprintf(description, size, "%s", text);
	} else {
		url_describe(&url, shown);
		at = strchr(shown, '@');
		if (at == NULL)
			snprintf(description, size, "***");
		else
			snprintf(description, size, "%.*s:***%s", (int)(at - shown), shown, at);
	}
	explicit_bzero(&url, sizeof(url));
}

/* As YAML would have it: texts in quotes, the rest bare. */
static void
print_value(const struct config_item * item, const char * value)
{
	static char description[URL_DESCRIPTION_MAX > DSN_DESCRIPTION_MAX ? URL_DESCRIPTION_MAX :
									    DSN_DESCRIPTION_MAX];

	if (item->secret == CONFIG_SECRET_DSN) {
		dsn_describe(value, description);
		value = description;
	} else if (item->secret == CONFIG_SECRET_URL) {
		describe_url(value, description, sizeof(description));
		value = description;
	} else if (value == item->text) {
		fputs(value, stdout);
		return;
	}
	putchar('"');
	for (; *value != '\0'; value++) {
		if (*value == '"' || *value == '\\')
			putchar('\\');
		if ((unsigned char)*value < 0x20 || *value == 0x7f)
			printf("\\x%02x", (unsigned char)*value);
		else
			putchar(*value);
	}
	putchar('"');
}

static void
print_item(const struct config_item * item)
{
	printf("%s: ", item->key);
	if (item->list)
		putchar('[');
	else if (item->count == 0)
		fputs("null", stdout);
	for (size_t i = 0; i < item->count; i++) {
		if (i > 0)
			fputs(", ", stdout);
		print_value(item, item->values[i]);
	}
	printf("%s  # %s\n", item->list ? "]" : "", item->place);
}

static int
run(const struct cli_arguments * arguments, const struct config * config)
{
	struct config_item item;

	if (!cli_flag(arguments, "print")) {
		puts("ok: the configuration is valid");
		return (EXIT_WELL);
	}
	for (size_t i = 0; config_item(config, i, &item); i++)
		print_item(&item);
	return (EXIT_WELL);
}

const struct cli_command cli_check = {
    .name = "check",
    .summary = "read and validate the configuration, connect nowhere",
    .description =
	"Every mistake is reported with file, line and column; the exit code is 78 then.",
    .example = "outbox-relay check --print --config outbox-relay.yaml",
    .options = options,
    .run = run,
};
