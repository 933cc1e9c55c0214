"""Servers of other makers as upstreams: Postfix, Exim, OpenSMTPD, Postfix's smtp-sink as an LMTP server.

Contract: each listens on 127.0.0.1, is a context manager, and ends with its block. `arrived()` gives each content as this
server passed it on, with `traces` Received fields of its own on top of the relay's; `connections()` counts those that it
was offered. `nobody@example.com` is refused for good; while `later` is set everybody else at MAYBE is deferred.
Invariants: nothing outside of the folder is written. Exim and OpenSMTPD insist on accounts of their own: they get them
in a mount namespace, where /etc/passwd and /etc/group are copies with these accounts in them.
Not here: what is asserted (`test_upstreams.py`), servers that are Python's or node's (`upstream`).
"""

import os
import pathlib
import re
import signal
import subprocess
import unittest

import clients
from peers import postfix
from upstream import Upstream
from waiting import HOST, free_port, wait_for

NOBODY, MAYBE = "nobody@example.com", "maybe@example.com"
USER, PASSWORD = "me", "a password for tests"


def in_own_namespace(folder, accounts, prepare, command):
    """The words that run `command` where these accounts exist and the shell lines in `prepare` were done."""
    if os.getuid() != 0:
        raise unittest.SkipTest("accounts for other makers' servers need a mount namespace: run as root")
    users, groups = folder / "passwd", folder / "group"
    names = [f"{name}:x:{990 + number}:" for number, name in enumerate(accounts)]
    users.write_text(pathlib.Path("/etc/passwd").read_text() +
                     "".join(f"{name}{990 + number}::/nonexistent:/bin/false\n" for number, name in enumerate(names)))
    groups.write_text(pathlib.Path("/etc/group").read_text() + "".join(f"{name}\n" for name in names))
    script = "\n".join(["set -e", f"mount --bind '{users}' /etc/passwd", f"mount --bind '{groups}' /etc/group",
                        *prepare, 'exec "$@"'])
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode:
        raise unittest.SkipTest("this machine permits no mount namespace")
    return ["unshare", "--mount", "sh", "-c", script, "sh", *map(str, command)]


class Server:
    """What they have in common. `certificate` is (certificate file, key file)."""

    name = None
    traces = 1
    changes = ()
    """Contents that it changes by its own account."""

    def __init__(self, folder, certificate=None, auth=False):
        self.folder, self.certificate, self.auth = pathlib.Path(folder) / self.name, certificate, auth
        self.port, self.process = free_port(), None
        self.folder.mkdir(parents=True)
        os.chmod(self.folder, 0o755)

    @property
    def url(self):
        return f"smtp://{HOST}:{self.port}"

    def launch(self, command, environment=None):
        self.out = self.folder / "out"
        with open(self.out, "ab") as out:
            self.process = subprocess.Popen(command, env={**postfix.environment(), **(environment or {})},
                                            stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
                                            preexec_fn=postfix.ends_with_parent)
        wait_for(lambda: self.process.poll() is None and postfix.greets(self.port), 20,
                 lambda: f"{self.name} did not greet:\n{self.log()}")
        # Asking whether it greets was a connection, too.
        self.greeted = self.count()

    def connections(self):
        return self.count() - self.greeted

    def log(self):
        return "\n".join(path.read_text(errors="replace") for path in self.logs() if path.exists())

    def logs(self):
        return [self.out]

    def count(self):
        return len(re.findall(self.connected, self.log()))

    def __exit__(self, *_):
        if self.process and self.process.poll() is None:
            # A session of its own: its children end with it.
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait(10)


class Behind(Server):
    """One that passes everything on to a recording server of ours."""

    def __init__(self, *arguments, **settings):
        super().__init__(*arguments, **settings)
        self.sink = Upstream()

    def __enter__(self):
        self.sink.__enter__()
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        super().__exit__()
        self.sink.__exit__()

    def arrived(self):
        return [message.content for message in self.sink.messages]

    def addresses(self):
        return sorted(address for message in self.sink.messages for address in message.addresses)


