#ifndef CLI_DOCTOR_H
#define CLI_DOCTOR_H

#include "admin/checkup.h"
#include "base/finding.h"
#include "cli/cli.h"

/* doctor [--json] [--older-than AGE] */
extern const struct cli_command cli_doctor;

/**
 * doctor_broker(config, routes, arguments, findings):
 * Everything that a healthy relay needs of RabbitMQ; ${arguments} go behind
 * commands to be typed: " --config FILE", or "".
 */
void doctor_broker(const struct config * config, const struct checkup_routes * routes,
    const char * arguments, struct findings * findings);

/**
 * doctor_http(listen, findings):
 * Whether a relay can serve, or serves, at ${listen} (NULL: it is not to).
 */
void doctor_http(const char * listen, struct findings * findings);

#endif /* CLI_DOCTOR_H */
