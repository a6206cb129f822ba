#include "torture.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/*
 * The kernel: sockets, waiting, files.  What is an answer to be tried again
 * (EINTR) comes once only: a kernel that says nothing else is none.
 */
WRAPPED(socket);
WRAPPED(connect);
WRAPPED(getsockopt);
WRAPPED(setsockopt);
WRAPPED(send);
WRAPPED(sendmsg);
WRAPPED(recv);
WRAPPED(poll);
WRAPPED(ppoll);
WRAPPED(getaddrinfo);
WRAPPED(getnameinfo);
WRAPPED(read);
WRAPPED(write);
WRAPPED(open);
WRAPPED(fopen);
WRAPPED(fread);
WRAPPED(fstat);
WRAPPED(signalfd);
WRAPPED(eventfd);
WRAPPED(getrandom);
WRAPPED(gethostname);

static int
fail(int number)
{
	errno = number;
	return (-1);
}

#define FAIL_WITH(...) \
	do { \
		static const int numbers[] = {__VA_ARGS__}; \
		return (fail(numbers[torture_way(sizeof(numbers) / sizeof(numbers[0]))])); \
	} while (0)

static int
interrupted(int otherwise)
{
	return (fail(torture_goes_on() ? otherwise : EINTR));
}

/* ---- sockets ---- */

int
__wrap_socket(int domain, int type, int protocol)
{
	TORTURED(socket) FAIL_WITH(EMFILE, ENOBUFS, EAFNOSUPPORT);
	return (__real_socket(domain, type, protocol));
}

int
__wrap_connect(int fd, const struct sockaddr * address, socklen_t size)
{
	TORTURED(connect) FAIL_WITH(ECONNREFUSED, ENETUNREACH, EADDRNOTAVAIL);
	return (__real_connect(fd, address, size));
}

int
__wrap_getsockopt(int fd, int level, int name, void * value, socklen_t * size)
{
	TORTURED(getsockopt) FAIL_WITH(ENOBUFS);
	return (__real_getsockopt(fd, level, name, value, size));
}

int
__wrap_setsockopt(int fd, int level, int name, const void * value, socklen_t size)
{
	TORTURED(setsockopt) FAIL_WITH(ENOPROTOOPT);
	return (__real_setsockopt(fd, level, name, value, size));
}

ssize_t
__wrap_send(int fd, const void * data, size_t size, int flags)
{
	TORTURED(send)
	{
		switch (torture_way(4)) {
		case 0:
			return (interrupted(EPIPE));
		case 1:
			return (__real_send(fd, data, size > 0 ? 1 : 0, flags));
		default:
			FAIL_WITH(ECONNRESET, EAGAIN, ENOBUFS);
		}
	}
	return (__real_send(fd, data, size, flags));
}

ssize_t
__wrap_sendmsg(int fd, const struct msghdr * message, int flags)
{
	TORTURED(sendmsg)
	{
		switch (torture_way(4)) {
		case 0:
			return (interrupted(EPIPE));
		case 1:
			return (__real_send(fd, message->msg_iov[0].iov_base,
			    message->msg_iov[0].iov_len > 0 ? 1 : 0, flags));
		case 2:
			/* It went out, and we do not know. */
			(void)__real_sendmsg(fd, message, flags);
			return (fail(ECONNRESET));
		default:
			FAIL_WITH(EAGAIN, ECONNRESET, ENOBUFS);
		}
	}
	return (__real_sendmsg(fd, message, flags));
}

ssize_t
__wrap_recv(int fd, void * data, size_t size, int flags)
{
	TORTURED(recv)
	{
		switch (torture_way(5)) {
		case 0:
			return (interrupted(ECONNRESET));
		case 1:
			return (__real_recv(fd, data, 1, flags));
		case 2:
			return (0);
		case 3:
			return (fail(EAGAIN));
		default:
			return (fail(ECONNRESET));
		}
	}
	return (__real_recv(fd, data, size, flags));
}

int
__wrap_getaddrinfo(const char * host, const char * service, const struct addrinfo * hints,
    struct addrinfo ** addresses)
{
	static const int errors[] = {EAI_AGAIN, EAI_MEMORY, EAI_SYSTEM, EAI_NONAME};

	TORTURED(getaddrinfo)
	{
		errno = EMFILE;
		return (errors[torture_way(4)]);
	}
	return (__real_getaddrinfo(host, service, hints, addresses));
}

