/*
 * The functions of the schema do it, and record who did; here is only who sits
 * before the terminal.
 */
#include "admin/pause.h"

#include <stdlib.h>
#include <string.h>

/* It brought the table and its functions. */
#define MIGRATION_PAUSE 4

/* program_limit_exceeded: pause() raises it. */
#define TOO_MANY "54000"

struct pause_command {
	struct oneshot * oneshot;
};

static const char operator_sql[] =
    "SELECT set_config('outbox_relay.operator', "
    "jsonb_build_object('user', $1::text, 'host', $2::text)::text, false)";

static const char begin_sql[] = "SELECT outbox.pause($1::text, $2::text)::int";

static const char end_sql[] = "SELECT outbox.resume($1::text)::int";

static const char list_sql[] =
    "SELECT CASE WHEN NOT p.everything THEN p.exchange END, date_trunc('second', p.paused_at), "
    "p.paused_by, p.reason FROM outbox.pause AS p ORDER BY p.everything DESC, p.exchange";

static int
pause_check(struct pause_command * command, struct error * e)
{
	const char * who[] = {oneshot_user(command->oneshot), oneshot_host(command->oneshot)};

	if (oneshot_requires(command->oneshot, MIGRATION_PAUSE, e))
		return (-1);
	return (oneshot_ask(command->oneshot, operator_sql, 2, who, e));
}

struct pause_command *
pause_open(const struct oneshot_options * options, struct error * e)
{
	struct oneshot_options connection = *options;
	struct pause_command * command;

	if ((command = calloc(1, sizeof(*command))) == NULL) {
		error_set(e, EXIT_BUG, "out of memory");
		return (NULL);
	}
	connection.word = "outbox";
	connection.purpose = "pause";
	connection.settings = "SET statement_timeout = '1min'";
	if ((command->oneshot = oneshot_open(&connection, e)) == NULL || pause_check(command, e)) {
		pause_close(command);
		return (NULL);
	}
	return (command);
}

void
pause_close(struct pause_command * command)
{
	if (command == NULL)
		return;
	oneshot_close(command->oneshot);
	free(command);
}

static int
pause_change(struct pause_command * command, const char * sql, int count, const char * exchange,
    const char * reason, struct error * e)
{
	const char * parameters[] = {exchange, reason};

	if (oneshot_ask(command->oneshot, sql, count, parameters, e)) {
		if (strcmp(e->sqlstate, TOO_MANY) == 0)
			e->code = EXIT_FOUND;
		return (-1);
	}
	return ((int)oneshot_number(command->oneshot, 0, 0));
}

int
pause_begin(struct pause_command * command, const char * exchange, const char * reason,
    struct error * e)
{
	return (pause_change(command, begin_sql, 2, exchange, reason, e));
}

int
pause_end(struct pause_command * command, const char * exchange, struct error * e)
{
	return (pause_change(command, end_sql, 1, exchange, NULL, e));
}

const struct oneshot *
pause_list(struct pause_command * command, struct error * e)
{
	return (oneshot_ask(command->oneshot, list_sql, 0, NULL, e) ? NULL : command->oneshot);
}
