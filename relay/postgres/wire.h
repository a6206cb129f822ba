#ifndef POSTGRES_WIRE_H
#define POSTGRES_WIRE_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

#include <libpq-fe.h>

/* Reading values of libpq's binary form. */

static inline int16_t
wire_read_int16(const char * data)
{
	uint16_t n;

	memcpy(&n, data, sizeof(n));
	return ((int16_t)be16toh(n));
}

static inline int64_t
wire_read_int64(const char * data)
{
	uint64_t n;

	memcpy(&n, data, sizeof(n));
	return ((int64_t)be64toh(n));
}

static inline int32_t
wire_int32(const PGresult * result, int row, int column)
{
	uint32_t n;

	memcpy(&n, PQgetvalue(result, row, column), sizeof(n));
	return ((int32_t)be32toh(n));
}

static inline int64_t
wire_int64(const PGresult * result, int row, int column)
{
	return (wire_read_int64(PQgetvalue(result, row, column)));
}

static inline int
wire_bool(const PGresult * result, int row, int column)
{
	return (PQgetvalue(result, row, column)[0] != 0);
}

/* Microseconds since 2000, as timestamptz is sent, to microseconds since 1970. */
#define WIRE_EPOCH_US INT64_C(946684800000000)

#endif /* POSTGRES_WIRE_H */
