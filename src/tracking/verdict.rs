//! Is it the client, the network, or the server? The one place that answers it.
//!
//! Contract: [`of`] takes how a session ended and how far it had come, and gives a side and one sentence that says what
//! happened and where to look. An end in order with a refusal before it is about the refusal.
//! The reasoning: a connection that the other system closes in order was closed by a program, so that is the client's (or
//! a proxy's) doing; one that breaks, or falls silent amid content, is most often the network's; what we ended is ours,
//! and its reply says why.
//! Not here: which sessions are kept (`accept`).

use std::fmt;

use super::session::{Ended, SessionRecord, Stage};

/// Where to look first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// All went well.
    Nobody,
    Client,
    Network,
    /// This relay: its rules, its limits, its operator.
    Server,
    ClientOrNetwork,
    ClientOrServer,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Nobody => "nobody",
            Self::Client => "client",
            Self::Network => "network",
            Self::Server => "server",
            Self::ClientOrNetwork => "client or network",
            Self::ClientOrServer => "client or server",
        })
    }
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub side: Side,
    pub sentence: String,
}

pub(super) fn of(session: &SessionRecord) -> Verdict {
    let (side, template) = row(session);
    let silence = session.silence_ms.map_or_else(|| "some time".to_owned(), seconds);
    let detail = session.detail.as_deref().unwrap_or("see the last reply");
    // The sentence says so itself.
    let detail = detail.strip_prefix("the TLS handshake failed: ").unwrap_or(detail);
    let sentence = template.replace("{silence}", &silence).replace("{detail}", detail);
    Verdict { side, sentence }
}

fn seconds(millis: u64) -> String {
    match millis {
        0..1000 => format!("{millis} ms"),
        1000..60_000 => format!("{}.{} s", millis / 1000, millis % 1000 / 100),
        _ => format!("{} min {} s", millis / 60_000, millis % 60_000 / 1000),
    }
}

/// The table. `{silence}` is the time since the client's last octets, `{detail}` what was seen or said last.
fn row(session: &SessionRecord) -> (Side, &'static str) {
    match session.ended {
        Ended::Quit => quit(session),
        Ended::Closed => closed(session),
        Ended::Broken => broken(session.stage),
        Ended::Idle => idle(session.stage),
        Ended::NotTaken => (
            Side::ClientOrNetwork,
            "The client did not take our replies ({detail}): it hangs, or packets to it are lost; look at the client, \
             then at the network.",
        ),
        Ended::SentAway => (
            Side::Server,
            "We ended the session with \"{detail}\": a limit or a rule here; if the client is a good one, raise the limit.",
        ),
        Ended::Stopped => (Side::Server, "This relay was stopped; the client comes again by itself."),
        Ended::TlsFailed => (
            Side::ClientOrServer,
            "The TLS handshake failed: {detail}. Compare the client's TLS settings with this listener's.",
        ),
        Ended::NoProxyHeader => (
            Side::Network,
            "No valid PROXY header came ({detail}): whoever connected is no proxy, or the proxy does not send one; look \
             at the proxy, or at the listener's setting.",
        ),
    }
}

fn quit(session: &SessionRecord) -> (Side, &'static str) {
    match session {
        SessionRecord { refusals: 1.., messages: 0, .. } => (
            Side::ClientOrServer,
            "We refused something and the client took no for an answer: the replies of 4yz and 5yz say what and why.",
        ),
        SessionRecord { refusals: 1.., .. } => (
            Side::ClientOrServer,
            "Mail came in, and something else was refused: the replies of 4yz and 5yz say what and why.",
        ),
        SessionRecord { transactions: 1.., messages: 0, .. } => (
            Side::Client,
            "The client began a transaction and gave it up of its own accord; nothing had been refused. Was it a probe of \
             an address?",
        ),
        SessionRecord { stage: Stage::Greeted | Stage::BeforeHello, .. } => (
            Side::Client,
            "The client said QUIT without EHLO: a health check, or a client that wants something that the greeting lacks.",
        ),
        _ => (Side::Nobody, "All went well."),
    }
}

