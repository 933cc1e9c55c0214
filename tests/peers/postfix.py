#!/usr/bin/env python3
"""A private Postfix, set up in a folder and run from its unpacked package, and its smtp-source and smtp-sink.

    tests/peers/postfix.py start FOLDER --port PORT --relay-to 127.0.0.1:2526
    tests/peers/postfix.py start FOLDER --port PORT --discard
    tests/peers/postfix.py stop FOLDER

Contract: nothing outside of FOLDER is written, no account is made, nothing is installed; Postfix listens on 127.0.0.1
and passes everything on to one address, or throws it away. `stop` ends what `start` began, by its process id.
Invariants: Postfix's own defaults are left alone unless a line in `MAIN` says why, so that it can be measured beside.
Not here: what is measured (`benches/relay/run`) and what is asserted (`tests/interop`).
"""

import argparse
import ctypes
import grp
import os
import pathlib
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
PEERS = pathlib.Path(os.environ.get("INTEROP_PEERS") or REPOSITORY / "target" / "peers")
ROOT = PEERS / "debian"

MAIN = """\
compatibility_level = 3.6
# Where everything is.
config_directory = {folder}/config
queue_directory = {folder}/queue
data_directory = {folder}/data
daemon_directory = {root}/usr/lib/postfix/sbin
command_directory = {root}/usr/sbin
shlib_directory = {root}/usr/lib/postfix
meta_directory = {folder}/config
sendmail_path = {root}/usr/sbin/sendmail
newaliases_path = {root}/usr/bin/newaliases
mailq_path = {root}/usr/bin/mailq
maillog_file = {folder}/log
maillog_file_prefixes = {folder}
# The daemons find the libraries that were unpacked beside them.
import_environment = MAIL_CONFIG MAIL_LOGTAG TZ LANG=C LD_LIBRARY_PATH={libraries}
# Three accounts that every Debian has and that nobody else uses here: Postfix wants them to differ.
mail_owner = {owner}
setgid_group = {group}
default_privs = nobody
# What it is for.
myhostname = postfix.example.org
mydestination =
alias_maps =
alias_database =
local_recipient_maps =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = {networks}
smtpd_relay_restrictions = permit_mynetworks, reject
disable_dns_lookups = yes
# Content passes as it came: no field is added or rewritten, not even for loopback.
local_header_rewrite_clients =
biff = no
{transport}
"""

MASTER = """\
{port}    inet  n  -  n  -     -  smtpd
pickup    unix  n  -  n  60    1  pickup
cleanup   unix  n  -  n  -     0  cleanup
qmgr      unix  n  -  n  300   1  qmgr
tlsmgr    unix  -  -  n  1000? 1  tlsmgr
rewrite   unix  -  -  n  -     -  trivial-rewrite
bounce    unix  -  -  n  -     0  bounce
defer     unix  -  -  n  -     0  bounce
trace     unix  -  -  n  -     0  bounce
verify    unix  -  -  n  -     1  verify
flush     unix  n  -  n  1000? 0  flush
proxymap  unix  -  -  n  -     -  proxymap
smtp      unix  -  -  n  -     -  smtp
relay     unix  -  -  n  -     -  smtp
showq     unix  n  -  n  -     -  showq
error     unix  -  -  n  -     -  error
retry     unix  -  -  n  -     -  error
discard   unix  -  -  n  -     -  discard
anvil     unix  -  -  n  -     1  anvil
scache    unix  -  -  n  -     1  scache
postlog   unix-dgram n - n -   1  postlogd
"""


class PostfixError(Exception):
    """Postfix could not be set up or did not start; the sentence says what to do."""


def library_path():
    """The folders of the unpacked shared libraries, as LD_LIBRARY_PATH wants them."""
    folders = [ROOT / "usr/lib/postfix", *sorted(ROOT.glob("usr/lib/*-linux-gnu*")), *sorted(ROOT.glob("lib/*-linux-gnu*"))]
    return ":".join(str(folder) for folder in folders if folder.is_dir())


def environment():
    """The environment in which a program of the package runs."""
    return {**os.environ, "LD_LIBRARY_PATH": library_path()}


def tool(name):
    """The path of one program of the package (`smtp-source`, `smtp-sink`, `postqueue`, ...)."""
    path = ROOT / "usr/sbin" / name
    if not path.exists():
        raise PostfixError(f"{path} is missing; run tests/peers/install")
    return str(path)


def ends_with_parent():
    """For `preexec_fn`: the child gets SIGTERM when the thread that started it ends, so that nothing outlives a test."""
    parent_death_signal = 1
    ctypes.CDLL(None).prctl(parent_death_signal, signal.SIGTERM)


def accounts():
    """An account and a group that exist, are not root's, are not nobody's, and differ."""
    for owner, group in (("postfix", "postdrop"), ("news", "uucp"), ("games", "mail"), ("daemon", "bin")):
        try:
            account, wanted = pwd.getpwnam(owner), grp.getgrnam(group)
        except KeyError:
            continue
        if account.pw_gid != wanted.gr_gid:
            return account, wanted
    raise PostfixError("no account is free to own Postfix's queue; expected one of postfix, news, games, daemon")


