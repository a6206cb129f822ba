#ifndef POSTGRES_ROTATION_H
#define POSTGRES_ROTATION_H

#include "base/clock.h"
#include "postgres/connection.h"

/*
 * Gives the room of sent messages back: empties the slot that is written next
 * by TRUNCATE, once nothing in it is unsent or too young, and trims the marks
 * that cover no kept message any more.  Done by the leader, on its connection, a
 * request at a time, with a look every ROTATION_INTERVAL.
 */
struct rotation;

#define ROTATION_INTERVAL CLOCK_S(15)

struct rotation * rotation_new(const char * schema);
void rotation_free(struct rotation * rotation);

/**
 * rotation_start(rotation, connection, now):
 * On a new connection that leads.
 */
void rotation_start(struct rotation * rotation, struct connection * connection, clock_ns now);

/**
 * rotation_turn(rotation, connection, now):
 * Look if it is time to.
 */
void rotation_turn(struct rotation * rotation, struct connection * connection, clock_ns now);

clock_ns rotation_deadline(const struct rotation * rotation);

#endif /* POSTGRES_ROTATION_H */
