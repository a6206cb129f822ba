/*
 * Preloaded into a Postgres server: while $FULL_DISK exists, the disk that its
 * tables lie on is full.  What is there can be read and written over, nothing
 * grows; WAL is on another disk.  A real one would need root and a mount.
 */
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef ssize_t write_function(int fd, const void * data, size_t size, off_t offset);

static int
is_full(int fd, off_t end)
{
	const char * flag = getenv("FULL_DISK");
	char name[64];
	char path[4096];
	ssize_t length;
	struct stat st;

	if (flag == NULL || access(flag, F_OK) != 0)
		return (0);
	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	if ((length = readlink(name, path, sizeof(path) - 1)) < 0)
		return (0);
	path[length] = '\0';
	return (strstr(path, "/base/") != NULL && fstat(fd, &st) == 0 && end > st.st_size);
}

static ssize_t
write_unless_full(const char * name, int fd, const void * data, size_t size, off_t offset)
{
	write_function * next;
	void * symbol = dlsym(RTLD_NEXT, name);

	if (is_full(fd, offset + (off_t)size)) {
		errno = ENOSPC;
		return (-1);
	}
	memcpy(&next, &symbol, sizeof(next));
	return (next(fd, data, size, offset));
}

ssize_t
pwrite(int fd, const void * data, size_t size, off_t offset)
{
	return (write_unless_full("pwrite", fd, data, size, offset));
}

ssize_t
pwrite64(int fd, const void * data, size_t size, off64_t offset)
{
	return (write_unless_full("pwrite64", fd, data, size, offset));
}
