#ifndef BASE_FINDING_H
#define BASE_FINDING_H

#include <stdbool.h>

/*
 * What a check of a whole set-up has found, in order: what is well, what may
 * become a trouble, what is one.  Zero-initialise the list.
 */
enum finding_level { FINDING_OK, FINDING_WARN, FINDING_FAIL };

#define FINDING_LEVELS 3
#define FINDING_TEXT_MAX 1200
#define FINDING_REMEDY_MAX 2400
#define FINDINGS_MAX 1000 /* further ones are only counted */

struct finding {
	struct finding * next;
	enum finding_level level;
	const char * check;              /* its name; a constant */
	char text[FINDING_TEXT_MAX];     /* one line */
	char remedy[FINDING_REMEDY_MAX]; /* one line to type, or what to do; "": nothing */
};

struct findings {
	struct finding * first;
	struct finding * last;
	unsigned int counts[FINDING_LEVELS];
	bool out_of_memory;
	bool dropped; /* the last one was only counted */
};

/**
 * finding_ok(findings, check, format, ...), finding_warn(...), finding_fail(...):
 * Add one; control characters become spaces.
 */
void finding_ok(struct findings * findings, const char * check, const char * format, ...)
    __attribute__((format(printf, 3, 4)));
void finding_warn(struct findings * findings, const char * check, const char * format, ...)
    __attribute__((format(printf, 3, 4)));
void finding_fail(struct findings * findings, const char * check, const char * format, ...)
    __attribute__((format(printf, 3, 4)));

/**
 * finding_remedy(findings, format, ...):
 * What to do about the last one.
 */
void finding_remedy(struct findings * findings, const char * format, ...)
    __attribute__((format(printf, 2, 3)));

/**
 * findings_free(findings):
 * Empty it.
 */
void findings_free(struct findings * findings);

#endif /* BASE_FINDING_H */
