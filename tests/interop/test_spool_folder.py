"""A spool folder that is not as it was left: no way in, strange files, damaged ones.

Either the program says in one sentence why it does not start and what to do; or it starts, the rest of the mail is
delivered, and what is damaged is set aside with a QUARANTINE event and a line in the log. It is never silent.
"""

import ctypes
import hashlib
import pathlib
import subprocess
import unittest

import clients
import contents
from disk import Tmpfs, mount
from load import EVERYBODY, KIB, Books, Fickle, Load
from peers import postfix
from relay import Scenario, needs_posthouse
from upstream import Upstream
from waiting import wait_for

MIB = 1 << 20
SENDER, RECIPIENT = "sender@example.org", "rcpt@example.com"


@needs_posthouse
class SpoolFolder(Scenario):
    def setUp(self):
        super().setUp()
        self.books = Books("none")
        self.script = Fickle(self.books)
        self.script.calm, self.script.deferring = True, EVERYBODY
        self.upstream = self.enter(Upstream(self.script))

    def start(self, **settings):
        return self.relay(self.upstream, retry='first = "1s"\nmax = "1s"', **settings)

    def waiting(self, relay, count, size=2000, recipient=RECIPIENT):
        """So many messages of a text that is found again on the disk; their names."""
        chance, names = contents.chance(count), []
        for _ in range(count):
            names.append(f"{len(self.books.promised)}.{size}@load.example.org")
            content = f"Message-ID: <{names[-1]}>\r\n\r\n".encode() + b"".join(
                b"%s %s\r\n" % (names[-1].encode(), chance.randbytes(30).hex().encode()) for _ in range(size // 80))
            self.books.recipients[names[-1]] = [recipient]
            self.books.digests[names[-1]] = hashlib.sha256(content).hexdigest()
            clients.with_socket(relay.port, SENDER, [recipient], content)
            self.books.promised.append(names[-1])
        return names

    def after_a_crash(self, relay):
        relay.kill()
        relay.start()

    def delivers_all_but(self, relay, *damaged):
        """The others arrive, each once; nothing else waits."""
        self.script.deferring = None
        wait_for(lambda: {name for name, _ in self.books.unsettled()} <= set(damaged), 20,
                 lambda: f"{self.books.unsettled()} still wait\n{relay.log()}")
        self.assertEqual({name for name, _ in self.books.unsettled()}, set(damaged), relay.log())
        self.assertEqual((self.books.torn, self.books.strange, self.books.repeated()), ([], [], 0))
        self.assertTrue(relay.health()[0])

    def says_damage(self, relay, *names):
        """In the tracking log with the message's id where it is known, and in the program's own."""
        ids = {event["message_id"].strip("<>"): event["id"] for event in relay.events() if event["event"] == "RECEIVE"}

        def told():
            damages = [event for event in relay.events() if event["event"] == "QUARANTINE"]
            return damages and {ids[name] for name in names} <= {event.get("id") for event in damages}

        wait_for(told, 5, lambda: f"QUARANTINE events expected of {names}\n{relay.log()}")
        self.assertRegex(relay.said(), "(?i)(ERROR|WARN).*damage")

    def refused(self, relay, why, preexec=None):
        """The program ends by itself and says why, where, and what to do."""
        done = subprocess.run([relay.program, "run", "--config", str(relay.config)], capture_output=True, text=True,
                              timeout=30, preexec_fn=preexec)
        self.assertIn(done.returncode, (1, 2), f"a panic is no sentence: {done.stderr}")
        for part in (str(relay.spool), why):
            self.assertIn(part, done.stderr)
        self.assertRegex(done.stderr, "(make|must be|name another|move it)")

    # No way in.

    def test_a_read_only_disk_is_refused_with_a_sentence_and_nothing_is_lost(self):
        disk = self.enter(Tmpfs(self.folder / "disk", 32 * MIB))
        relay = self.start(spool=disk.folder / "spool")
        self.waiting(relay, 3)
        relay.kill()
        mount("-o", "remount,ro", disk.folder)
        self.refused(relay, "Read-only file system")
        mount("-o", "remount,rw", disk.folder)
        relay.start()
        self.delivers_all_but(relay)

    def test_a_folder_without_permission_is_refused_with_a_sentence_and_nothing_is_lost(self):
        relay = self.start()
        self.waiting(relay, 3)
        relay.kill()
        for mode in (0o000, 0o500):
            relay.spool.chmod(mode)
            self.refused(relay, "Permission denied", as_nobody_special)
        relay.spool.chmod(0o700)
        relay.start()
        self.delivers_all_but(relay)

    def test_a_file_in_the_place_of_the_folder_is_refused_with_a_sentence(self):
        relay = self.start()
        relay.stop()
        relay.spool.rename(relay.folder / "elsewhere")
        relay.spool.write_text("not a folder")
        self.refused(relay, "")

    # Strange files.

    def test_strange_files_are_left_alone_and_what_poses_as_ours_is_reported(self):
        relay = self.start()
        self.waiting(relay, 3)
        relay.kill()
        chance = contents.chance(1)
        [ours, *_] = sorted(path.name for path in relay.spool.glob("*.segment"))
        strangers = {"README.txt": b"hello", "core": chance.randbytes(4096), "empty": b"", "0-0.segment": b"short",
                     "0000000001.segment.bak": chance.randbytes(5000), "\u00e9.hint": b"?"}
        for name, octets in strangers.items():
            (relay.spool / name).write_bytes(octets)
        (relay.spool / "folder").mkdir()
        (relay.spool / "nowhere").symlink_to("/nonexistent/file")
        # Named like one of ours, with the number of another that is there; and as one that a crash cut at its birth.
        (relay.spool / f"{ours.partition('-')[0]}-{chance.randbytes(16).hex()}.segment").write_bytes(bytes(5000))
        (relay.spool / f"0000000801-{chance.randbytes(16).hex()}.segment").write_bytes(b"")
        relay.start()
        self.waiting(relay, 2)
        self.delivers_all_but(relay)
        self.says_damage(relay)
        for name, octets in strangers.items():
            self.assertEqual((relay.spool / name).read_bytes(), octets, name)
        self.after_a_crash(relay)
        self.assertEqual(relay.queue(), [])

    # Damaged ones.

    def test_a_flipped_octet_in_an_old_file_costs_one_message_and_is_told(self):
        for size in (2000, 75_000, 2 * MIB):
            with self.subTest(size=size):
                self.setUp()
                relay = self.start()
                names = self.waiting(relay, 4, size)
                self.after_a_crash(relay)
                self.waiting(relay, 4, size)
                relay.kill()
                flip(*place_of(relay.spool, names[1]), size // 2)
                relay.start()
                self.delivers_all_but(relay, names[1])
                self.says_damage(relay, names[1])
                self.after_a_crash(relay)

    def test_an_octet_flipped_while_the_program_runs_costs_one_message_and_is_told(self):
        for size in (2000, 2 * MIB):
            with self.subTest(size=size):
                self.setUp()
                relay = self.start()
                names = self.waiting(relay, 3, size)
                flip(*place_of(relay.spool, names[1]), size // 2)
                self.delivers_all_but(relay, names[1])
                self.says_damage(relay, names[1])

    # Today the message is set aside with it.
    def test_a_damaged_outcome_costs_no_message_but_is_told(self):
        # The upstream's words stand in the record of the deferral, behind the message that was accepted.
        for restarts in (0, 2):
            with self.subTest(restarts=restarts):
                self.setUp()
                relay = self.start()
                self.waiting(relay, 3)
                [path, *_] = wait_for(lambda: [path for path in relay.spool.glob("*.segment")
                                               if path.read_bytes().count(b"4.2.0 Later") >= 3], 10, "deferrals expected")
                for _ in range(restarts):
                    self.after_a_crash(relay)
                flip(path, path.read_bytes().find(b"4.2.0 Later"), 3)
                if restarts:
                    self.after_a_crash(relay)
                self.delivers_all_but(relay)
                self.says_damage(relay)
                relay.stop()

    def test_damage_in_a_file_that_is_compacted_costs_one_message_and_is_told(self):
        self.script.deferring = "example.net"
        relay = self.start()
        self.waiting(relay, 3, recipient="waits@example.net")
        [damaged, *_] = self.waiting(relay, 3, recipient="waits@example.net")
        path, at = place_of(relay.spool, damaged)
        flip(path, at, 1000)
        with Load(relay, self.books, (300 * KIB,), lambda _: [RECIPIENT]):
            wait_for(lambda: len(self.books.promised) > 500, 60, lambda: f"500 accepted expected\n{relay.log()}")
        wait_for(lambda: not self.books.unsettled("example.net"), 60, lambda: f"deliveries expected\n{relay.log()}")
        # The others have moved, whether the damaged file stays or its octets were set aside.
        wait_for(lambda: place_of(relay.spool, self.books.promised[0])[0] != path, 60, "compaction expected")
        self.delivers_all_but(relay, damaged)
        self.says_damage(relay, damaged)
        self.after_a_crash(relay)
        self.assertEqual(relay.queue(), [])

    def test_a_newest_file_that_was_cut_costs_what_was_cut(self):
        relay = self.start()
        self.waiting(relay, 4)
        self.after_a_crash(relay)
        names = self.waiting(relay, 4)
        relay.kill()
        # As a disk that lied about its sync leaves it: nobody can tell this from a write that was never promised.
        path, at = place_of(relay.spool, names[-1])
        truncate(path, at + 100)
        relay.start()
        self.waiting(relay, 2)
        self.delivers_all_but(relay, names[-1])
        self.after_a_crash(relay)

    def test_an_older_file_that_was_cut_costs_what_was_cut_and_is_told(self):
        relay = self.start()
        names = self.waiting(relay, 4)
        self.after_a_crash(relay)
        self.waiting(relay, 4)
        relay.kill()
        path, at = place_of(relay.spool, names[-1])
        truncate(path, at + 100)
        relay.start()
        self.says_damage(relay)
        self.waiting(relay, 2)
        self.delivers_all_but(relay, names[-1])

    def test_a_destroyed_beginning_costs_nothing_but_is_told(self):
        relay = self.start()
        names = self.waiting(relay, 4)
        self.after_a_crash(relay)
        self.waiting(relay, 4)
        relay.kill()
        path, _ = place_of(relay.spool, names[0])
        with open(path, "r+b") as file:
            file.write(bytes(12))
        relay.start()
        self.says_damage(relay)
        self.delivers_all_but(relay)

    def test_spoilt_hints_cost_nothing(self):
        chance = contents.chance(4)
        for spoil in (lambda octets: octets[:len(octets) // 2] + bytes([octets[len(octets) // 2] ^ 1])
                      + octets[len(octets) // 2 + 1:], lambda octets: octets[:-7], lambda octets: b"",
                      lambda octets: chance.randbytes(len(octets))):
            self.setUp()
            relay = self.start()
            self.waiting(relay, 4)
            self.waiting(relay, 1, 2 * MIB)
            self.after_a_crash(relay)
            self.waiting(relay, 4)
            self.after_a_crash(relay)
            wait_for(lambda: len(hints(relay)) >= 2, 10, "hints of sealed segments expected")
            relay.kill()
            for path in hints(relay):
                path.write_bytes(spoil(path.read_bytes()))
            relay.start()
            self.delivers_all_but(relay)
            relay.stop()

    def test_hints_that_change_places_cost_nothing(self):
        relay = self.start()
        for _ in range(2):
            self.waiting(relay, 4)
            self.after_a_crash(relay)
        wait_for(lambda: len(hints(relay)) >= 2, 10, "hints of sealed segments expected")
        relay.kill()
        first, second, *_ = hints(relay)
        octets = first.read_bytes()
        first.write_bytes(second.read_bytes())
        second.write_bytes(octets)
        relay.start()
        self.delivers_all_but(relay)

    def test_a_content_file_that_is_gone_or_cut_costs_its_message_and_is_told(self):
        for spoil in (lambda path: path.unlink(), lambda path: truncate(path, 1_000_000), lambda path: truncate(path, 0)):
            self.setUp()
            relay = self.start()
            names = self.waiting(relay, 3, 2 * MIB)
            relay.kill()
            path, _ = place_of(relay.spool, names[1])
            self.assertLess(path.stat().st_size, 3 * MIB, "a large content should have a file of its own")
            spoil(path)
            relay.start()
            self.delivers_all_but(relay, names[1])
            self.says_damage(relay, names[1])
            relay.stop()

    # Today it counts as one that was cut at its birth, and is unlinked without a word.
    def test_a_newest_file_of_nothing_but_noise_is_told(self):
        relay = self.start()
        self.waiting(relay, 4)
        self.after_a_crash(relay)
        names = self.waiting(relay, 4)
        relay.kill()
        path, _ = place_of(relay.spool, names[0])
        path.write_bytes(contents.chance(3).randbytes(path.stat().st_size))
        relay.start()
        self.says_damage(relay)
        self.delivers_all_but(relay, *names)


def as_nobody_special():
    """For `preexec_fn`: root without the right to pass over permissions."""
    postfix.ends_with_parent()
    drop_from_bounding_set, dac_override, dac_read_search = 24, 1, 2
    for right in (dac_override, dac_read_search):
        ctypes.CDLL(None).prctl(drop_from_bounding_set, right, 0, 0, 0)


def hints(relay):
    return sorted(relay.spool.glob("*.hint"))


def place_of(folder, name):
    """The file that holds the content of that message, and where its text begins."""
    for path in sorted(pathlib.Path(folder).rglob("*")):
        try:
            at = path.read_bytes().find(b"Message-ID: <%s>" % name.encode()) if path.is_file() else -1
        except FileNotFoundError:
            # Compaction was faster.
            continue
        if at >= 0:
            return path, at
    raise AssertionError(f"{name} is nowhere in {folder}")


def flip(path, at, offset):
    with open(path, "r+b") as file:
        file.seek(at + offset)
        [octet] = file.read(1)
        file.seek(at + offset)
        file.write(bytes([octet ^ 1]))


def truncate(path, length):
    with open(path, "r+b") as file:
        file.truncate(length)
