#ifndef ADMIN_REBASE_SQL_H
#define ADMIN_REBASE_SQL_H

/*
 * The statements of a rebase; the schema is called "outbox" in them
 * (sql_in_schema).  Which rows count as pending is decided here.
 */

/* Before anything: whether the role owns the table; one row: whether, the owner, the role. */
extern const char rebase_rights_sql[];

/* Who leads: pid and name, or no row. */
extern const char rebase_leader_sql[];

/* One text: who holds the tables, after rebase_lock_sql has failed. */
extern const char rebase_holders_sql[];
extern const char rebase_lock_sql[];

/* One row: the fields of struct rebase_counts up to dead, then the newest mark's seq. */
extern const char rebase_count_sql[];

/* In this order, in one transaction, behind the lock. */
extern const char rebase_sequence_sql[];
extern const char rebase_renumber_sql[];        /* only if some have to be */
extern const char rebase_discard_pending_sql[]; /* these two only if asked for */
extern const char rebase_discard_delayed_sql[];
extern const char rebase_rewrite_sql[]; /* $1 the new prev */
extern const char rebase_mark_sql[];    /* $1 the new prev */
extern const char rebase_forget_sql[];
extern const char
    rebase_operation_sql[]; /* $1 why, $2 who, $3 where, $4 discarded, $5 to $11 the counts */

/* After the commit, outside of any transaction. */
extern const char rebase_clean_sql[];

#endif /* ADMIN_REBASE_SQL_H */
