#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/finding.h"
#include "base/shell.h"

/* What a shell makes of it again. */
static void
comes_back(const char * text)
{
	char quoted[600], command[700], back[256] = "";
	FILE * shell;
	size_t len;

	shell_quote(quoted, sizeof(quoted), text);
	snprintf(command, sizeof(command), "printf '%%s' %s", quoted);
	shell = popen(command, "r");
	assert_non_null(shell);
	len = fread(back, 1, sizeof(back) - 1, shell);
	back[len] = '\0';
	assert_int_equal(pclose(shell), 0);
	assert_string_equal(back, text);
}

static void
a_shell_reads_what_was_quoted(void ** state)
{
	static const char * const texts[] = {"plain", "/etc/x.yaml", "a b", "it's",
	    "\"both' kinds\"", "$HOME", "`id`", "a\\b", "!!", "x;y", "#no comment", "*", "~",
	    "it's $HOME", "a'b'c\"d", "\xc3\xa9t\xc3\xa9", "--config", ""};

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		comes_back(texts[i]);
}

static void
what_reads_well_is_left_alone(void ** state)
{
	char out[100];

	(void)state;
	assert_string_equal(shell_quote(out, sizeof(out), "/etc/relay.yaml"), "/etc/relay.yaml");
	assert_string_equal(shell_quote(out, sizeof(out), "host=h user=u"), "'host=h user=u'");
	assert_string_equal(shell_quote(out, sizeof(out), "SELECT f('x')"), "\"SELECT f('x')\"");
	assert_string_equal(shell_quote(out, sizeof(out), "f('x', \"y\")"),
	    "'f('\\''x'\\'', \"y\")'");
}

static void
nothing_is_quoted_in_half(void ** state)
{
	char out[12];

	(void)state;
	assert_string_equal(shell_quote(out, sizeof(out), "0123456789a"), "0123456789a");
	assert_string_equal(shell_quote(out, sizeof(out), "0123456789ab"), "...");
	assert_string_equal(shell_quote(out, sizeof(out), "a b c d e f g h"), "...");
	assert_string_equal(shell_quote(out, sizeof(out), "it's a long one"), "...");
	assert_string_equal(shell_quote(out, sizeof(out), "$'$'$'$'"), "...");
	assert_string_equal(shell_quote(out, 4, "$"), "...");
}

static void
findings_are_kept_in_order_and_counted(void ** state)
{
	struct findings findings = {0};

	(void)state;
	finding_remedy(&findings, "for nobody");
	finding_ok(&findings, "one", "%s is well", "this");
	finding_warn(&findings, "two", "a\nline");
	finding_remedy(&findings, "type\tthis");
	finding_fail(&findings, "three", "bad");
	assert_int_equal(findings.counts[FINDING_OK], 1);
	assert_int_equal(findings.counts[FINDING_WARN], 1);
	assert_int_equal(findings.counts[FINDING_FAIL], 1);
	assert_string_equal(findings.first->text, "this is well");
	assert_string_equal(findings.first->remedy, "");
	assert_string_equal(findings.first->next->text, "a line");
	assert_string_equal(findings.first->next->remedy, "type this");
	assert_string_equal(findings.last->check, "three");
	for (int i = 0; i < 2 * FINDINGS_MAX; i++)
		finding_fail(&findings, "many", "more");
	finding_remedy(&findings, "of one that is not kept");
	assert_string_equal(findings.last->remedy, "");
	assert_int_equal(findings.counts[FINDING_FAIL], 2 * FINDINGS_MAX + 1);
	findings_free(&findings);
	assert_null(findings.first);
}

static void
a_character_that_was_cut_leaves_valid_text(void ** state)
{
	struct findings findings = {0};
	char long_text[FINDING_TEXT_MAX + 10];

	(void)state;
	memset(long_text, 'x', sizeof(long_text));
	memcpy(long_text + FINDING_TEXT_MAX - 2, "\xc3\xa9", 3);
	finding_ok(&findings, "one", "%s", long_text);
	assert_int_equal(strlen(findings.first->text), FINDING_TEXT_MAX - 1);
	assert_int_equal(findings.first->text[FINDING_TEXT_MAX - 2], '?');
	finding_ok(&findings, "two", "%s", "a\xc3\xa9 \xff\xed\xa0\x80");
	assert_string_equal(findings.last->text, "a\xc3\xa9 ????");
	findings_free(&findings);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_shell_reads_what_was_quoted),
	    cmocka_unit_test(what_reads_well_is_left_alone),
	    cmocka_unit_test(nothing_is_quoted_in_half),
	    cmocka_unit_test(findings_are_kept_in_order_and_counted),
	    cmocka_unit_test(a_character_that_was_cut_leaves_valid_text),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