fn closed(session: &SessionRecord) -> (Side, &'static str) {
    match (session.stage, session.refusals) {
        (Stage::Proxy, _) => {
            (Side::Client, "The client connected and closed without a word: a port scan or a health check.")
        }
        (Stage::Greeted, _) if session.octets_in > 0 => (
            Side::Client,
            "The client sent {detail}, and closed: it does not speak SMTP, or it begins TLS where the listener begins in \
             clear.",
        ),
        (Stage::Greeted, _) => (
            Side::Client,
            "The client connected, was greeted, and closed without a word: a port scan, a health check, or a client that \
             did not like the greeting.",
        ),
        (Stage::BeforeHello, _) => (
            Side::Client,
            "The client spoke but never got to EHLO, and closed {silence} after its last words: is it a mail client at all?",
        ),
        (Stage::Tls, _) => {
            (Side::Client, "The client closed the connection in the TLS handshake: look at its TLS settings.")
        }
        (Stage::Auth, _) => (
            Side::Client,
            "The client closed when it was asked for its credentials: it has none, or not for this mechanism.",
        ),
        (Stage::Between | Stage::Envelope, 1..) => (
            Side::ClientOrServer,
            "The client closed without QUIT after a refusal: the last reply of 4yz or 5yz says what it did not like.",
        ),
        (Stage::Between, 0) if session.messages > 0 => {
            (Side::Nobody, "All went well, but for a QUIT that was not said.")
        }
        (Stage::Between, 0) => (
            Side::Client,
            "The client closed after EHLO without a message, {silence} after its last words; nothing had been refused. Does \
             it miss an extension, such as STARTTLS or AUTH?",
        ),
        (Stage::Envelope, 0) => (
            Side::Client,
            "The client closed in the middle of a transaction, {silence} after its last words, though nothing had been \
             refused: look at the client's log.",
        ),
        (Stage::Content, _) => (
            Side::ClientOrNetwork,
            "The client closed the connection in the middle of content, {silence} after the last octets: look at the \
             client, or at a proxy or firewall between.",
        ),
    }
}

fn broken(stage: Stage) -> (Side, &'static str) {
    match stage {
        Stage::Proxy | Stage::Greeted => (
            Side::ClientOrNetwork,
            "The connection broke before the client said anything ({detail}): a port scan, or a firewall between.",
        ),
        Stage::BeforeHello => {
            (Side::ClientOrNetwork, "The connection broke before EHLO ({detail}): hardly a mail client.")
        }
        Stage::Tls => (
            Side::ClientOrNetwork,
            "The connection broke in the TLS handshake ({detail}): look at the client.",
        ),
        Stage::Auth | Stage::Between => (
            Side::ClientOrNetwork,
            "The connection broke {silence} after the client's last words ({detail}): the client was ended or its system \
             restarted, or a firewall forgot the connection.",
        ),
        Stage::Envelope => (
            Side::ClientOrNetwork,
            "The connection broke in the middle of a transaction, {silence} after the client's last words ({detail}): look \
             at the client's log; if it knows nothing, at the network.",
        ),
        Stage::Content => (
            Side::Network,
            "The connection broke in the middle of content, {silence} after the last octets ({detail}): look at the \
             network first (lost large packets, firewall), then at the client.",
        ),
    }
}

