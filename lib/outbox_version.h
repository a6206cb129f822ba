#ifndef OUTBOX_VERSION_H
#define OUTBOX_VERSION_H

/*
 * The version of both libraries.  The number before the first point is a part
 * of their SONAMEs: it changes when programs have to be compiled anew.
 */
#define OUTBOX_VERSION "0.1.0"

#endif /* OUTBOX_VERSION_H */
