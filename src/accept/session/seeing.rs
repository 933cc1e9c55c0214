//! What is noted of a session while it runs, and told of it when it has ended.
//!
//! Contract: the session says when octets came and went, how far it is, and what ended it; [`Session::tell_end`] judges
//! the whole once and hands it to the tracking log. Of several ends the first one counts: what comes of it is no cause.
//! Times within a session are real time (tokio's clock), whatever the relay's clock does.
//! Not here: what is recorded of the dialogue (`smtp::server::Tape`), which sessions are kept (`transcripts`), what is
//! to be thought of one (`tracking`).

use std::error::Error;
use std::net::IpAddr;

use tokio::time::Instant;

use super::super::transcripts::{KeepSessions, recording_octets};
use super::Session;
use crate::accept::ListenerTls;
use crate::clock::Timestamp;
use crate::net::TlsFacts;
use crate::smtp::server::{Server, Speaker, TapeLine};
use crate::tracking::{By, Ended, SessionRecord, Spoken, Stage};

/// The first octets of a TLS handshake: a record of that type, of any version.
const TLS_RECORD: [u8; 2] = [0x16, 0x03];

/// The facts of a session that is running.
pub(super) struct Seen {
    began: Timestamp,
    since: Instant,
    octets_in: u64,
    octets_out: u64,
    stage: Stage,
    ended: Option<(Ended, Option<String>)>,
    tls_in_clear: bool,
    /// Who connected, where a proxy has named another.
    pub proxy: Option<IpAddr>,
}

impl Seen {
    pub fn new(began: Timestamp) -> Self {
        Self {
            began,
            since: Instant::now(),
            octets_in: 0,
            octets_out: 0,
            stage: Stage::Greeted,
            ended: None,
            tls_in_clear: false,
            proxy: None,
        }
    }

    /// How far the session is, where the dialogue cannot know it.
    pub fn at(&mut self, stage: Stage) {
        self.stage = stage;
    }

    /// The same, as the dialogue says.
    pub fn reads(&mut self, server: &mut Server) {
        self.stage = if server.receiving_content() {
            Stage::Content
        } else if server.in_transaction() {
            Stage::Envelope
        } else if server.awaits_response() {
            Stage::Auth
        } else if server.client_name().is_some() || server.tape().tally().messages > 0 {
            Stage::Between
        } else if server.tape().tally().commands > 0 {
            Stage::BeforeHello
        } else {
            Stage::Greeted
        };
    }

    pub fn heard(&mut self, server: &mut Server, octets: usize) {
        if self.octets_in == 0 {
            self.tls_in_clear = !server.is_tls() && server.read_buffer().starts_with(&TLS_RECORD);
        }
        self.octets_in += octets as u64;
        if server.tape().is_recording() {
            let now = self.millis();
            server.tape().heard_at(now);
        }
    }

    pub fn says(&mut self, server: &mut Server) {
        self.octets_out += server.output().len() as u64;
        if server.tape().is_recording() {
            let now = self.millis();
            server.tape().sent_at(now);
        }
    }

    /// What ended the session.
    pub fn end(&mut self, ended: Ended, detail: Option<String>) {
        self.ended.get_or_insert((ended, detail));
    }

    /// A handshake has succeeded.
    pub fn tls_started(&mut self, server: &mut Server, facts: Option<&TlsFacts>) {
        self.stage = if server.tape().tally().commands > 0 { Stage::BeforeHello } else { Stage::Greeted };
        let now = self.millis();
        server.tape().heard_at(now);
        if let Some(facts) = facts {
            server.tape().note(&format!("TLS: {}", negotiated(facts)));
        }
    }

    fn millis(&self) -> u32 {
        // A session of more than 49 days has no time any more.
        u32::try_from(self.since.elapsed().as_millis()).unwrap_or(u32::MAX)
    }
}

impl Session {
    /// Records what will be said, if it may be kept.
    pub(super) fn record(&self, server: &mut Server) {
        if self.settings.sessions != KeepSessions::None || self.is_watched() {
            server.tape().record(recording_octets(self.settings.limits.sessions));
        }
    }

