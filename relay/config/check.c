#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/shell.h"
#include "config/loading.h"

/*
 * What no single value shows: settings that contradict each other, files that
 * cannot be read.
 */

static bool
is_set(const struct loading * l, const char * key)
{
	return (loading_origin(l->config, schema_find(key))->kind != ORIGIN_DEFAULT);
}

static void
complain(struct loading * l, const char * key, const char * text, const char * remedy)
{
	config_complain(l->config, l->report, key, SCHEMA_LIST_MAX, text, remedy);
}

static void
check_publish(struct loading * l)
{
	struct config * c = l->config;

	if (c->publish.batch <= c->publish.window)
		return;

	/* Whoever lowers the window alone means both. */
	if (!is_set(l, "publish.batch"))
		c->publish.batch = c->publish.window;
	else
		complain(l, "publish.batch", "must not be above publish.window",
		    "lower it, or raise the window");
}

static void
check_retry(struct loading * l)
{
	const struct config * c = l->config;

	if (c->retry.initial > c->retry.max)
		complain(l, is_set(l, "retry.initial") ? "retry.initial" : "retry.max",
		    "retry.initial must not be above retry.max", NULL);
}

static void
check_rabbitmq(struct loading * l)
{
	const struct config * c = l->config;
	bool cert = c->rabbitmq.tls.cert_file != NULL;
	bool key = c->rabbitmq.tls.key_file != NULL;

	if (c->rabbitmq.heartbeat % CLOCK_S(1) != 0)
		complain(l, "rabbitmq.heartbeat", "must be whole seconds", NULL);
	if (cert && !key)
		complain(l, "rabbitmq.tls.cert_file", "needs rabbitmq.tls.key_file too", NULL);
	if (key && !cert)
		complain(l, "rabbitmq.tls.key_file", "needs rabbitmq.tls.cert_file too", NULL);
	if (c->rabbitmq.auth == CONFIG_AUTH_EXTERNAL && !cert)
		complain(l, "rabbitmq.auth", "external needs a client certificate",
		    "set rabbitmq.tls.cert_file and rabbitmq.tls.key_file");
}

static void
check_file(struct loading * l, const struct setting * setting, const char * path)
{
	bool secret = strstr(setting->key, "password") != NULL ||
	    strstr(setting->key, "key_file") != NULL;
	struct place place = loading_origin(l->config, setting)->place;
	struct stat status = {0};
	const char * problem = NULL;
	char remedy[400], quoted[300];

	errno = 0;
	if (access(path, R_OK) != 0 || stat(path, &status) != 0)
		problem = strerror(errno);
	else if (S_ISDIR(status.st_mode))
		problem = strerror(EISDIR);
	shell_quote(quoted, sizeof(quoted), path);
	if (problem != NULL) {
		if (errno == ENOENT && strstr(setting->key, "password") != NULL)
			snprintf(remedy, sizeof(remedy),
			    "(umask 077; cat >%s)  # type the password, Enter, Ctrl-D", quoted);
		else
			snprintf(remedy, sizeof(remedy),
			    "create it or let the user of the relay read it; a relative name is "
			    "looked up in $CREDENTIALS_DIRECTORY, then beside the configuration");
		report_error(l->report, place, remedy, "%s: cannot read %.300s: %s", setting->key,
		    path, problem);
	}
	if (problem == NULL && secret && (status.st_mode & S_IROTH) != 0) {
		snprintf(remedy, sizeof(remedy), "chmod o-rwx %s", quoted);
		report_warning(l->report, place, remedy, "%s: everybody may read %.300s",
		    setting->key, path);
	}
}

static void
check_files(struct loading * l)
{
	for (const struct setting * s = schema; s < schema + schema_size; s++) {
		const char * path;

		if (s->type != SETTING_FILE)
			continue;
		path = *(const char **)(void *)((char *)l->config + s->offset);
		if (path != NULL)
			check_file(l, s, path);
	}
}

void
loading_check(struct loading * l)
{
	if (l->report->out_of_memory)
		return;
	check_publish(l);
	check_retry(l);
	check_rabbitmq(l);
	check_files(l);
}
