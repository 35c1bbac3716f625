"""A container's view of the machine, then its program: one process from start to exec.

Run by process.py as ``python -I -S sandbox.py FD`` (FD holds the description, JSON) to start a
container, and as ``python -I -S sandbox.py --beside RECORD ARG…`` to run a command beside one.
Standard library only, and of that only what loads fast: tens of these start at once.

In this order it enters the Pod's network namespace, writes its record, builds a private file tree,
gives up every right that was not asked for, and executes. What goes wrong is written to the
description's ``report`` descriptor, which exec closes: its end without a word means success.

The private tree is a tmpfs that mirrors the host's. A directory above a mount point is made anew
and filled with binds of what the host has there, so mount points need not exist and the host never
sees them. A directory that the user may not enter is made anew too, empty but for the way to what
was declared visible. /tmp, /run and /dev are the container's own.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import stat
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_BIND, MS_REC, MS_UNBINDABLE, MS_SLAVE = 32, 4096, 16384, 1 << 17, 1 << 19
MNT_DETACH = 2
CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWNET = 0x00020000, 0x04000000, 0x40000000
SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 24, 38
CAPABILITY_VERSION_3 = 0x20080522
CAPABILITIES = {"NET_BIND_SERVICE": 10, "NET_ADMIN": 12, "NET_RAW": 13}

PROGRAMS = "/osm/bin"
"""Where the description's binaries are found; first in PATH."""
USUAL_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
OWN_DIRECTORIES = {"/tmp": 0o1777, "/var/tmp": 0o1777, "/run": 0o755, "/dev": 0o755}  # noqa: S108
DEVICES = ("null", "zero", "full", "random", "urandom", "tty", "pts")
LINKS = {
    "/dev/fd": "/proc/self/fd",
    "/dev/stdin": "/proc/self/fd/0",
    "/dev/stdout": "/proc/self/fd/1",
    "/dev/stderr": "/proc/self/fd/2",
    "/dev/ptmx": "pts/ptmx",
}

libc = ctypes.CDLL(None, use_errno=True)


class SandboxError(Exception):
    """The program cannot be started; the message is for its user."""


class Entry:
    """One path of the tree that is not as on the host. A plain class: dataclasses load slowly."""

    def __init__(self) -> None:
        self.children: dict[str, Entry] = {}
        self.source: str | None = None
        """What of the host is seen here; None: what the host has at this path."""
        self.volume: dict[str, Any] | None = None
        """The mount that is seen here; its ``source`` exists."""
        self.own_mode: int | None = None
        """A directory of the container's own, empty but for the children."""
        self.content: str | None = None
        """A file of the container's own."""
        self.link: str | None = None


def main(argv: list[str]) -> None:
    """The process is the program; or the report tells why it is not."""
    report = 2
    try:
        if argv[1] == "--beside":
            start_beside(argv[2], argv[3:])
        with os.fdopen(int(argv[1]), "rb") as description:
            spec = json.load(description)
        report = spec["report"]
        start(spec)
    except SandboxError as failure:
        reason = str(failure)
    except OSError as failure:
        reason = f"{failure.strerror}: {failure.filename}" if failure.filename else str(failure)
    os.write(report, reason.encode() + (b"\n" if report == 2 else b""))  # noqa: PLR2004
    sys.exit(126)


