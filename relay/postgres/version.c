/*
 * Within a major version a migration only adds.  So a newer schema is as good
 * as our own, and of an older one we leave alone what is not there: that is
 * asked by the number of the migration that brought it, since one of them may
 * be left out while later ones are applied.
 */
#include "postgres/version.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "postgres/migrations_embedded.h"

#define SCHEMA_MAJOR 1

/* Bits in struct version; a unit test keeps the files below it. */
#define MIGRATIONS_MAX 64

/* Users of two-phase commit leave it out for good, and the relay tells of it by itself. */
static bool
version_is_optional(const struct migration_file * file)
{
	return (strcmp(file->name, "wake") == 0);
}

static void
version_read(struct version * version, const char * line, const char * applied)
{
	unsigned long number = 0, newest = 0;
	size_t used = 0;
	char * end;

	for (const char * at = applied; *at != '\0'; at = end) {
		number = strtoul(at, &end, 10);
		if (end == at)
			break;
		if (number < MIGRATIONS_MAX)
			version->migrations |= UINT64_C(1) << number;
	}
	for (size_t i = 0; i < migration_file_count; i++) {
		const struct migration_file * file = &migration_files[i];

		if (strcmp(file->line, line) != 0)
			continue;
		newest = file->version;
		if (!version_has(version, file->version) && !version_is_optional(file) &&
		    used < sizeof(version->behind))
			used += (size_t)snprintf(version->behind + used,
			    sizeof(version->behind) - used, "%s%04u_%s", used == 0 ? "" : " ",
			    file->version, file->name);
	}
	if (number > newest)
		snprintf(version->ahead, sizeof(version->ahead), "%04lu", number);
}

int
version_check(struct version * version, const struct version_facts * facts, struct error * e)
{
	long major = strtol(facts->version, NULL, 10);

	*version = (struct version){.migrations = 0};
	if (major != SCHEMA_MAJOR) {
		error_set(e, EXIT_CONFIGURATION,
		    "schema %s in database %s has version %s, too %s for this outbox-relay, which knows %d",
		    facts->schema, facts->database, facts->version,
		    major < SCHEMA_MAJOR ? "old" : "new", SCHEMA_MAJOR);
		if (major > SCHEMA_MAJOR)
			return (error_remedy(e, "upgrade outbox-relay"));
		return (error_remedy(e, "apply the migrations: outbox-relay migrate up%s",
		    strcmp(facts->line, "inbox") == 0 ? " --line inbox" : ""));
	}
	version_read(version, facts->line, facts->applied);
	return (0);
}

bool
version_has(const struct version * version, unsigned int migration)
{
	return (migration < MIGRATIONS_MAX && (version->migrations >> migration & 1) != 0);
}

int
version_require(const struct version * version, const char * line, const char * schema,
    unsigned int migration, struct error * e)
{
	const char * name = "";

	if (version_has(version, migration))
		return (0);
	for (size_t i = 0; i < migration_file_count; i++)
		if (strcmp(migration_files[i].line, line) == 0 &&
		    migration_files[i].version == migration)
			name = migration_files[i].name;
	error_set(e, EXIT_CONFIGURATION, "schema %s lacks migration %04u_%s, which this needs",
	    schema, migration, name);
	return (error_remedy(e, "apply it: outbox-relay migrate up%s",
	    strcmp(line, "inbox") == 0 ? " --line inbox" : ""));
}
