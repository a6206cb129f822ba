#include "torture.h"

#include <stddef.h>

#include <libpq-fe.h>

/*
 * libpq: every call that can fail.  A failed exchange may have reached the
 * server or not, so those that send one do both, by turns.
 */
WRAPPED(PQconninfoParse);
WRAPPED(PQconnectStartParams);
WRAPPED(PQconnectdbParams);
WRAPPED(PQconnectPoll);
WRAPPED(PQsetnonblocking);
WRAPPED(PQenterPipelineMode);
WRAPPED(PQexitPipelineMode);
WRAPPED(PQsocket);
WRAPPED(PQhost);
WRAPPED(PQdb);
WRAPPED(PQserverVersion);
WRAPPED(PQsendQueryParams);
WRAPPED(PQsendQueryPrepared);
WRAPPED(PQsendPrepare);
WRAPPED(PQpipelineSync);
WRAPPED(PQflush);
WRAPPED(PQconsumeInput);
WRAPPED(PQgetResult);
WRAPPED(PQresultErrorField);
WRAPPED(PQunescapeBytea);
WRAPPED(PQexec);
WRAPPED(PQexecParams);

PQconninfoOption *
__wrap_PQconninfoParse(const char * conninfo, char ** message)
{
	TORTURED(PQconninfoParse)
	{
		if (message != NULL)
			*message = NULL;
		return (NULL);
	}
	return (__real_PQconninfoParse(conninfo, message));
}

PGconn *
__wrap_PQconnectStartParams(const char * const * keywords, const char * const * values, int expand)
{
	TORTURED(PQconnectStartParams) return (NULL);
	return (__real_PQconnectStartParams(keywords, values, expand));
}

PGconn *
__wrap_PQconnectdbParams(const char * const * keywords, const char * const * values, int expand)
{
	TORTURED(PQconnectdbParams) return (NULL);
	return (__real_PQconnectdbParams(keywords, values, expand));
}

PostgresPollingStatusType
__wrap_PQconnectPoll(PGconn * conn)
{
	TORTURED(PQconnectPoll) return (PGRES_POLLING_FAILED);
	return (__real_PQconnectPoll(conn));
}

int
__wrap_PQsetnonblocking(PGconn * conn, int on)
{
	TORTURED(PQsetnonblocking) return (-1);
	return (__real_PQsetnonblocking(conn, on));
}

int
__wrap_PQenterPipelineMode(PGconn * conn)
{
	TORTURED(PQenterPipelineMode) return (0);
	return (__real_PQenterPipelineMode(conn));
}

int
__wrap_PQexitPipelineMode(PGconn * conn)
{
	TORTURED(PQexitPipelineMode) return (0);
	return (__real_PQexitPipelineMode(conn));
}

int
__wrap_PQsocket(const PGconn * conn)
{
	TORTURED(PQsocket) return (-1);
	return (__real_PQsocket(conn));
}

char *
__wrap_PQhost(const PGconn * conn)
{
	TORTURED(PQhost) return (NULL);
	return (__real_PQhost(conn));
}

char *
__wrap_PQdb(const PGconn * conn)
{
	TORTURED(PQdb) return (NULL);
	return (__real_PQdb(conn));
}

int
__wrap_PQserverVersion(const PGconn * conn)
{
	TORTURED(PQserverVersion) return (0);
	return (__real_PQserverVersion(conn));
}

int
__wrap_PQsendQueryParams(PGconn * conn, const char * sql, int count, const Oid * types,
    const char * const * values, const int * lengths, const int * formats, int binary)
{
	TORTURED(PQsendQueryParams)
	{
		if (torture_way(2) == 1)
			__real_PQsendQueryParams(conn, sql, count, types, values, lengths, formats,
			    binary);
		return (0);
	}
	return (__real_PQsendQueryParams(conn, sql, count, types, values, lengths, formats,
	    binary));
}

int
__wrap_PQsendQueryPrepared(PGconn * conn, const char * name, int count, const char * const * values,
    const int * lengths, const int * formats, int binary)
{
	TORTURED(PQsendQueryPrepared)
	{
		if (torture_way(2) == 1)
			__real_PQsendQueryPrepared(conn, name, count, values, lengths, formats,
			    binary);
		return (0);
	}
	return (__real_PQsendQueryPrepared(conn, name, count, values, lengths, formats, binary));
}

int
__wrap_PQsendPrepare(PGconn * conn, const char * name, const char * sql, int count,
    const Oid * types)
{
	TORTURED(PQsendPrepare) return (0);
	return (__real_PQsendPrepare(conn, name, sql, count, types));
}

int
__wrap_PQpipelineSync(PGconn * conn)
{
	TORTURED(PQpipelineSync)
	{
		/* The statement is committed, and nobody is told. */
		if (torture_way(2) == 1 && __real_PQpipelineSync(conn) == 1)
			__real_PQflush(conn);
		return (0);
	}
	return (__real_PQpipelineSync(conn));
}

int
__wrap_PQflush(PGconn * conn)
{
	TORTURED(PQflush)
	{
		if (torture_way(2) == 1)
			__real_PQflush(conn);
		return (-1);
	}
	return (__real_PQflush(conn));
}

int
__wrap_PQconsumeInput(PGconn * conn)
{
	TORTURED(PQconsumeInput) return (0);
	return (__real_PQconsumeInput(conn));
}

/* A statement's result is lost for lack of memory, after the server did what was asked. */
PGresult *
__wrap_PQgetResult(PGconn * conn)
{
	PGresult * result = __real_PQgetResult(conn);

	if (result == NULL || PQresultStatus(result) == PGRES_PIPELINE_SYNC)
		return (result);
	TORTURED(PQgetResult)
	{
		PQclear(result);
		return (PQmakeEmptyPGresult(conn, PGRES_FATAL_ERROR));
	}
	return (result);
}

char *
__wrap_PQresultErrorField(const PGresult * result, int field)
{
	TORTURED(PQresultErrorField) return (NULL);
	return (__real_PQresultErrorField(result, field));
}

unsigned char *
__wrap_PQunescapeBytea(const unsigned char * text, size_t * size)
{
	TORTURED(PQunescapeBytea) return (NULL);
	return (__real_PQunescapeBytea(text, size));
}

static PGresult *
lose(PGconn * conn, PGresult * result)
{
	PQclear(result);
	return (torture_way(4) < 2 ? NULL : PQmakeEmptyPGresult(conn, PGRES_FATAL_ERROR));
}

PGresult *
__wrap_PQexec(PGconn * conn, const char * sql)
{
	TORTURED(PQexec)
	return (lose(conn, torture_way(2) == 1 ? __real_PQexec(conn, sql) : NULL));
	return (__real_PQexec(conn, sql));
}

PGresult *
__wrap_PQexecParams(PGconn * conn, const char * sql, int count, const Oid * types,
    const char * const * values, const int * lengths, const int * formats, int binary)
{
	TORTURED(PQexecParams)
	return (lose(conn,
	    torture_way(2) == 1 ?
		__real_PQexecParams(conn, sql, count, types, values, lengths, formats, binary) :
		NULL));
	return (__real_PQexecParams(conn, sql, count, types, values, lengths, formats, binary));
}