def start(spec: dict[str, Any]) -> None:
    """Never returns: executes the program in a sandbox of its own, or raises."""
    os.set_inheritable(spec["report"], False)  # noqa: FBT003
    os.closerange(spec["under_way"] + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    enter(spec["network_namespace"], CLONE_NEWNET)
    os.close(spec["under_way"])  # whoever tears the node down finds this process by its namespace
    write_record(spec)
    check(libc.unshare(CLONE_NEWNS | CLONE_NEWUTS), "making namespaces")
    hostname = spec["hostname"].encode()
    check(libc.sethostname(hostname, len(hostname)), "setting the host name")
    os.fchown(1, spec["uid"], spec["gid"])  # whoever opens /dev/stdout needs to own it
    build_tree(spec)
    become(spec, spec["argv"])


def start_beside(record: str, argv: list[str]) -> None:
    """Never returns: executes the command with all that the container has, its user included."""
    with open(record, "rb") as file:
        spec = json.load(file)
    pid = spec["pid"]
    if start_ticks(pid) != spec["ticks"]:
        raise SandboxError("the container is not running")
    for kind, name in ((CLONE_NEWNET, "net"), (CLONE_NEWUTS, "uts"), (CLONE_NEWNS, "mnt")):
        enter(f"/proc/{pid}/ns/{name}", kind)
    become(spec, argv)


def become(spec: dict[str, Any], argv: list[str]) -> None:
    """Never returns: without other rights than asked for, this process is the program."""
    drop_rights(spec["uid"], spec["gid"], spec["capabilities"])
    user, place = f"uid {spec['uid']}", spec["working_dir"]
    try:
        os.chdir(place)
    except OSError as failure:
        raise SandboxError(f"working directory {place}: {failure.strerror} for {user}") from None
    environment = dict(spec["env"])
    environment["PATH"] = f"{PROGRAMS}:{environment.get('PATH') or USUAL_PATH}"
    execute(argv, environment, user)


def execute(argv: list[str], environment: dict[str, str], user: str) -> None:
    """Never returns: looks the program up as a shell does, and says in words why it cannot run."""
    os.umask(0o022)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    # Python ignores some, a shell those of what it starts in the background; exec hands that on.
    for ignored in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGQUIT):
        signal.signal(ignored, signal.SIG_DFL)
    program = argv[0]
    search = ("",) if "/" in program else environment["PATH"].split(":")
    denied = None
    for place in search:
        path = os.path.join(place, program)
        if os.path.isfile(path):
            if os.access(path, os.X_OK):
                os.execve(path, argv, environment)  # noqa: S606
            denied = denied or path
    if denied:
        raise SandboxError(f"{denied} is not executable for {user}: change its mode or runAsUser")
    where = "" if "/" in program else f" in PATH ({environment['PATH']})"
    raise SandboxError(
        f"program {program} is not there{where}, or {user} may not enter its directory"
    )


def write_record(spec: dict[str, Any]) -> None:
    """The record tells which process this is, before anything can go wrong, in one step."""
    record = {**spec["record"], "pid": os.getpid(), "started": time.time()}
    record["ticks"] = start_ticks(os.getpid())
    path = spec["record_path"]
    handle = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w") as file:
        json.dump(record, file)
    os.replace(f"{path}.new", path)


def start_ticks(pid: int) -> int | None:
    """When the process started, in ticks since boot; None when there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The program's name, in parentheses, may hold anything.
            return int(file.read().rpartition(b")")[2].split()[19])
    except OSError:
        return None


def build_tree(spec: dict[str, Any]) -> None:
    """The root directory is the private tree; the host's is out of reach."""
    refuse_closed_directory(spec)
    root = plan_tree(spec)
    os.umask(0)  # modes are as written here
    mount(None, "/", None, MS_REC | MS_SLAVE)
    place = spec["root_place"]
    mount("tmpfs", place, "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=1g")
    mount(
        None, place, None, MS_UNBINDABLE
    )  # else the binds below would hold the tree within itself
    fill(root, "/", place, spec)
    if spec["uid"] == 0:
        forbid_writing(place, spec["mounts"])
    os.chdir(place)
    number = SYS_PIVOT_ROOT[os.uname().machine]
    check(libc.syscall(number, b".", b"."), "making the private tree the root")
    check(libc.umount2(b".", MNT_DETACH), "leaving the host's tree")


