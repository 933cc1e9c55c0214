"""The lab's upstream on a port, for programs that know nothing of posthouse; a whole lab that others send through."""

import base64
import json
import os
import pathlib
import signal
import smtplib
import ssl
import subprocess

import clients
import contents
from lab import Lab
from peers import NODE_MODULES
from relay import Scenario, needs_posthouse
from waiting import HOST, wait_for

SENDER, RECIPIENT = "alice@example.org", "bob@example.com"
CONTENT = contents.SEVEN_BIT["leading-dots"]


class InFrontOfALab(Scenario):
    def lab(self, *words):
        return self.enter(Lab(self.folder, *words))

    def upstream(self, *rules, speed="1"):
        return self.lab("upstream", "--speed", speed, *(f"--say={rule}" for rule in rules))


@needs_posthouse
class AnApplicationThatTriesAgain(InFrontOfALab):
    """retry.js: nodemailer and a loop."""

    def application(self, lab, recipient=RECIPIENT, attempts=5, timeout=20_000):
        """Its attempts, and whether the message was taken in the end."""
        job = {"host": HOST, "port": lab.port, "envelope": {"from": SENDER, "to": [recipient]}, "attempts": attempts,
               "raw": base64.b64encode(CONTENT).decode(), "pause": 50, "timeout": timeout}
        done = subprocess.run(["node", pathlib.Path(__file__).with_name("retry.js")], input=json.dumps(job).encode(),
                              capture_output=True, timeout=120, env={**os.environ, "NODE_PATH": str(NODE_MODULES)})
        self.assertIn(done.returncode, (0, 1), done.stderr.decode())
        return [json.loads(line) for line in done.stdout.splitlines()], done.returncode == 0

    def holds(self, lab, count):
        """The inbox has the message so many times, octet for octet."""
        rows = lab.inbox()
        self.assertEqual([(row["sender"], row["recipients"]) for row in rows], [(SENDER, [RECIPIENT])] * count)
        self.assertEqual([lab.content(row["number"]) for row in rows], [CONTENT] * count)

    def test_comes_again_after_451_until_it_is_taken(self):
        lab = self.upstream("rcpt bob@example.com attempt 1..2: 451 4.7.1 try later")
        attempts, taken = self.application(lab)
        self.assertTrue(taken, attempts)
        self.assertEqual([attempt.get("error") for attempt in attempts], ["EENVELOPE", "EENVELOPE", None])
        later = (RECIPIENT, "451 4.7.1 try later")
        self.assertEqual(lab.asked("rcpt"), [later, later, (RECIPIENT, "accept")])
        self.holds(lab, 1)

    def test_does_not_come_again_after_550(self):
        lab = self.upstream("rcpt bob@example.com: 550 5.1.1 nobody of that name")
        attempts, taken = self.application(lab)
        self.assertFalse(taken)
        self.assertEqual([attempt["reply"] for attempt in attempts], ["550 5.1.1 nobody of that name"])
        self.assertEqual(lab.asked("rcpt"), [(RECIPIENT, "550 5.1.1 nobody of that name")])
        self.holds(lab, 0)

    def test_sends_twice_what_was_kept_before_the_connection_broke(self):
        lab = self.upstream("dot: keep and close, once")
        attempts, taken = self.application(lab)
        self.assertTrue(taken, attempts)
        self.assertEqual([(attempt.get("error"), attempt.get("reply")) for attempt in attempts][0], ("ECONNECTION", None))
        self.assertEqual([did for _, did in lab.asked("dot")], ["keep and close", "accept"])
        self.holds(lab, 2)

    def test_sends_once_what_was_lost_behind_a_250(self):
        lab = self.upstream("dot: lose")
        attempts, taken = self.application(lab)
        self.assertTrue(taken and len(attempts) == 1, attempts)
        self.holds(lab, 0)

    def test_gives_up_on_a_server_that_falls_silent_by_its_own_clock(self):
        lab = self.upstream()
        attempts, taken = self.application(lab, "timeout@example.com", attempts=2, timeout=2_000)
        self.assertFalse(taken)
        self.assertEqual([attempt["error"] for attempt in attempts], ["ETIMEDOUT"] * 2)
        self.assertEqual(lab.asked("rcpt"), [("timeout@example.com", "silence")] * 2)

    def test_gives_up_where_the_certificate_is_nobodys(self):
        lab = self.upstream("starttls: accept")
        attempts, taken = self.application(lab, attempts=2)
        self.assertFalse(taken)
        self.assertEqual([attempt["error"] for attempt in attempts], ["ESOCKET"] * 2)
        self.assertEqual(lab.asked("mail"), [])

    def test_is_told_other_things_while_it_runs(self):
        lab = self.upstream("connect: close")
        attempts, taken = self.application(lab, attempts=2)
        self.assertFalse(taken)
        self.assertEqual(len(lab.asked("connect")), 2, attempts)
        lab.command("say", "--forget", "1")
        _, taken = self.application(lab, attempts=1)
        self.assertTrue(taken)
        self.holds(lab, 1)


