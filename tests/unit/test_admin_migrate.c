#include "admin/migrate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "admin/status.h"

static const struct migration_file sample = {
    .line = "outbox",
    .version = 1,
    .name = "sample",
    .up = "outbox.a 'outbox' outbox_relay myoutbox outboxes (outbox) x-outbox",
    .down = "",
};

static void
only_the_bare_word_becomes_the_schema(void ** state)
{
	char * text = migrate_text(&sample, true, "out2");

	(void)state;
	assert_string_equal(text, "out2.a 'out2' outbox_relay myoutbox outboxes (out2) x-out2");
	free(text);
	text = migrate_text(&sample, false, "out2");
	assert_string_equal(text, "");
	free(text);
}

static void
the_embedded_migrations_come_in_order_each_with_its_way_back(void ** state)
{
	const struct migration_file * file = NULL;
	unsigned int version = 0;

	(void)state;
	while ((file = migrate_next("outbox", file)) != NULL) {
		char * same = migrate_text(file, true, "outbox");

		assert_int_equal(file->version, ++version);
		assert_string_equal(same, file->up);
		assert_true(strlen(file->down) > 0);
		free(same);
	}
	assert_true(version >= 3);
	assert_null(migrate_next("nothing", NULL));
}

static void
schema_names_are_small_plain_words(void ** state)
{
	(void)state;
	assert_true(migrate_schema_valid("outbox"));
	assert_true(migrate_schema_valid("_o2"));
	assert_true(migrate_schema_valid("a234567890123456789012345678901234567890"));
	assert_false(migrate_schema_valid("a2345678901234567890123456789012345678901"));
	assert_false(migrate_schema_valid(""));
	assert_false(migrate_schema_valid("2o"));
	assert_false(migrate_schema_valid("Outbox"));
	assert_false(migrate_schema_valid("out-box"));
	assert_false(migrate_schema_valid("a;b"));
	assert_false(migrate_schema_valid("pg_outbox"));
}

static void
messages_are_named_by_number_or_uuid(void ** state)
{
	struct status_message message;

	(void)state;
	assert_true(status_message_from("42", &message));
	assert_false(message.by_uuid);
	assert_int_equal(message.id, 42);
	assert_true(status_message_from("01A1fc46-d3e0-768b-833b-68c3303d25d2", &message));
	assert_true(message.by_uuid);
	assert_string_equal(message.uuid, "01A1fc46-d3e0-768b-833b-68c3303d25d2");
	assert_false(status_message_from("", &message));
	assert_false(status_message_from("-1", &message));
	assert_false(status_message_from("4x", &message));
	assert_false(status_message_from("99999999999999999999", &message));
	assert_false(status_message_from("01a1fc46-d3e0-768b-833b-68c3303d25dg", &message));
	assert_false(status_message_from("01a1fc46d3e0-768b-833b-68c3303d25d2-", &message));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(only_the_bare_word_becomes_the_schema),
	    cmocka_unit_test(the_embedded_migrations_come_in_order_each_with_its_way_back),
	    cmocka_unit_test(schema_names_are_small_plain_words),
	    cmocka_unit_test(messages_are_named_by_number_or_uuid),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
