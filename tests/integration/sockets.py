"""A process's TCP connections to a server, as the kernel sees them."""

import os
import pathlib

ESTABLISHED = "01"


def table():
    """(local port, remote port) -> (state, bytes received and not yet read, inode) of all over IPv4."""
    result = {}
    for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        ports = tuple(int(address.rpartition(":")[2], 16) for address in fields[1:3])
        result[ports] = (fields[3], int(fields[4].partition(":")[2], 16), fields[9])
    return result


def connections(pid, port):
    """The local ports of the established connections of process pid to port."""
    inodes = set()
    for link in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        try:
            inodes.add(os.readlink(link).removeprefix("socket:[").removesuffix("]"))
        except FileNotFoundError:
            pass
    return [local for (local, remote), (state, _, inode) in table().items()
            if remote == port and state == ESTABLISHED and inode in inodes]


def unread_by_server(pid, port):
    """Bytes that process pid sent and the server at port has not read."""
    known = table()
    return sum(known.get((port, local), (None, 0, None))[1] for local in connections(pid, port))
