#ifndef SIMULATION_KINDS_H
#define SIMULATION_KINDS_H

/*
 * What may go wrong.  Each history has a random half of these; --without
 * switches one off, and so the shrinking finds out which ones matter.
 */
/* clang-format off */
#define WORLD_KINDS(X) \
	X(second_relay)   /* two relays compete for the lead */ \
	X(rollback)       /* transactions that abort */ \
	X(scheduled)      /* messages with deliver_at */ \
	X(person)         /* dead messages are retried or discarded */ \
	X(discard)        /* what is pending is not to be sent */ \
	X(pause)          /* everything, or an exchange, is paused and resumed */ \
	X(link_loss)      /* a broker connection breaks */ \
	X(source_loss)    /* the relay loses its database session */ \
	X(server_restart) /* the database server ends all sessions */ \
	X(failover)       /* a standby that lags is promoted */ \
	X(half_open)      /* the server's end of a lost session lives on */ \
	X(lease)          /* the lease runs out */ \
	X(crash)          /* kill -9 */ \
	X(freeze)         /* SIGSTOP, until somebody says go on */ \
	X(stop)           /* SIGTERM */ \
	X(block)          /* connection.blocked */ \
	X(full)           /* the link's buffer is full */ \
	X(mute)           /* a broker that accepts and never answers */ \
	X(jump)           /* nothing happens for seconds */ \
	X(exchange_gone)  /* 404 */ \
	X(forbidden)      /* 403 */ \
	X(queue_silent)   /* a queue that never confirms */ \
	X(many_silent)    /* ... many of them from the same moment on */ \
	X(queue_refuses)  /* reject-publish */ \
	X(unroutable)     /* a message, or a queue: returned */ \
	X(poison)         /* a message that closes the channel, unnamed */ \
	X(unfit)          /* a message that AMQP cannot carry */ \
	X(refused)        /* a message that is refused some times, or always */
/* clang-format on */

enum world_kind {
#define X(name) KIND_##name,
	WORLD_KINDS(X)
#undef X
	    KIND_COUNT
};

/* What happened; each must happen in a run, or the run proves nothing. */
/* clang-format off */
#define WORLD_EVENTS(X) \
	/* writers, persons */ \
	X(committed) X(committed_out_of_order) X(committed_many) X(rolled_back) X(scheduled) \
	X(person_retried) X(person_discarded) X(person_freed_a_key) \
	X(discard_ordered) X(discard_taken_back) X(fresh_discarded) X(delayed_discarded) \
	X(paused_all) X(resumed_all) X(paused_exchange) X(resumed_exchange) \
	X(pause_learned_at_start) X(pause_learned_later) X(paused_while_in_flight) X(pause_over) \
	/* reading */ \
	X(fetched_rows) X(fetched_in_part) X(fetched_empty) X(fetched_big_row) \
	X(fetched_exhausted_later) X(fetched_held) X(reread_after_restart) X(mark_passed_a_lookup) \
	X(searched_due) X(searched_all) X(searched_lane) X(found_nothing) X(found_more) \
	X(found_scheduled) X(found_scheduled_held) X(found_retry) X(found_lane_row) \
	X(found_behind) X(lanes_reported) \
	/* marks */ \
	X(recorded) X(recorded_exhausted) X(recorded_moves_alone) X(mark_lost) \
	X(mark_kept_unanswered) X(fresh_to_retry) X(fresh_to_exchange_lane) X(moved_for_pause) \
	X(fresh_to_queue_lane) X(fresh_behind) X(fresh_to_dead) X(delayed_delivered) \
	X(delayed_to_retry) X(delayed_to_exchange_lane) X(delayed_to_queue_lane) \
	X(delayed_behind) X(delayed_to_dead) X(dead_holds_key) X(next_of_key_freed) X(next_of_key_due_anew) \
	/* publishing */ \
	X(published) X(republished) X(published_on_suspects) X(published_probe) X(not_taken) \
	X(unfit) X(window_full) X(core_reset_main) X(core_reset_suspects) X(wants_suspects) \
	X(suspects_closed_unwanted) \
	/* the broker's answers */ \
	X(acked) X(acked_out_of_order) X(acked_multiple) X(nacked) X(nacked_but_delivered) \
	X(returned) X(acked_stale) X(acked_by_former_link) X(silence_ended) \
	X(closed_named_main) X(closed_named_suspects) X(closed_unnamed_main) \
	X(closed_unnamed_suspects) X(closed_forbidden) X(vanished_after_close) \
	X(exchange_gone) X(exchange_back) X(queue_silent) X(queue_speaks) X(many_silent) X(queue_refuses) \
	X(queue_takes) X(queue_gone) X(queue_back) \
	/* links */ \
	X(link_lost_idle) X(link_lost_all_taken) X(link_lost_none_taken) X(link_lost_some_taken) \
	X(link_blocked) X(link_mute) X(link_cut_by_lease) \
	/* sessions and processes */ \
	X(led_first) X(led_after_other) X(lock_refused) X(idle_leader_ended) X(ghost_ended) \
	X(source_lost_idle) X(source_lost_in_flight) X(session_ended_unnoticed) \
	X(stale_mark_fenced) X(server_restarted) X(replicated) \
	X(failed_over) X(failed_over_losing_rows) X(failed_over_losing_marks) X(lease_ran_out) \
	X(crashed) X(crashed_with_key_held) X(froze) X(went_on) X(went_on_after_lease) \
	X(stopped_midway) X(published_while_stopping) X(drained) X(stopped) \
	/* how it ended */ \
	X(end_delivered) X(end_dead) X(end_waits_in_lane) X(end_behind_dead) X(end_lost_by_failover)
/* clang-format on */

enum world_event {
#define X(name) EVENT_##name,
	WORLD_EVENTS(X)
#undef X
	    EVENT_COUNT
};

#endif /* SIMULATION_KINDS_H */