class Postfix(Behind):
    name = "postfix"
    connected = r"connect from localhost"

    def start(self):
        self.later = False
        extra = "message_size_limit = 50000000\nmaillog_file_permissions = 0644\n"
        if self.certificate:
            extra += (f"smtpd_tls_security_level = may\nsmtpd_tls_cert_file = {self.certificate[0]}\n"
                      f"smtpd_tls_key_file = {self.certificate[1]}\nsmtpd_tls_loglevel = 1\n")
        self.postfix = postfix.Postfix(self.folder, self.port, (HOST, self.sink.port), extra + self.restrictions())
        self.postfix.start()
        self.greeted = self.count()

    def restrictions(self):
        said = f"{{ {NOBODY} = 550 5.1.1 no such user }}"
        if self.later:
            said += f" {{ {MAYBE} = 450 4.2.0 come back later }}"
        return f"smtpd_recipient_restrictions = check_recipient_access inline:{{ {said} }}\n"

    def defer(self, later):
        self.later = later
        main = self.folder / "config/main.cf"
        lines = [line for line in main.read_text().splitlines(keepends=True)
                 if not line.startswith("smtpd_recipient_restrictions")]
        main.write_text("".join(lines) + self.restrictions())
        os.kill(self.postfix.master_pid(), signal.SIGHUP)
        # A process that was there before may still serve one connection as before.
        wait_for(lambda: self.says_to(MAYBE).startswith("450" if later else "250"), 10, "Postfix did not reload")
        self.greeted = self.count()

    def says_to(self, recipient):
        with clients.Dialogue(self.port) as dialogue:
            dialogue.greet()
            dialogue.say("MAIL FROM:<sender@example.org>", "250")
            return dialogue.say(f"RCPT TO:<{recipient}>")

    def logs(self):
        return [self.folder / "log"]

    def __exit__(self, *_):
        if getattr(self, "postfix", None):
            self.postfix.stop()
        self.sink.__exit__()

    def used_tls(self):
        return "TLS connection established from" in self.log()


class Exim(Server):
    name = "exim"
    connected = r"SMTP connection from .*\(TCP/IP connection count"

    CONFIG = """\
primary_hostname = exim.example.org
spool_directory = {folder}/spool
log_file_path = {folder}/%slog
pid_file_path = {folder}/pid
log_selector = +smtp_connection
never_users =
deliver_drop_privilege
keep_environment = LD_LIBRARY_PATH
add_environment =
host_lookup =
rfc1413_hosts =
message_size_limit = 50M
smtp_accept_max_per_connection = 1000
smtp_accept_queue_per_connection = 0
dsn_advertise_hosts = *
chunking_advertise_hosts = *
pipelining_advertise_hosts = *
smtputf8_advertise_hosts = *
{tls}
acl_smtp_rcpt = recipients
begin acl
recipients:
  deny local_parts = nobody
       message = 5.1.1 no such user
  defer local_parts = maybe
       condition = ${{if exists{{{folder}/later}}}}
       message = 4.2.0 come back later
  accept
begin routers
all:
  driver = accept
  transport = box
begin transports
box:
  driver = appendfile
  user = {user}
  group = {user}
  file = {folder}/mail/$message_exim_id
  create_file = anywhere
  batch_max = 1000
  use_crlf
  message_prefix =
  message_suffix =
  check_string =
  escape_string =
begin retry
* * F,1h,1m
begin authenticators
{auth}
"""
    PLAIN = """\
plain:
  driver = plaintext
  public_name = PLAIN
  server_condition = ${{if and {{{{eq{{$auth2}}{{{user}}}}}{{eq{{$auth3}}{{{password}}}}}}}}}
  server_set_id = $auth2
"""

    def __enter__(self):
        account = "Debian-exim"
        tls = "tls_advertise_hosts ="
        if self.certificate:
            tls = f"tls_certificate = {self.certificate[0]}\ntls_privatekey = {self.certificate[1]}"
            tls = f"tls_advertise_hosts = *\n{tls}"
        for name in ("spool", "mail"):
            (self.folder / name).mkdir()
        # Exim gives root away and writes as its own account, by its number: that of the namespace.
        for path in (self.folder, self.folder / "spool", self.folder / "mail"):
            os.chown(path, 990, 990)
        if self.certificate:
            os.chmod(self.certificate[1], 0o644)
        config = self.folder / "exim.conf"
        auth = self.PLAIN.format(user=USER, password=PASSWORD) if self.auth else ""
        config.write_text(self.CONFIG.format(folder=self.folder, tls=tls, user=account, auth=auth))
        program = postfix.ROOT / "usr/sbin/exim4"
        command = [program, "-C", config, "-bdf", "-oX", f"{self.port}", "-oP", self.folder / "pid"]
        config.write_text("local_interfaces = 127.0.0.1\n" + config.read_text())
        self.launch(in_own_namespace(self.folder, [account], [], command))
        return self

    def defer(self, later):
        mark = self.folder / "later"
        mark.touch() if later else mark.unlink()

    def logs(self):
        return [self.out, self.folder / "mainlog", self.folder / "paniclog"]

    def files(self):
        # One that is still being delivered has no line of completion yet.
        done = set(re.findall(r" (\S+) Completed", self.log()))
        return [path for path in sorted((self.folder / "mail").iterdir()) if path.name in done]

    def arrived(self):
        return [path.read_bytes() for path in self.files()]

    def addresses(self):
        return sorted(re.findall(r" [-=]> (?:\S+ )?<(\S+)> R=all", self.log()) or
                      re.findall(r" [-=]> (\S+@\S+) (?:<\S+> )?R=all", self.log()))

    def used_tls(self):
        return " X=TLS" in self.log()


