/*
 * Is there an outbox, is it one that we know, and may this role use it?
 *
 * A role without a right must still be told which one, so all of this is
 * asked of the system's catalogs; names are resolved only once the schema may
 * be used.  The rights are those that grant_relay gives.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "admin/checkup_state.h"
#include "admin/migrate.h"

#define SCHEMA_MAJOR 1
#define NEEDED 2 /* migrations without which no relay works */
#define PRIVILEGES_NAMED 5

static const char schema_sql[] =
    "SELECT n.oid IS NOT NULL, pg_get_userbyid(n.nspowner), has_schema_privilege(n.oid, 'USAGE'),"
    " EXISTS (SELECT FROM pg_proc AS p WHERE p.pronamespace = n.oid"
    " AND p.proname = 'applied_migrations'),"
    " format('SELECT %I.grant_relay(%L)', $1::text, current_user)"
    " FROM (SELECT) AS one LEFT JOIN pg_namespace AS n ON n.nspname = $1::text";

static const char version_sql[] =
    "SELECT outbox.schema_version(), array_to_string(outbox.applied_migrations(), ' ')";

/* ---- rights ---- */

static const char privileges_sql[] =
    "WITH wanted (object, privileges) AS (VALUES"
    " ('message', 'SELECT'), ('message_0', 'SELECT TRUNCATE'), ('message_1', 'SELECT TRUNCATE'),"
    " ('message_2', 'SELECT TRUNCATE'), ('sent', 'SELECT INSERT DELETE'),"
    " ('delayed', 'SELECT INSERT UPDATE DELETE'), ('dead', 'SELECT INSERT UPDATE DELETE'),"
    " ('operation', 'SELECT INSERT'), ('migration', 'SELECT'), ('message_status', 'SELECT'),"
    " ('applied_migrations', 'EXECUTE'), ('schema_version', 'EXECUTE'), ('retention', 'EXECUTE'),"
    " ('slot_period', 'EXECUTE'), ('current_slot', 'EXECUTE'), ('payload_limit', 'EXECUTE'),"
    " ('uuid_v7', 'EXECUTE'), ('headers_valid', 'EXECUTE'), ('backlog', 'EXECUTE'),"
    " ('release_keys', 'EXECUTE'), ('operator', 'EXECUTE'), ('retry_dead', 'EXECUTE'),"
    " ('discard_dead', 'EXECUTE'), ('pause', 'SELECT INSERT DELETE EXECUTE'),"
    " ('discard', 'SELECT INSERT UPDATE'), ('discard_pending', 'EXECUTE'), ('end_discard', 'EXECUTE'),"
    " ('resume', 'EXECUTE')),"
    " here AS (SELECT c.relname::text AS name, c.oid AS relation, NULL::oid AS function"
    " FROM pg_class AS c WHERE c.relnamespace = $1::regnamespace AND c.relkind IN ('r', 'p', 'v')"
    " UNION ALL SELECT p.proname::text, NULL, p.oid FROM pg_proc AS p"
    " WHERE p.pronamespace = $1::regnamespace)"
    " SELECT w.object, string_agg(p.name, ' and ')"
    " FROM wanted AS w CROSS JOIN LATERAL unnest(string_to_array(w.privileges, ' ')) AS p (name)"
    " JOIN here AS h ON h.name = w.object AND (h.function IS NOT NULL) = (p.name = 'EXECUTE')"
    " WHERE NOT CASE WHEN h.function IS NOT NULL AND p.name = 'EXECUTE'"
    " THEN has_function_privilege(h.function, p.name)"
    " WHEN h.relation IS NOT NULL AND p.name <> 'EXECUTE'"
    " THEN has_table_privilege(h.relation, p.name) ELSE true END"
    " GROUP BY w.object ORDER BY w.object";

/* The policies of the application's own tables in this schema are no business of ours. */
static const char policies_sql[] =
    "SELECT c.relname, format('ALTER TABLE %I.%I DISABLE ROW LEVEL SECURITY', $1::text, c.relname)"
    " FROM pg_class AS c WHERE c.relnamespace = $1::regnamespace AND c.relname IN ('message',"
    " 'message_0', 'message_1', 'message_2', 'sent', 'delayed', 'dead', 'pause', 'discard')"
    " AND row_security_active(c.oid) ORDER BY c.relname";

/* A relay does not start where rows may be hidden from it. */
static void
check_policies(struct checkup * c)
{
	const char * parameters[] = {c->options->schema};
	PGresult * r = checkup_ask(c, "privileges", policies_sql, 1, parameters, false);

	for (int i = 0; r != NULL && i < PQntuples(r); i++) {
		c->denied = true;
		finding_fail(c->findings, "privileges",
		    "row-level security hides rows of %s.%s from %s", c->options->schema,
		    PQgetvalue(r, i, 0), c->role);
		checkup_psql(c, c->owner, PQgetvalue(r, i, 1));
	}
	PQclear(r);
}