    /// Tells of the session what is worth telling.
    pub(super) fn tell_end(&mut self, server: &mut Server) {
        let mut session = self.as_a_whole(server);
        if self.is_proxys_own && session.octets_in == 0 {
            // A proxy that looks whether somebody is there, every few seconds.
            return;
        }
        let front = &self.place.front;
        let is_told = session.ended == Ended::TlsFailed || session.never_said_hello();
        let is_watched = self.is_watched();
        let is_kept = match self.settings.sessions {
            KeepSessions::All => true,
            KeepSessions::Failed => is_told || session.went_wrong(),
            KeepSessions::None => false,
        };
        if !(is_kept || is_told || is_watched) {
            return;
        }
        let is_wished = is_watched || self.settings.sessions == KeepSessions::All;
        if !is_wished && !front.may_tell_of(self.address()) {
            return;
        }
        session.transcript = server.tape().lines().into_iter().map(spoken).collect();
        if session.ended == Ended::SentAway {
            let last = session.transcript.iter().rfind(|line| line.by == By::Server);
            session.detail = last.map(|line| line.text.clone());
        }
        front.tracking.session_ended(&session);
        if is_kept || is_watched {
            front.tracking.keep_session(session);
        }
    }

    fn is_watched(&self) -> bool {
        self.place.front.is_watched(self.address())
    }

    fn address(&self) -> IpAddr {
        self.client.address.expect("a client of a listener has an address")
    }

    fn as_a_whole(&mut self, server: &mut Server) -> SessionRecord {
        let has_starttls = matches!(self.listener.tls, ListenerTls::StartTls(_));
        let seen = &mut self.seen;
        if seen.ended.is_none() && matches!(seen.stage, Stage::Greeted | Stage::BeforeHello) {
            // The dialogue ended it, and all may have come in one piece: then it was waited for only once.
            seen.reads(server);
        }
        let tally = server.tape().tally();
        let duration_ms = u64::from(seen.millis());
        let (ended, mut detail) = seen.ended.take().unwrap_or(match tally.last_reply {
            221 => (Ended::Quit, None),
            code => (Ended::SentAway, Some(code.to_string())),
        });
        if detail.is_none() && tally.commands == 0 && seen.octets_in > 0 {
            let octets = seen.octets_in;
            let what = if seen.tls_in_clear { "the beginning of a TLS handshake" } else { "no line" };
            detail = Some(format!("{octets} octets, {what}"));
        }
        let stage = match seen.stage {
            // TLS by STARTTLS: there was an EHLO before it.
            Stage::BeforeHello if server.is_tls() && has_starttls => Stage::Between,
            stage => stage,
        };
        SessionRecord {
            session: self.id,
            began: self.seen.began,
            duration_ms,
            client: self.address(),
            proxy: self.seen.proxy,
            listener: Some(self.listener.address),
            hello: server.client_name().map(str::to_owned),
            user: server.user().map(str::to_owned),
            tls: self.stream.as_ref().and_then(|stream| stream.tls()).map(negotiated),
            commands: tally.commands,
            refusals: tally.refusals,
            transactions: tally.transactions,
            messages: tally.messages,
            octets_in: self.seen.octets_in,
            octets_out: self.seen.octets_out,
            stage,
            ended,
            detail,
            silence_ms: server.tape().last_heard().map(|then| duration_ms - u64::from(then)),
            transcript: Vec::new(),
        }
    }
}

fn negotiated(facts: &TlsFacts) -> String {
    format!("{}, {}", facts.version, facts.cipher)
}

fn spoken(line: TapeLine) -> Spoken {
    let by = match line.by {
        Speaker::Client => By::Client,
        Speaker::Server => By::Server,
        Speaker::Note => By::Nobody,
    };
    Spoken { ms: line.at.into(), by, text: line.text }
}

/// An error with its causes, on one line.
pub(super) fn in_words(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let words = next.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = next.source();
    }
    text
}