class OpenSmtpd(Behind):
    """Without TLS, and so without AUTH: as Debian 12 has it, built for an older OpenSSL, every handshake with it fails
    ("missing private key"), also that of `openssl s_client`."""

    name = "opensmtpd"
    connected = r"smtp connected address"

    def start(self):
        listen = f"listen on {HOST} port {self.port} hostname opensmtpd.example.org"
        config = self.folder / "smtpd.conf"
        config.write_text(f'smtp max-message-size 50M\ntable nobody {{ "{NOBODY}" }}\n{listen}\n'
                          f'action "on" relay host smtp://{HOST}:{self.sink.port}\n'
                          'match from any for any rcpt-to <nobody> reject\nmatch from any for any action "on"\n')
        os.chmod(config, 0o600)
        spool = self.folder / "spool"
        spool.mkdir()
        os.chmod(spool, 0o711)
        # Where it keeps things is compiled into it.
        prepare = ["mount -t tmpfs none /var/lib", "mkdir -p -m 711 /var/lib/opensmtpd/empty",
                   "mount -t tmpfs none /var/spool", "mkdir -m 711 /var/spool/smtpd", "mount -t tmpfs none /run"]
        command = [postfix.ROOT / "usr/sbin/smtpd", "-dv", "-f", config]
        self.launch(in_own_namespace(self.folder, ["opensmtpd", "opensmtpq"], prepare, command))


class LmtpSink(Server):
    """smtp-sink -L: LMTP, one reply for each recipient, and each message into a file."""

    name = "lmtp"
    traces = 1

    @property
    def url(self):
        return f"lmtp://{HOST}:{self.port}"

    def __enter__(self):
        account, _ = postfix.accounts()
        os.chown(self.folder, account.pw_uid, account.pw_gid)
        as_account = ["-u", account.pw_name] if os.getuid() == 0 else []
        self.process = subprocess.Popen(
            [postfix.tool("smtp-sink"), *as_account, "-L", "-d", f"{self.folder}/message.", f"{HOST}:{self.port}", "100"],
            env=postfix.environment(), stdin=subprocess.DEVNULL, preexec_fn=postfix.ends_with_parent,
            start_new_session=True)
        wait_for(lambda: postfix.greets(self.port), 10, "smtp-sink did not greet")
        return self

    def arrived(self):
        """What stands below the X- fields and the Received that it writes itself."""
        dumps = [path.read_bytes() for path in sorted(self.folder.glob("message.*")) if path.stat().st_size]
        return [dump.replace(b"\n", b"\r\n") if b"\r\n" not in dump else dump for dump in dumps]
