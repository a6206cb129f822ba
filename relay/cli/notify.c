#include "cli/notify.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <systemd/sd-daemon.h>

/* The watchdog belongs to the process, like the log. */
static clock_ns watchdog_interval;
static clock_ns watchdog_next = CLOCK_NEVER;

void
notify_ready(void)
{
	uint64_t usec;

	if (sd_watchdog_enabled(0, &usec) > 0) {
		watchdog_interval = CLOCK_US(usec) / 3;
		watchdog_next = 0;
	}
	sd_notify(0, "READY=1\nSTATUS=starting");
}

void
notify_stopping(void)
{
	sd_notify(0, "STOPPING=1\nSTATUS=finishing what is in flight");
}

void
notify_status(const char * format, ...)
{
	char status[512];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(status, sizeof(status), format, arguments);
	va_end(arguments);
	sd_notifyf(0, "STATUS=%s", status);
}

void
notify_alive(clock_ns now)
{
	if (now < watchdog_next)
		return;
	watchdog_next = now + watchdog_interval;
	sd_notify(0, "WATCHDOG=1");
}

clock_ns
notify_deadline(void)
{
	return (watchdog_next);
}