def refuse_closed_directory(spec: dict[str, Any]) -> None:
    """Raise when the user may not enter the working directory: the tree would show it empty."""
    place = os.path.realpath(spec["working_dir"])
    mounted = any(f"{place}/".startswith(f"{volume['target']}/") for volume in spec["mounts"])
    if os.path.isdir(place) and not mounted and not may_enter(place, spec):
        raise SandboxError(f"working directory {place}: uid {spec['uid']} may not enter it")


def plan_tree(spec: dict[str, Any]) -> Entry:
    """All that differs from the host's tree."""
    root = Entry()
    for path, mode in OWN_DIRECTORIES.items():
        entry_at(root, path).own_mode = mode
    entry_at(root, "/dev/shm").own_mode = 0o1777  # noqa: S108
    for name in DEVICES:
        entry_at(root, f"/dev/{name}").source = f"/dev/{name}"
    for path, target in LINKS.items():
        entry_at(root, path).link = target
    for path, content in spec["files"].items():
        entry_at(root, path).content = content
    for name, path in spec["binaries"].items():
        entry_at(root, f"{PROGRAMS}/{name}").link = os.path.realpath(path)
    for path in map(os.path.realpath, (*spec["visible"], *spec["binaries"].values())):
        if is_hidden(path, spec):
            entry_at(root, path).source = path
    for volume in spec["mounts"]:
        entry_at(root, volume["target"]).volume = volume
    return root


def entry_at(root: Entry, path: str) -> Entry:
    """The entry of a path, links in the directories above it followed."""
    above, name = os.path.split(os.path.normpath(path))
    entry = root
    for part in (*os.path.realpath(above).split("/"), name):
        if part:
            entry = entry.children.setdefault(part, Entry())
    return entry


def is_hidden(path: str, spec: dict[str, Any]) -> bool:
    """True when the host's path cannot be walked by the user, or lies in a directory of our own."""
    if not os.path.lexists(path):  # such as a directory within a volume
        return False
    above = path
    while above != "/":
        above = os.path.dirname(above)
        if above in OWN_DIRECTORIES or not may_enter(above, spec):
            return True
    return False


def may_enter(directory: str, spec: dict[str, Any]) -> bool:
    """True when the modes of the host's directory let the user through."""
    status = os.stat(directory)
    if status.st_uid == spec["uid"]:
        return bool(status.st_mode & stat.S_IXUSR)
    if status.st_gid == spec["gid"]:
        return bool(status.st_mode & stat.S_IXGRP)
    return bool(status.st_mode & stat.S_IXOTH)


def fill(entry: Entry, host: str | None, target: str, spec: dict[str, Any]) -> None:
    """The target is as the entry says; ``host``: what the host has there, None if hidden."""
    if os.path.islink(target):  # only in a volume, by a container: it would lead us out of the tree
        raise SandboxError(f"{target} is a link in a volume: nothing can be mounted there")
    if entry.link is not None:
        os.symlink(entry.link, target)
        return
    if entry.content is not None:
        with open(target, "x") as file:
            file.write(entry.content)
        return
    if entry.volume is not None:
        fill_volume(entry, entry.volume, target, spec)
        return
    source = entry.source or (None if entry.own_mode is not None else host)
    if not entry.children and source is not None and os.path.lexists(source):
        show(source, target)
        return
    mirrored = source if source and os.path.isdir(source) and may_enter(source, spec) else None
    make_directory(target, mirrored, entry.own_mode)
    for name in sorted(os.listdir(mirrored)) if mirrored else ():
        if name not in entry.children:
            show(f"{mirrored}/{name}", f"{target}/{name}")
    for name, child in entry.children.items():
        fill(child, f"{mirrored}/{name}" if mirrored else None, f"{target}/{name}", spec)


