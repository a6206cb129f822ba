#ifndef BASE_ERROR_H
#define BASE_ERROR_H

/*
 * What went wrong, said once where it happened and logged once where it is
 * decided upon.  A struct error lives on the caller's stack; functions that
 * take a "struct error *" fill it exactly when they report failure.
 */

/* Process exit codes; part of the public contract. */
enum exit_code {
	EXIT_WELL = 0,          /* done */
	EXIT_FOUND = 1,         /* the check found something */
	EXIT_USAGE = 64,        /* the command line is wrong */
	EXIT_UNREACHABLE = 69,  /* a server cannot be reached */
	EXIT_BUG = 70,          /* a bug of ours, or out of memory */
	EXIT_PERMISSION = 77,   /* a server refuses this user */
	EXIT_CONFIGURATION = 78 /* the configuration, or what it points at, is wrong */
};

#define ERROR_TEXT_MAX 1024
#define ERROR_REMEDY_MAX 512

struct error {
	enum exit_code code;           /* what a one-shot command exits with */
	char sqlstate[6];              /* "" when not from Postgres */
	int amqp_code;                 /* 0 when not from a broker */
	char text[ERROR_TEXT_MAX];     /* one line: what, where and why */
	char remedy[ERROR_REMEDY_MAX]; /* one line: what to do; "" if unknown */
};

/**
 * error_clear(e):
 * Make ${e} say that nothing is wrong.
 */
void error_clear(struct error * e);

/**
 * error_set(e, code, format, ...):
 * Overwrite ${e}; control characters in the formatted text become spaces and
 * a text that is too long is cut.  The remedy is emptied.  ${e} may be NULL.
 * Returns -1, so that "return (error_set(...));" reads well.
 */
int error_set(struct error * e, enum exit_code code, const char * format, ...)
    __attribute__((format(printf, 3, 4)));

/**
 * error_remedy(e, format, ...):
 * Say what a person can do about ${e}.  Returns -1.
 */
int error_remedy(struct error * e, const char * format, ...) __attribute__((format(printf, 2, 3)));

#endif /* BASE_ERROR_H */