class Postfix:
    """One private Postfix. `relay_to` is (host, port); None throws away what arrives."""

    def __init__(self, folder, port, relay_to=None, extra="", networks="127.0.0.0/8"):
        self.folder, self.port, self.relay_to, self.extra = pathlib.Path(folder).resolve(), port, relay_to, extra
        self.networks = networks
        self.process = None

    def set_up(self):
        """Writes the configuration and makes the folders that `postfix set-permissions` would make."""
        if os.getuid() != 0:
            raise PostfixError("Postfix's master runs only as root; run this as root, for example in a container")
        owner, group = accounts()
        if self.relay_to:
            transport = f"relayhost = [{self.relay_to[0]}]:{self.relay_to[1]}"
        else:
            transport = "default_transport = discard\nrelay_transport = discard"
        config = self.folder / "config"
        config.mkdir(parents=True, exist_ok=True)
        os.chmod(self.folder, 0o755)
        main = MAIN.format(folder=self.folder, root=ROOT, libraries=library_path(), owner=owner.pw_name,
                           group=group.gr_name, transport=transport, networks=self.networks)
        (config / "main.cf").write_text(main + self.extra)
        (config / "master.cf").write_text(MASTER.format(port=self.port))
        for name in ("postfix-files", "dynamicmaps.cf"):
            source = next(iter(ROOT.glob(f"*/**/{name}")), None)
            if source:
                shutil.copy(source, config / name)
        data, queue = self.folder / "data", self.folder / "queue"
        for path in (data, queue):
            path.mkdir(exist_ok=True)
        os.chown(data, owner.pw_uid, owner.pw_gid)
        os.chmod(data, 0o700)
        (queue / "pid").mkdir(exist_ok=True)
        private = ("active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "private",
                   "saved", "trace")
        for name, gid, mode in [*((name, owner.pw_gid, 0o700) for name in private),
                                ("public", group.gr_gid, 0o710), ("maildrop", group.gr_gid, 0o730)]:
            (queue / name).mkdir(exist_ok=True)
            os.chown(queue / name, owner.pw_uid, gid)
            os.chmod(queue / name, mode)

    def start(self, timeout=20, prefix=(), outlive=False):
        """Starts the master (behind `prefix`, such as strace) and returns once it greets.

        It ends with this process unless it is to `outlive` it.
        """
        self.set_up()
        master = ROOT / "usr/lib/postfix/sbin/master"
        if not master.exists():
            raise PostfixError(f"{master} is missing; run tests/peers/install")
        command = [*prefix, str(master), "-d", "-c", str(self.folder / "config")]
        with open(self.folder / "master.out", "ab") as out:
            # A session of its own: master ends its children by the process group.
            self.process = subprocess.Popen(command, env=environment(), stdin=subprocess.DEVNULL, stdout=out,
                                            stderr=out, start_new_session=True,
                                            preexec_fn=None if outlive else ends_with_parent)
        deadline = time.monotonic() + timeout
        while not greets(self.port):
            if self.process.poll() is not None:
                raise PostfixError(f"Postfix ended while starting: {self.log()}")
            if time.monotonic() > deadline:
                self.stop()
                raise PostfixError(f"Postfix did not greet within {timeout} s: {self.log()}")
            time.sleep(0.05)
        return self

    def log(self):
        texts = [path.read_text(errors="replace") for path in (self.folder / "master.out", self.folder / "log")
                 if path.exists()]
        return "\n".join(texts)[-3000:]

    def master_pid(self):
        return int((self.folder / "queue/pid/master.pid").read_text().split()[0])

    def queued(self):
        """How many messages are in the queue, deferred ones included."""
        return sum(1 for name in ("maildrop", "incoming", "active", "deferred", "hold")
                   for path in (self.folder / "queue" / name).rglob("*") if path.is_file())

    def flush(self):
        """Tries every deferred message now."""
        subprocess.run([tool("postqueue"), "-c", str(self.folder / "config"), "-f"], env=environment(), check=True)

    def stop(self, timeout=20):
        """Ends the master, which ends its children; by process id."""
        try:
            os.kill(self.master_pid(), signal.SIGTERM)
        except (FileNotFoundError, ProcessLookupError, IndexError, ValueError):
            pass
        if self.process:
            try:
                self.process.wait(timeout)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait(timeout)
            self.process = None

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()


def greets(port, host="127.0.0.1"):
    """Whether an SMTP server greets there with 220."""
    try:
        with socket.create_connection((host, port), 2) as connection:
            connection.settimeout(5)
            if not connection.recv(512).startswith(b"220"):
                return False
            connection.sendall(b"QUIT\r\n")
            return True
    except OSError:
        return False


def main():
    parser = argparse.ArgumentParser(description="Runs a private Postfix in a folder.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    start = verbs.add_parser("start")
    start.add_argument("folder")
    start.add_argument("--port", type=int, required=True)
    to = start.add_mutually_exclusive_group(required=True)
    to.add_argument("--relay-to", metavar="HOST:PORT")
    to.add_argument("--discard", action="store_true")
    stop = verbs.add_parser("stop")
    stop.add_argument("folder")
    given = parser.parse_args()
    try:
        if given.verb == "start":
            relay_to = None
            if given.relay_to:
                host, _, port = given.relay_to.rpartition(":")
                relay_to = (host.strip("[]"), int(port))
            postfix = Postfix(given.folder, given.port, relay_to).start(outlive=True)
            print(f"Postfix listens on 127.0.0.1:{given.port}, process {postfix.master_pid()}")
        else:
            postfix = Postfix(given.folder, 0)
            pid = postfix.master_pid()
            postfix.stop()
            deadline = time.monotonic() + 20
            while os.path.exists(f"/proc/{pid}") and time.monotonic() < deadline:
                time.sleep(0.05)
            print(f"Postfix has ended, process {pid}")
    except PostfixError as error:
        sys.exit(f"postfix.py: {error}")


if __name__ == "__main__":
    main()
