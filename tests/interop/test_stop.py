"""Signals: SIGTERM ends the relay in good order within its deadline, keeps the queue, and the next start goes on.

SIGHUP has the configuration read anew while mail goes on.
"""

import signal
import subprocess
import urllib.error
import urllib.request

import clients
import contents
from relay import Scenario, needs_posthouse
from upstream import Script, Upstream
from waiting import HOST, free_port, wait_for

SENDER, RECIPIENT = "sender@example.org", "rcpt@example.com"
CONTENT = contents.SEVEN_BIT["plain"]


class Slow(Script):
    """Takes two seconds to say 250, and counts what it began to say it to."""

    def __init__(self):
        self.begun = 0

    def content(self, session, message):
        self.begun += 1
        return 2.0, "250 2.0.0 Ok"


class Stop(Scenario):
    def test_what_waits_is_kept_and_delivered_after_the_next_start(self):
        port = free_port()
        relay = self.relay(f"smtp://{HOST}:{port}", retry='first = "1s"\nmax = "2s"')
        for _ in range(20):
            clients.with_socket(relay.port, SENDER, [RECIPIENT], CONTENT)
        status, _ = relay.stop()
        self.assertEqual(status, 0, relay.log())
        upstream = self.enter(Upstream(port=port))
        relay.start()
        self.received(upstream, 20, 60)

    @needs_posthouse
    def test_a_delivery_under_way_is_finished_and_not_repeated(self):
        upstream = self.enter(Upstream(Slow()))
        relay = self.relay(upstream)
        clients.with_socket(relay.port, SENDER, [RECIPIENT], CONTENT)
        wait_for(lambda: upstream.script.begun, 20, "the delivery should have begun")
        status, seconds = relay.stop()
        self.assertEqual(status, 0, relay.log())
        self.assertLess(seconds, 30)
        relay.start()
        clients.with_socket(relay.port, SENDER, ["last@example.com"], CONTENT)
        messages = self.received(upstream, 2)
        self.assertEqual([message.addresses for message in messages], [[RECIPIENT], ["last@example.com"]])

    @needs_posthouse
    def test_an_idle_client_does_not_hold_up_the_end(self):
        upstream = self.enter(Upstream())
        relay = self.relay(upstream)
        with clients.Dialogue(relay.port) as idle:
            idle.greet()
            status, seconds = relay.stop()
            self.assertEqual(status, 0, relay.log())
            self.assertLess(seconds, 15)
            self.assertIn(idle.reply()[:3], ("421", ""))

    @needs_posthouse
    def test_a_second_relay_on_the_same_spool_is_refused_with_a_sentence(self):
        upstream = self.enter(Upstream())
        relay = self.relay(upstream)
        second = subprocess.run([relay.program, "run", "--listen", f"{HOST}:{free_port()}", "--upstream", upstream.url,
                                 "--spool", str(relay.spool)], capture_output=True, text=True, timeout=30)
        self.assertNotEqual(second.returncode, 0)
        self.assertIn(str(relay.spool), second.stderr + second.stdout)
        clients.with_socket(relay.port, SENDER, [RECIPIENT], CONTENT)
        self.received(upstream, 1)

    @needs_posthouse
    def test_sighup_leads_mail_to_the_upstream_that_is_now_configured(self):
        first, second = self.enter(Upstream()), self.enter(Upstream())
        relay = self.relay(first)
        clients.with_socket(relay.port, SENDER, [RECIPIENT], CONTENT)
        self.received(first, 1)
        relay.reload(second)

        def led_to_the_second():
            clients.with_socket(relay.port, SENDER, [RECIPIENT], CONTENT)
            return second.messages

        wait_for(led_to_the_second, 20, lambda: f"no message at the second upstream\n{relay.log()}")

    @needs_posthouse
    def test_sighup_with_a_bad_configuration_changes_nothing(self):
        upstream = self.enter(Upstream())
        relay = self.relay(upstream)
        relay.settings = "[nonsense]"
        relay.reload(upstream)
        wait_for(lambda: "nonsense" in relay.log(), 10, lambda: f"the fault should be in the log:\n{relay.log()}")
        clients.with_socket(relay.port, SENDER, [RECIPIENT], CONTENT)
        self.received(upstream, 1)

    @needs_posthouse
    def test_a_refused_sighup_takes_over_nothing_at_all(self):
        first, second = self.enter(Upstream()), self.enter(Upstream())
        tokens, port = self.folder / "token", free_port()
        before, after = "before" * 5, "after" * 5
        tokens.write_text(before)
        admin = f'[admin]\naddress = "{HOST}:{port}"\ntoken_file = "{tokens}"\n'
        relay = self.relay(first, tls="starttls", settings=f"{admin}[tls]\nself_signed = true\n")

        def permits(token):
            asked = urllib.request.Request(f"http://{HOST}:{port}/v1/queue", headers={"Authorization": f"Bearer {token}"})
            try:
                return urllib.request.urlopen(asked, timeout=10).status == 200
            except urllib.error.HTTPError as error:
                return error.code != 401

        def is_refused(times):
            wait_for(lambda: relay.said().count("was not reloaded") == times, 10, relay.log)
            self.assertEqual((permits(before), permits(after)), (True, False))
            clients.with_socket(relay.port, SENDER, [RECIPIENT], CONTENT)
            self.received(first, times)

        tokens.write_text(after)
        relay.configure([second.url])
        relay.config.write_text(relay.config.read_text().replace("relay.example.org", "other.example.org"))
        relay.process.send_signal(signal.SIGHUP)
        is_refused(1)
        # A certificate that can be neither read nor made.
        kept = relay.spool / "self-signed.pem"
        kept.unlink()
        kept.mkdir()
        relay.reload(second)
        is_refused(2)
        kept.rmdir()
        relay.reload(second)
        wait_for(lambda: permits(after), 10, relay.log)
        clients.with_socket(relay.port, SENDER, [RECIPIENT], CONTENT)
        self.received(second, 1)