int
__wrap_getnameinfo(const struct sockaddr * address, socklen_t size, char * host,
    socklen_t host_size, char * service, socklen_t service_size, int flags)
{
	TORTURED(getnameinfo) return (EAI_MEMORY);
	return (__real_getnameinfo(address, size, host, host_size, service, service_size, flags));
}

/* ---- waiting ---- */

int
__wrap_poll(struct pollfd * fds, nfds_t count, int timeout)
{
	TORTURED(poll)
	{
		if (torture_way(2) == 1)
			return (interrupted(ENOMEM));
		for (nfds_t i = 0; i < count; i++)
			fds[i].revents = 0;
		return (0);
	}
	if (timeout > 0)
		timeout = (timeout + (int)torture_speed() - 1) / (int)torture_speed();
	return (__real_poll(fds, count, timeout));
}

int
__wrap_ppoll(struct pollfd * fds, nfds_t count, const struct timespec * timeout,
    const sigset_t * mask)
{
	struct timespec shorter = {0};

	TORTURED(ppoll)
	{
		if (torture_way(2) == 1 || torture_goes_on())
			return (interrupted(ENOMEM));
		for (nfds_t i = 0; i < count; i++)
			fds[i].revents = 0;
		return (0);
	}
	if (timeout != NULL) {
		long ns = (timeout->tv_sec * 1000000000 + timeout->tv_nsec) / (long)torture_speed();

		shorter = (struct timespec){ns / 1000000000, ns % 1000000000};
		timeout = &shorter;
	}
	return (__real_ppoll(fds, count, timeout, mask));
}

/* ---- files ---- */

/* Of files alone: that a signal's arrival cannot be read is no plausible story. */
ssize_t
__wrap_read(int fd, void * data, size_t size)
{
	struct stat status;

	if (__real_fstat(fd, &status) || !S_ISREG(status.st_mode))
		return (__real_read(fd, data, size));
	TORTURED(read)
	{
		if (torture_way(2) == 1)
			return (interrupted(EIO));
		return (fail(EIO));
	}
	return (__real_read(fd, data, size));
}

ssize_t
__wrap_write(int fd, const void * data, size_t size)
{
	TORTURED(write)
	{
		switch (torture_way(4)) {
		case 0:
			return (interrupted(EPIPE));
		case 1:
			return (__real_write(fd, data, size > 0 ? 1 : 0));
		default:
			FAIL_WITH(EPIPE, ENOSPC, EAGAIN);
		}
	}
	return (__real_write(fd, data, size));
}

int
__wrap_open(const char * path, int flags, ...)
{
	va_list arguments;
	mode_t mode;

	TORTURED(open) FAIL_WITH(EMFILE, EACCES, EIO);
	va_start(arguments, flags);
	mode = (flags & O_CREAT) != 0 ? va_arg(arguments, mode_t) : 0;
	va_end(arguments);
	return (__real_open(path, flags, mode));
}

FILE *
__wrap_fopen(const char * path, const char * mode)
{
	TORTURED(fopen)
	{
		errno = torture_way(2) == 1 ? EMFILE : EACCES;
		return (NULL);
	}
	return (__real_fopen(path, mode));
}

size_t
__wrap_fread(void * data, size_t size, size_t count, FILE * file)
{
	TORTURED(fread) return (0);
	return (__real_fread(data, size, count, file));
}

int
__wrap_fstat(int fd, struct stat * status)
{
	TORTURED(fstat) FAIL_WITH(EIO);
	return (__real_fstat(fd, status));
}

int
__wrap_signalfd(int fd, const sigset_t * mask, int flags)
{
	TORTURED(signalfd) FAIL_WITH(EMFILE, ENOMEM);
	return (__real_signalfd(fd, mask, flags));
}

int
__wrap_eventfd(unsigned int count, int flags)
{
	TORTURED(eventfd) FAIL_WITH(EMFILE, ENOMEM);
	return (__real_eventfd(count, flags));
}

ssize_t
__wrap_getrandom(void * data, size_t size, unsigned int flags)
{
	TORTURED(getrandom) FAIL_WITH(ENOSYS);
	return (__real_getrandom(data, size, flags));
}

int
__wrap_gethostname(char * name, size_t size)
{
	TORTURED(gethostname) FAIL_WITH(ENAMETOOLONG);
	return (__real_gethostname(name, size));
}
