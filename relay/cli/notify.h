#ifndef CLI_NOTIFY_H
#define CLI_NOTIFY_H

#include "base/clock.h"

/*
 * What the service manager is told, by sd_notify(3); nothing happens where
 * there is none.
 */

void notify_ready(void);
void notify_stopping(void);

/* The configuration is being read again; ready as before. */
void notify_reloading(void);
void notify_reloaded(void);

/* One line for "systemctl status": what is true now. */
void notify_status(const char * format, ...) __attribute__((format(printf, 1, 2)));

/**
 * notify_alive(now):
 * The loop has turned: feed the watchdog, if there is one and it is time.
 */
void notify_alive(clock_ns now);

/* When notify_alive wants to be called at the latest. */
clock_ns notify_deadline(void);

#endif /* CLI_NOTIFY_H */
