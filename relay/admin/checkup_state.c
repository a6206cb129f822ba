/*
 * What must stay true: nothing is changed and nobody is held up.  Each
 * question has a transaction of its own that can only read and ends within
 * seconds; its settings end with it, since the session may be a pooler's.
 */
#include "admin/checkup_state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "admin/direct.h"
#include "postgres/sql.h"

#define BEGIN_SQL \
	"BEGIN READ ONLY; SET LOCAL statement_timeout = '10s'; SET LOCAL lock_timeout = '5s'; " \
	"SET LOCAL enable_seqscan = off"

PGresult *
checkup_ask(struct checkup * c, const char * check, const char * sql, int count,
    const char * const * parameters, bool binary)
{
	char * text = sql_in_schema(sql, c->options->schema);
	PGresult * result = NULL;
	struct error e, ignored;

	if (text == NULL)
		error_set(&e, EXIT_BUG, "out of memory");
	else if (direct_run(c->conn, BEGIN_SQL, &e) == 0)
		result = binary ? direct_query_binary(c->conn, text, count, parameters, &e) :
				  direct_query(c->conn, text, count, parameters, &e);
	if (text != NULL)
		(void)direct_run(c->conn, "ROLLBACK", &ignored);
	free(text);
	/* Which right is missing, another line says. */
	if (result == NULL && !(c->denied && strcmp(e.sqlstate, "42501") == 0)) {
		finding_fail(c->findings, check, "cannot be seen: %s", e.text);
		finding_remedy(c->findings, "%s",
		    e.remedy[0] != '\0' ? e.remedy : "look at the log of Postgres");
	}
	return (result);
}

void
checkup_psql(struct checkup * c, const char * role, const char * sql)
{
	finding_remedy(c->findings, "%s",
	    remedy_psql(c->options->dsn, role != NULL ? role : c->role, NULL, sql, c->remedy));
}

void
checkup_relay(struct checkup * c, const char * role, const char * command)
{
	char line[900];

	snprintf(line, sizeof(line), "outbox-relay %s%s", command, c->options->arguments);
	if (role == NULL)
		finding_remedy(c->findings, "%s", line);
	else
		finding_remedy(c->findings, "%s",
		    remedy_relay(c->options->dsn, c->options->password_file != NULL, role, line,
			c->remedy));
}
