#ifndef CLI_MIGRATE_REBASE_H
#define CLI_MIGRATE_REBASE_H

#include <stdbool.h>

#include "admin/rebase.h"

/* How "migrate rebase" was asked for. */
struct migrate_rebase {
	struct rebase_options options;
	bool discard;   /* --discard-pending */
	bool if_needed; /* --if-needed */
};

/**
 * migrate_rebase(request):
 * Do it, or say why not.  Returns an enum exit_code.
 */
int migrate_rebase(const struct migrate_rebase * request);

#endif /* CLI_MIGRATE_REBASE_H */
