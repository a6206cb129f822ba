/*
 * A position that belongs to its database is left alone, and a person who asks
 * for a rebase all the same is told so by the exit code; scripts say
 * --if-needed.  To discard is another wish: a copy of the disk cannot be told
 * from its original, so that is done even where all looks well.
 */
#include "cli/migrate_rebase.h"

#include <inttypes.h>
#include <stdio.h>

#include "cli/cli.h"

/* A table of this size is rewritten within a second or two. */
#define LARGE 100000

static void
print_outcome(const struct migrate_rebase * request, const struct rebase_counts * counts)
{
	const char * would = request->options.look_only ? "would be " : "";

	if (request->discard)
		printf("%sdiscarded: %" PRId64 " pending and %" PRId64
		       " delayed messages, now in %s.dead\n",
		    would, counts->pending, counts->delayed, request->options.schema);
	else
		printf("%skept: %" PRId64 " pending and %" PRId64
		       " delayed messages, to be published\n",
		    would, counts->pending, counts->delayed);
	printf("%sleft as sent: %" PRId64 " messages\n", would, counts->sent);
	printf("%sleft as dead: %" PRId64 " messages\n", would, counts->dead);
	if (counts->renumbered > 0)
		printf("%sgiven new ids: %" PRId64
		       " pending messages, since their sequence had been set back\n",
		    would, counts->renumbered);
}

static int
not_needed(const struct migrate_rebase * request, struct rebase * rebase)
{
	struct error e;

	if (request->if_needed) {
		printf("database %s, schema %s: the position belongs to it, nothing to rebase\n",
		    rebase_database(rebase), request->options.schema);
		return (EXIT_WELL);
	}
	error_set(&e, EXIT_FOUND,
	    "the position recorded in database %s, schema %s, belongs to it: nothing to rebase",
	    rebase_database(rebase), request->options.schema);
	error_remedy(&e,
	    "for scripts: --if-needed; for a copy of the disk that must stay silent: "
	    "--discard-pending");
	return (cli_fail(&e));
}

static int
perform(const struct migrate_rebase * request, struct rebase * rebase, const char * why,
    struct error * e)
{
	struct rebase_counts counts;

	if (request->options.look_only) {
		if (rebase_count(rebase, &counts, e))
			return (-1);
	} else {
		if (rebase_begin(rebase, &counts, e))
			return (-1);
		if (counts.kept >= LARGE)
			fprintf(stderr,
			    "outbox-relay: going through %" PRId64
			    " messages in one transaction; writers wait until it is done\n",
			    counts.kept);
		if (rebase_finish(rebase, request->discard, why, &counts, e))
			return (-1);
	}
	print_outcome(request, &counts);
	return (0);
}

int
migrate_rebase(const struct migrate_rebase * request)
{
	struct rebase * rebase;
	struct error why, e;
	int needed, code;

	if ((rebase = rebase_open(&request->options, &e)) == NULL)
		return (cli_fail(&e));
	if ((needed = rebase_look(rebase, &why, &e)) == -1)
		code = cli_fail(&e);
	else if (!needed && (!request->discard || request->if_needed))
		code = not_needed(request, rebase);
	else {
		if (needed)
			printf("%s\n", why.text);
		code = perform(request, rebase, needed ? why.text : "asked for", &e) ?
		    cli_fail(&e) :
		    EXIT_WELL;
	}
	rebase_close(rebase);
	return (code);
}
