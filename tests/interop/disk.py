"""Disks that a test fills, breaks and mends, and a look at what a program does with them.

Contract: `own_mounts` gives this process a mount namespace of its own, so that whatever is mounted here ends with it
and nobody else sees it; without root it takes a user namespace. `Tmpfs` is a small disk that can be full. `Image` is a
file system in a file, which turns read-only by an error as a real one does. `Watched` sees each write and sync of a
running program, and makes some of them fail. What this machine cannot do ends in SkipTest, with a sentence.
Not here: what a program should do about it (`test_disk_*.py`).
"""

import ctypes
import os
import pathlib
import re
import shutil
import signal
import subprocess
import unittest

from waiting import wait_for

NEW_NAMESPACE, NEW_USER = 0x00020000, 0x10000000
_own = []


def own_mounts():
    """To be called before any thread is started; once is enough."""
    if _own:
        return
    libc, uid, gid = ctypes.CDLL(None, use_errno=True), os.getuid(), os.getgid()
    if libc.unshare(NEW_NAMESPACE if uid == 0 else NEW_NAMESPACE | NEW_USER):
        raise unittest.SkipTest("this machine permits no mount namespace: run as root, or with user namespaces")
    if uid:
        pathlib.Path("/proc/self/setgroups").write_text("deny")
        pathlib.Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
        pathlib.Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
    mount("--make-rprivate", "/")
    _own.append(True)


def mount(*words):
    done = subprocess.run(["mount", *map(str, words)], capture_output=True, text=True)
    if done.returncode:
        raise unittest.SkipTest(f"this machine cannot mount {' '.join(map(str, words))}: {done.stderr.strip()}")


class Tmpfs:
    """A disk in memory of so many octets, mounted on `folder`."""

    def __init__(self, folder, size):
        self.folder, self.size, self.filler = folder, size, folder / "filler"

    def __enter__(self):
        own_mounts()
        self.folder.mkdir(parents=True)
        mount("-t", "tmpfs", "-o", f"size={self.size}", "none", self.folder)
        return self

    def free(self):
        facts = os.statvfs(self.folder)
        return facts.f_bavail * facts.f_frsize

    def fill(self, leave=0):
        """Another file takes all but `leave` octets, also from writers that want them now."""
        with open(self.filler, "ab", buffering=0) as file:
            for piece in (1 << 20, 4096):
                try:
                    while self.free() >= leave + piece or not leave:
                        file.write(bytes(piece))
                except OSError:
                    # Full; a smaller piece may still fit.
                    continue

    def clear(self):
        self.filler.unlink()

    def __exit__(self, *_):
        # Whoever still uses it keeps it until the namespace ends.
        subprocess.run(["umount", "--lazy", str(self.folder)], capture_output=True)


class Image:
    """An ext4 in the file `path`, mounted on `folder`, that turns read-only at its first error."""

    def __init__(self, path, folder, size=256 << 20):
        self.path, self.folder, self.size = path, folder, size

    def __enter__(self):
        own_mounts()
        if not shutil.which("mkfs.ext4"):
            raise unittest.SkipTest("mkfs.ext4 is missing: apt-get install e2fsprogs")
        with open(self.path, "wb") as file:
            file.truncate(self.size)
        subprocess.run(["mkfs.ext4", "-q", "-F", str(self.path)], check=True)
        self.folder.mkdir(parents=True)
        self._mount()
        return self

    def _mount(self):
        mount("-o", "loop,errors=remount-ro", self.path, self.folder)

    def break_down(self):
        """The kernel reports an error to the file system: all that was not synced is lost, as in a power cut."""
        facts = os.stat(self.folder)
        device = pathlib.Path(f"/sys/dev/block/{os.major(facts.st_dev)}:{os.minor(facts.st_dev)}").resolve().name
        try:
            pathlib.Path(f"/sys/fs/ext4/{device}/trigger_fs_error").write_text("1")
        except OSError as error:
            raise unittest.SkipTest(f"this machine lets no test break an ext4: {error}")

    def mend(self):
        """Checked and mounted anew, when nobody uses it any more."""
        subprocess.run(["umount", str(self.folder)], check=True)
        done = subprocess.run(["e2fsck", "-p", str(self.path)], capture_output=True, text=True)
        if done.returncode > 1:
            raise AssertionError(f"e2fsck found more than it mends: {done.stdout}{done.stderr}")
        self._mount()

    def __exit__(self, *_):
        subprocess.run(["umount", "--lazy", str(self.folder)], capture_output=True)


class Watched:
    """strace at all threads of the process `pid`, which runs already; it goes on alone when the block ends.

    `inject`: what fails how, in strace's words, such as "fdatasync,fsync:error=EIO". The calls are added to `calls`
    when the block ends.
    """

    SYNCS = ("fdatasync", "fsync", "sync_file_range")
    WRITES = ("write", "pwrite64", "writev", "pwritev", "pwritev2", "fallocate", "ftruncate")

    def __init__(self, pid, out, calls, inject=None):
        self.pid, self.out, self.calls, self.inject = pid, out, calls, inject

    def __enter__(self):
        if not shutil.which("strace"):
            raise unittest.SkipTest("strace is missing: apt-get install strace")
        self.out.unlink(missing_ok=True)
        trace = ["-e", "trace=" + ",".join(self.SYNCS + self.WRITES)]
        inject = ["-e", f"inject={self.inject}"] if self.inject else []
        self.process = subprocess.Popen(["strace", "-f", "-y", "-s", "0", *trace, *inject, "-o", str(self.out), "-p",
                                         str(self.pid)], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        wait_for(self._holds, 20, "strace did not take hold of the program")
        return self

    def _holds(self):
        if self.process.poll() is not None:
            raise unittest.SkipTest(f"strace may not look at other programs here: {self.process.stderr.read()}")
        return all("TracerPid:\t0\n" not in (task / "status").read_text()
                   for task in pathlib.Path(f"/proc/{self.pid}/task").iterdir())

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGINT)
        self.process.wait(20)
        self.process.stderr.close()
        self.calls += calls_of(self.out.read_text())


def calls_of(trace):
    """The calls in strace's report in the order in which they ended: (name, path, result), each."""
    begun, calls = {}, []
    for thread, text in re.findall(r"(?m)^(\d+) +(.*)$", trace):
        if head := re.match(r"(\w+)\(\d+<([^>]*)>", text):
            begun[thread] = head.groups()
        result = re.search(r" = (-?\d+)(?: |$)", text)
        if result and thread in begun and "<unfinished" not in text:
            calls.append((*begun.pop(thread), int(result[1])))
    return calls