fn idle(stage: Stage) -> (Side, &'static str) {
    match stage {
        Stage::Proxy | Stage::Greeted => (
            Side::ClientOrNetwork,
            "The client was greeted and never said a line: a connection that is open on our side only, or a client that \
             waits for something else than SMTP in clear.",
        ),
        Stage::BeforeHello => (Side::Client, "The client spoke but never got to EHLO, and then fell silent."),
        Stage::Tls => (Side::ClientOrNetwork, "The client fell silent in the TLS handshake."),
        Stage::Auth => (
            Side::Client,
            "The client never answered the challenge of AUTH: it waits for a person, or hangs.",
        ),
        Stage::Between => (
            Side::Client,
            "The client kept the connection open with nothing to say until its time was up; no message was under way.",
        ),
        Stage::Envelope => (
            Side::ClientOrNetwork,
            "The client fell silent in the middle of a transaction: it hangs, or its last commands were lost on the way.",
        ),
        Stage::Content => (
            Side::Network,
            "Content stopped coming, and the connection stayed open: most often large packets are lost on the way (path \
             MTU, a VPN, a firewall); else the client hangs.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::mail::SessionId;

    fn session(stage: Stage, ended: Ended, refusals: u32, transactions: u32, messages: u32) -> SessionRecord {
        SessionRecord {
            session: SessionId::from_chance(1),
            began: Timestamp::from_millis(0),
            duration_ms: 20_000,
            client: "192.0.2.7".parse().unwrap(),
            proxy: None,
            listener: None,
            hello: None,
            user: None,
            tls: None,
            commands: 0,
            refusals,
            transactions,
            messages,
            octets_in: 0,
            octets_out: 0,
            stage,
            ended,
            detail: Some("DETAIL".into()),
            silence_ms: Some(12_345),
            transcript: Vec::new(),
        }
    }

    #[test]
    fn each_row_of_the_table_names_its_side_and_where_to_look() {
        use Ended::*;
        use Side::{Client, ClientOrNetwork, ClientOrServer, Network, Nobody, Server};
        use Stage::*;
        for (stage, ended, (refusals, transactions, messages), side, words) in [
            (Between, Quit, (0, 1, 1), Nobody, "All went well."),
            (Between, Quit, (0, 0, 0), Nobody, "All went well."),
            (Between, Quit, (1, 1, 0), ClientOrServer, "We refused something and"),
            (Between, Quit, (1, 2, 1), ClientOrServer, "Mail came in, and something"),
            (Between, Quit, (0, 1, 0), Client, "gave it up of its own accord"),
            (BeforeHello, Quit, (0, 0, 0), Client, "said QUIT without EHLO"),
            (Greeted, Quit, (0, 0, 0), Client, "said QUIT without EHLO"),
            (Proxy, Closed, (0, 0, 0), Client, "closed without a word"),
            (Greeted, Closed, (0, 0, 0), Client, "was greeted, and closed without a word"),
            (
                BeforeHello,
                Closed,
                (1, 0, 0),
                Client,
                "closed 12.3 s after its last words: is it a mail client",
            ),
            (Tls, Closed, (0, 0, 0), Client, "in the TLS handshake"),
            (Auth, Closed, (0, 0, 0), Client, "asked for its credentials"),
            (Between, Closed, (1, 0, 0), ClientOrServer, "after a refusal"),
            (Envelope, Closed, (1, 1, 0), ClientOrServer, "after a refusal"),
            (Between, Closed, (0, 1, 1), Nobody, "but for a QUIT"),
            (Between, Closed, (0, 0, 0), Client, "after EHLO without a message, 12.3 s after"),
            (Envelope, Closed, (0, 1, 0), Client, "middle of a transaction, 12.3 s after"),
            (Content, Closed, (0, 1, 0), ClientOrNetwork, "middle of content, 12.3 s after the last octets"),
            (Greeted, Broken, (0, 0, 0), ClientOrNetwork, "before the client said anything (DETAIL)"),
            (BeforeHello, Broken, (0, 0, 0), ClientOrNetwork, "before EHLO (DETAIL)"),
            (Tls, Broken, (0, 0, 0), ClientOrNetwork, "TLS handshake (DETAIL)"),
            (Auth, Broken, (0, 0, 0), ClientOrNetwork, "12.3 s after the client's last words (DETAIL)"),
            (Between, Broken, (0, 0, 0), ClientOrNetwork, "12.3 s after the client's last words (DETAIL)"),
            (Envelope, Broken, (0, 1, 0), ClientOrNetwork, "transaction, 12.3 s after"),
            (Content, Broken, (0, 1, 0), Network, "content, 12.3 s after the last octets (DETAIL)"),
            (Greeted, Idle, (0, 0, 0), ClientOrNetwork, "never said a line"),
            (BeforeHello, Idle, (0, 0, 0), Client, "never got to EHLO"),
            (Tls, Idle, (0, 0, 0), ClientOrNetwork, "silent in the TLS handshake"),
            (Auth, Idle, (0, 0, 0), Client, "never answered the challenge"),
            (Between, Idle, (0, 0, 0), Client, "nothing to say"),
            (Envelope, Idle, (0, 1, 0), ClientOrNetwork, "silent in the middle of a transaction"),
            (Content, Idle, (0, 1, 0), Network, "large packets are lost"),
            (Content, NotTaken, (0, 1, 0), ClientOrNetwork, "did not take our replies (DETAIL)"),
            (Greeted, SentAway, (1, 0, 0), Server, "\"DETAIL\""),
            (Envelope, Stopped, (1, 1, 0), Server, "was stopped"),
            (Tls, TlsFailed, (0, 0, 0), ClientOrServer, "failed: DETAIL."),
            (Proxy, NoProxyHeader, (0, 0, 0), Network, "(DETAIL)"),
        ] {
            let verdict = session(stage, ended, refusals, transactions, messages).verdict();
            assert_eq!(verdict.side, side, "{stage} {ended}: {}", verdict.sentence);
            assert!(verdict.sentence.contains(words), "{stage} {ended}: {}", verdict.sentence);
        }
    }

    #[test]
    fn every_stage_and_end_has_a_sentence_without_holes() {
        for stage in Stage::ALL {
            for ended in Ended::ALL {
                for refusals in [0, 1] {
                    let sentence = session(*stage, *ended, refusals, 0, 0).verdict().sentence;
                    assert!(sentence.ends_with(['.', '?']) && !sentence.contains(['{', '}']), "{sentence}");
                }
            }
        }
    }

    #[test]
    fn that_a_handshake_failed_is_said_once() {
        let mut failed = session(Stage::Tls, Ended::TlsFailed, 0, 0, 0);
        failed.detail = Some("the TLS handshake failed: peer misbehaved".into());
        let sentence = failed.verdict().sentence;
        assert!(sentence.starts_with("The TLS handshake failed: peer misbehaved."), "{sentence}");
    }

    #[test]
    fn a_client_that_sends_something_that_is_no_line_is_told_from_one_that_is_silent() {
        let mut tls_in_clear = session(Stage::Greeted, Ended::Closed, 0, 0, 0);
        tls_in_clear.octets_in = 300;
        tls_in_clear.detail = Some("the beginning of a TLS handshake".into());
        assert!(
            tls_in_clear.verdict().sentence.contains("sent the beginning of a TLS handshake, and closed")
        );
    }
}