def fill_volume(entry: Entry, volume: dict[str, Any], target: str, spec: dict[str, Any]) -> None:
    """The volume is seen at the target; what is mounted below gets its place in it."""
    show(volume["source"], target)
    for name, child in entry.children.items():
        fill(child, None, f"{target}/{name}", spec)
    if volume["read_only"]:
        remount_read_only(target, MS_NOSUID | MS_NODEV)


def make_directory(target: str, like: str | None, own_mode: int | None) -> None:
    """A directory, open to all unless it mirrors one of the host or has a mode of its own."""
    if not os.path.isdir(target):
        status = os.stat(like) if like else None
        os.mkdir(target, stat.S_IMODE(status.st_mode) if status else own_mode or 0o755)
        if status:
            os.chown(target, status.st_uid, status.st_gid, follow_symlinks=False)


def show(source: str, target: str) -> None:
    """What the host has at the source is seen at the target, and all that is mounted below it."""
    status = os.lstat(source)
    if stat.S_ISLNK(status.st_mode):
        os.symlink(os.readlink(source), target)
    elif stat.S_ISDIR(status.st_mode):
        make_directory(target, None, None)
        mount(source, target, None, MS_BIND | MS_REC)
    else:
        if not os.path.exists(target):
            os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644))
        mount(source, target, None, MS_BIND)


def forbid_writing(place: str, volumes: list[dict[str, Any]]) -> None:
    """A container that runs as root writes to volumes and its own, not to the host's files."""
    writable = {f"{place}{volume['target']}" for volume in volumes if not volume["read_only"]}
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        lines = [line.split() for line in file]
    flags = {"nosuid": MS_NOSUID, "nodev": MS_NODEV, "noexec": MS_NOEXEC}
    for fields in lines:
        target = fields[4].encode().decode("unicode_escape").encode("latin-1").decode()
        if target.startswith(f"{place}/") and target not in writable:
            remount_read_only(target, sum(flags.get(option, 0) for option in fields[5].split(",")))


def remount_read_only(target: str, flags: int) -> None:
    """Nothing can be written through this mount; the host's own stays as it is."""
    mount(None, target, None, MS_REMOUNT | MS_BIND | MS_RDONLY | flags)


def drop_rights(uid: int, gid: int, capabilities: list[str]) -> None:
    """The process has this user and group, no others, and of root's powers only those named."""
    unknown = sorted(set(capabilities) - set(CAPABILITIES))
    if unknown:
        known = ", ".join(sorted(CAPABILITIES))
        raise SandboxError(f"capabilities {unknown} are not given on one machine, only {known}")
    kept = [CAPABILITIES[name] for name in capabilities]
    with open("/proc/sys/kernel/cap_last_cap", encoding="ascii") as file:
        last = int(file.read())
    for capability in range(last + 1):
        if capability not in kept:
            check(libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0), "dropping a capability")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    mask = sum(1 << capability for capability in kept) if uid == 0 else 0
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    sets = (ctypes.c_uint32 * 6)(
        mask, mask, 0, 0, 0, 0
    )  # effective, permitted, inheritable; low, high
    check(libc.capset(header, sets), "dropping capabilities")
    check(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "forbidding new rights")


def enter(path: str, kind: int) -> None:
    """This process is in the namespace."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    check(libc.setns(handle, kind), f"entering {path}")
    os.close(handle)


def mount(source: str | None, target: str, kind: str | None, flags: int, options: str = "") -> None:
    """The mount is made; raise ``SandboxError`` naming it."""
    done = libc.mount(
        source.encode() if source else None,
        target.encode(),
        kind.encode() if kind else None,
        ctypes.c_ulong(flags),
        options.encode() if options else None,
    )
    check(done, f"mounting {source or kind or ''} at {target}")


def check(result: int, what: str) -> None:
    """Nothing, when the call succeeded; else raise ``SandboxError`` with the kernel's reason."""
    if result != 0:
        raise SandboxError(f"{what} failed: {os.strerror(ctypes.get_errno())}")


if __name__ == "__main__":
    main(sys.argv)