@needs_posthouse
class MagicAddressesMeetSmtplib(InFrontOfALab):
    def setUp(self):
        super().setUp()
        self.upstream_at_work = self.upstream(speed="3600")

    def send(self, local_part, timeout=30):
        """Returns the name of what was raised and the codes in it; None when the message was taken."""
        recipient = f"{local_part}@example.com"
        try:
            with smtplib.SMTP(HOST, self.upstream_at_work.port, "client.example.org", timeout) as smtp:
                smtp.sendmail(SENDER, [recipient], CONTENT)
        except smtplib.SMTPRecipientsRefused as refused:
            return "recipient", refused.recipients[recipient][0]
        except smtplib.SMTPResponseException as refused:
            return type(refused).__name__, refused.smtp_code
        except (smtplib.SMTPServerDisconnected, OSError) as broken:
            return type(broken).__name__

    def kept(self):
        return [row["recipients"] for row in self.upstream_at_work.inbox()]

    def test_an_address_says_what_becomes_of_it(self):
        self.assertIsNone(self.send("bob"))
        self.assertEqual(self.send("550"), ("recipient", 550))
        self.assertEqual(self.send("452-at-dot"), ("SMTPDataError", 452))
        self.assertEqual(self.send("451-at-data"), ("SMTPDataError", 451))
        self.assertEqual(self.send("close"), "SMTPServerDisconnected")
        self.assertEqual(self.send("reset"), "SMTPServerDisconnected")
        self.assertEqual(self.send("garbage"), ("recipient", -1))
        self.assertEqual(self.send("timeout", timeout=2), "SMTPServerDisconnected")
        self.assertEqual(self.kept(), [["bob@example.com"]])

    def test_so_often_and_then_no_more(self):
        self.assertEqual([self.send("451-2times") for _ in range(3)], [("recipient", 451)] * 2 + [None])
        self.assertEqual(self.kept(), [["451-2times@example.com"]])

    def test_so_long_on_the_labs_clock(self):
        self.assertEqual(self.send("451-for-1h"), ("recipient", 451))
        # An hour passes in a second.
        wait_for(lambda: self.send("451-for-1h") is None, 20, "taken after an hour")

    def test_lost_is_taken_and_gone_and_kept_is_kept_without_a_word(self):
        self.assertIsNone(self.send("lost"))
        self.assertEqual(self.send("kept"), "SMTPServerDisconnected")
        self.assertEqual(self.kept(), [["kept@example.com"]])


@needs_posthouse
class TheUpstreamAsAServer(InFrontOfALab):
    def test_every_content_is_kept_octet_for_octet(self):
        lab = self.upstream()
        for number, (name, content) in enumerate(contents.SEVEN_BIT.items(), 1):
            with self.subTest(name):
                clients.with_socket(lab.port, SENDER, [RECIPIENT], content)
                self.assertEqual(lab.content(number), contents.with_end(content))

    def test_starttls_with_a_certificate_that_nobody_trusts(self):
        lab = self.upstream("starttls: accept")
        with smtplib.SMTP(HOST, lab.port, "client.example.org", 30) as smtp:
            with self.assertRaises(ssl.SSLCertVerificationError):
                smtp.starttls(context=ssl.create_default_context())
        trusting = ssl.create_default_context()
        trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
        with smtplib.SMTP(HOST, lab.port, "client.example.org", 30) as smtp:
            smtp.starttls(context=trusting)
            smtp.ehlo()
            self.assertFalse(smtp.has_extn("starttls"), "it is not offered within TLS")
            smtp.sendmail(SENDER, [RECIPIENT], CONTENT)
        self.assertEqual(lab.content(1), CONTENT)

    def test_a_certificate_that_has_expired(self):
        lab = self.upstream("starttls: certificate expired, once")
        self.assertEqual([self.valid(lab), self.valid(lab)], [False, True])

    def valid(self, lab):
        """Whether the certificate that openssl is shown is still valid."""
        shown = subprocess.run(["openssl", "s_client", "-starttls", "smtp", "-connect", f"{HOST}:{lab.port}"],
                               input=b"", capture_output=True, timeout=30).stdout
        ends = subprocess.run(["openssl", "x509", "-noout", "-checkend", "0"], input=shown, capture_output=True, timeout=30)
        self.assertIn(b"Certificate will", ends.stdout, ends.stderr)
        return ends.returncode == 0


@needs_posthouse
class AWholeLab(InFrontOfALab):
    @staticmethod
    def mail(lab):
        """What it holds but for notices."""
        return [row for row in lab.inbox() if row["sender"] == SENDER]

    def test_swaks_joins_the_story_and_nothing_is_left_behind(self):
        # Two hours pass in a second: it is delayed after two, and given up after 24.
        lab = self.lab("up", "--no-samples", "--speed", "7200")
        clients.with_swaks(lab.port, SENDER, [RECIPIENT], CONTENT)
        lab.tells(f"{RECIPIENT}, attempt 1: delivered")

        lab.command("say", f"rcpt {RECIPIENT}: 451 4.7.1 try later")
        clients.with_swaks(lab.port, SENDER, [RECIPIENT], CONTENT)
        notice = wait_for(lambda: next((row for row in lab.inbox() if row["sender"] == "<>"), None), 30,
                          lambda: f"a delay notice expected:\n{lab.told()}")
        lab.command("say", "--forget", "1")
        self.assertEqual(notice["recipients"], [SENDER])
        self.assertIn(b"will keep trying", lab.content(notice["number"]))
        wait_for(lambda: len(self.mail(lab)) == 2, 30, lambda: f"two messages expected:\n{lab.told()}")
        for row in self.mail(lab):
            self.assertEqual(row["recipients"], [RECIPIENT])
            self.assertEqual(contents.without_traces(lab.content(row["number"]), 1), CONTENT)

        self.assertEqual(lab.end(signal.SIGINT), 0)
        self.assertIn("2 messages: delivered to 2 recipients", lab.told())
        self.assertFalse(lab.dir.exists(), "its folder is gone")
