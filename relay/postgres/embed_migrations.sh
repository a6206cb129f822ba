#!/bin/bash
# Write the C file behind migrations_embedded.h to stdout from the SQL files
# given: migrations/LINE/NNNN_NAME.up.sql, each with its .down.sql.
set -euo pipefail
export LC_ALL=C

literal()
{
	# Question marks as well: -std=c17 knows trigraphs.
	sed 's/[\\"?]/\\&/g; s/\r/\\r/g; s/\t/\\t/g; s/^/\t    "/; s/$/\\n"/' "$1"
}

echo '/* Written by embed_migrations.sh; do not edit. */'
echo '#include "postgres/migrations_embedded.h"'
echo
echo 'const struct migration_file migration_files[] = {'
for up in "$@"; do
	[[ $up == *.down.sql && -f ${up%.down.sql}.up.sql ]] && continue
	if [[ ! $up =~ ^(.*/)?([a-z]+)/([0-9]{4})_([a-z0-9_]+)\.up\.sql$ ]]; then
		echo "$up: not of the form LINE/NNNN_NAME.{up,down}.sql, or without its up file" >&2
		exit 1
	fi
	printf '\t{.line = "%s", .version = %d, .name = "%s",\n' "${BASH_REMATCH[2]}" \
	    "$((10#${BASH_REMATCH[3]}))" "${BASH_REMATCH[4]}"
	down=${up%.up.sql}.down.sql
	[[ -f $down ]] || { echo "$down is missing" >&2; exit 1; }
	printf '\t    .up =\n%s,\n' "$(literal "$up")"
	printf '\t    .down =\n%s},\n' "$(literal "$down")"
done
echo '};'
echo
echo 'const size_t migration_file_count = sizeof(migration_files) / sizeof(migration_files[0]);'
