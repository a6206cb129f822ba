/*
 * Every tool gets the same SQL.  What differs is the name of the file and the
 * marks around; each runs a file in one transaction by default.
 */
#include "cli/migrate_print.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "admin/migrate.h"

/* A file holds one direction or both; sprintf forms of the version and the name. */
static const struct form {
	const char * name;
	const char * up_name;
	const char * down_name; /* NULL: in the same file */
	const char * up_begin;
	const char * up_end;
	const char * down_begin;
	const char * down_end;
} forms[] = {
    [MIGRATE_PLAIN] = {"plain", "%04u_%s.up.sql", "%04u_%s.down.sql", "", "", "", ""},
    [MIGRATE_FLYWAY] = {"flyway", "V%u__%s.sql", "U%u__%s.sql", "", "", "", ""},
    [MIGRATE_DBMATE] = {"dbmate", "%04u_%s.sql", NULL, "-- migrate:up\n", "", "\n-- migrate:down\n",
	""},
    [MIGRATE_GOOSE] = {"goose", "%04u_%s.sql", NULL, "-- +goose Up\n-- +goose StatementBegin\n",
	"-- +goose StatementEnd\n", "\n-- +goose Down\n-- +goose StatementBegin\n",
	"-- +goose StatementEnd\n"},
};

bool
migrate_format_from(const char * name, enum migrate_format * format)
{
	*format = MIGRATE_PLAIN;
	if (name == NULL)
		return (true);
	for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
		if (strcmp(name, forms[i].name) == 0) {
			*format = (enum migrate_format)i;
			return (true);
		}
	}
	return (false);
}

static int
write_direction(FILE * out, const struct form * form, const struct migration_file * file, bool up,
    const char * schema)
{
	char * sql = migrate_text(file, up, schema);

	if (sql == NULL)
		return (-1);
	fprintf(out, "%s%s%s", up ? form->up_begin : form->down_begin, sql,
	    up ? form->up_end : form->down_end);
	free(sql);
	return (ferror(out) ? -1 : 0);
}

static int
write_file(const char * directory, const struct form * form, const struct migration_file * file,
    bool up, const char * schema, struct error * e)
{
	char name[NAME_MAX + 1], path[PATH_MAX];
	const char * pattern = up ? form->up_name : form->down_name;
	FILE * out;
	int fd, failed;

	if (pattern == NULL)
		return (0);
	snprintf(name, sizeof(name), pattern, file->version, file->name);
	if (snprintf(path, sizeof(path), "%s/%s", directory, name) >= (int)sizeof(path))
		return (error_set(e, EXIT_USAGE, "%s: the path is too long", directory));
	if ((fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666)) == -1) {
		if (errno == EEXIST) {
			fprintf(stderr, "outbox-relay: %s exists and is left alone\n", path);
			return (0);
		}
		error_set(e, errno == EACCES ? EXIT_PERMISSION : EXIT_USAGE, "%s: %s", path,
		    strerror(errno));
		return (error_remedy(e,
		    "--output names a directory that exists and can be written"));
	}
	if ((out = fdopen(fd, "w")) == NULL) {
		close(fd);
		return (error_set(e, EXIT_BUG, "out of memory"));
	}
	failed = write_direction(out, form, file, up, schema);
	if (failed == 0 && up && form->down_name == NULL)
		failed = write_direction(out, form, file, false, schema);
	if (fclose(out) != 0 || failed) {
		unlink(path);
		return (error_set(e, EXIT_BUG, "%s: cannot be written", path));
	}
	puts(name);
	return (0);
}

int
migrate_print(const char * line, const char * schema, unsigned int to, enum migrate_format format,
    const char * directory, struct error * e)
{
	const struct form * form = &forms[format];
	const struct migration_file * file = NULL;

	while ((file = migrate_next(line, file)) != NULL && file->version <= to) {
		if (directory == NULL) {
			if (write_direction(stdout, form, file, true, schema))
				return (error_set(e, EXIT_BUG, "stdout cannot be written"));
		} else if (write_file(directory, form, file, true, schema, e) ||
		    write_file(directory, form, file, false, schema, e))
			return (-1);
	}
	return (0);
}
