#ifndef CLI_WORK_H
#define CLI_WORK_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Long work in steps: progress on stderr, and Ctrl-C between two steps.
 */

/**
 * work_begin():
 * From now on SIGINT and SIGTERM are asked for by work_interrupted(); a second
 * one ends the process at once.
 */
void work_begin(void);

/**
 * work_interrupted():
 * Whether one came.
 */
bool work_interrupted(void);

/**
 * work_progress(what, done, total):
 * Say so on stderr, once a second at most.
 */
void work_progress(const char * what, int64_t done, int64_t total);

/**
 * work_end():
 * After stdout is complete: if a signal came, die of it, so that the shell
 * and scripts see what happened.
 */
void work_end(void);

#endif /* CLI_WORK_H */