/* grant_relay gives all at once, so this is one trouble however many rights are missing. */
static void
lacks_privileges(struct checkup * c, const PGresult * r, const char * grant)
{
	char names[600] = "", more[40] = "";
	int count = PQntuples(r), named = count <= PRIVILEGES_NAMED ? count : PRIVILEGES_NAMED;
	size_t len = 0;

	for (int i = 0; i < named && len < sizeof(names); i++)
		len += (size_t)snprintf(names + len, sizeof(names) - len, "%s%s on %s.%s",
		    i > 0 ? ", " : "", PQgetvalue(r, i, 1), c->options->schema,
		    PQgetvalue(r, i, 0));
	if (count > named)
		snprintf(more, sizeof(more), " and rights on %d more", count - named);
	c->denied = true;
	finding_fail(c->findings, "privileges", "%s lacks %s%s", c->role, names, more);
	checkup_psql(c, c->owner, grant);
}

static void
check_privileges(struct checkup * c, const char * grant)
{
	const char * parameters[] = {c->options->schema};
	PGresult * r = checkup_ask(c, "privileges", privileges_sql, 1, parameters, false);

	if (r == NULL)
		return;
	if (PQntuples(r) == 0)
		finding_ok(c->findings, "privileges", "%s may do what a relay does", c->role);
	else
		lacks_privileges(c, r, grant);
	PQclear(r);
}

/* ---- version ---- */

static bool
is_applied(const char * versions, unsigned int version)
{
	char * end;

	for (const char * p = versions; *p != '\0'; p = *end == '\0' ? end : end + 1) {
		if (strtoul(p, &end, 10) == version)
			return (true);
		if (end == p)
			break;
	}
	return (false);
}

/* The migrations of ours that are missing, and whether there are some of somebody newer. */
static void
check_migrations(struct checkup * c, const char * version, const char * versions)
{
	const struct migration_file * file = NULL;
	const char * last = strrchr(versions, ' ');
	unsigned int newest = 0, missing = 0;
	char names[300] = "";
	bool needed = false;
	size_t len = 0;

	while ((file = migrate_next("outbox", file)) != NULL) {
		newest = file->version;
		/* The trigger may be left out, and has a line of its own. */
		if (strcmp(file->name, "wake") == 0 || is_applied(versions, file->version))
			continue;
		missing++;
		needed = needed || file->version <= NEEDED;
		if (len < sizeof(names))
			len += (size_t)snprintf(names + len, sizeof(names) - len, "%s%04u_%s",
			    len > 0 ? ", " : "", file->version, file->name);
	}
	if (missing > 0) {
		(needed ? finding_fail : finding_warn)(c->findings, "schema",
		    "schema %s lacks migration %s%s", c->options->schema, names,
		    needed ? "" : ": what came with it does not work");
		checkup_relay(c, c->owner, "migrate up");
	} else if (strtoul(last == NULL ? versions : last + 1, NULL, 10) > newest) {
		finding_ok(c->findings, "schema",
		    "schema %s has version %s, newer than this program, which works with it",
		    c->options->schema, version);
	} else
		finding_ok(c->findings, "schema", "schema %s has version %s", c->options->schema,
		    version);
}

static int
check_version(struct checkup * c)
{
	PGresult * r = checkup_ask(c, "schema", version_sql, 0, NULL, false);
	long major;

	if (r == NULL)
		return (-1);
	major = strtol(PQgetvalue(r, 0, 0), NULL, 10);
	if (major == SCHEMA_MAJOR)
		check_migrations(c, PQgetvalue(r, 0, 0), PQgetvalue(r, 0, 1));
	else {
		finding_fail(c->findings, "schema",
		    "schema %s has version %s, too %s for this program", c->options->schema,
		    PQgetvalue(r, 0, 0), major < SCHEMA_MAJOR ? "old" : "new");
		if (major < SCHEMA_MAJOR)
			checkup_relay(c, c->owner, "migrate up");
		else
			finding_remedy(c->findings, "upgrade outbox-relay");
	}
	PQclear(r);
	return (major == SCHEMA_MAJOR ? 0 : -1);
}

int
checkup_schema(struct checkup * c)
{
	const char * parameters[] = {c->options->schema};
	PGresult * r = checkup_ask(c, "schema", schema_sql, 1, parameters, false);
	char grant[600];
	int bad = -1;

	if (r == NULL)
		return (-1);
	if (PQgetvalue(r, 0, 0)[0] != 't' || PQgetvalue(r, 0, 3)[0] != 't') {
		if (PQgetvalue(r, 0, 0)[0] == 't')
			snprintf(c->owner, sizeof(c->owner), "%s", PQgetvalue(r, 0, 1));
		finding_fail(c->findings, "schema", "database %s has no outbox in schema %s",
		    c->database, c->options->schema);
		checkup_relay(c, c->owner, "migrate up");
		goto done;
	}
	snprintf(c->owner, sizeof(c->owner), "%s", PQgetvalue(r, 0, 1));
	snprintf(grant, sizeof(grant), "%s", PQgetvalue(r, 0, 4));
	if (PQgetvalue(r, 0, 2)[0] != 't') {
		finding_fail(c->findings, "privileges", "%s lacks USAGE on schema %s", c->role,
		    c->options->schema);
		checkup_psql(c, c->owner, grant);
		goto done;
	}
	check_privileges(c, grant);
	check_policies(c);
	bad = check_version(c);
done:
	PQclear(r);
	return (bad);
}
