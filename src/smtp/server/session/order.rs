//! Which command is allowed when, and what it does.
//!
//! Contract: [`Server::obey`] takes a well-formed command and replies, or gives the question that it raises.
//! Invariants: a command out of order changes nothing. MAIL needs EHLO or HELO, RCPT and DATA need MAIL; parameters
//! need EHLO. A question is raised only for what would be accepted if the driver agrees.
//! Not here: the form of commands (`command`), what an answer leads to (`session`).
//! RFC 5321 section 4.1.4, RFC 3030 section 2, RFC 3207 section 4, RFC 4865, RFC 9422.

use crate::mail::{BodyType, Recipient, Reply};

use super::super::authentication::Exchange;
use super::super::command::{Command, MailCommand, RcptCommand};
use super::super::hold::Hold;
use super::super::path::ForwardPath;
use super::super::premature::Awaited;
use super::super::replies::{self, Fixed};
use super::super::settings::FutureRelease;
use super::{Chunks, Hello, Progress, Server, State};

impl Server {
    pub(super) fn obey(&mut self, command: Command) -> Progress {
        match command {
            Command::Ehlo(name) => self.hello(name, true),
            Command::Helo(name) => self.hello(name, false),
            Command::Mail(mail) => self.mail(mail),
            Command::Rcpt(rcpt) => self.rcpt(rcpt),
            Command::Data => self.data(),
            Command::Bdat(chunk) => self.bdat(chunk),
            Command::BadBdat(octets) => self.bad_bdat(octets),
            Command::Rset => {
                self.transaction = None;
                self.reply(replies::RESET)
            }
            Command::Noop => self.reply(replies::NOTHING_DONE),
            Command::Vrfy => self.reply(replies::NOT_VERIFIED),
            Command::Help => self.reply(replies::HELP),
            Command::Quit => self.quit(),
            Command::StartTls => self.start_tls(),
            Command::Auth(exchange) => self.auth(exchange),
        }
    }

    fn hello(&mut self, name: String, extended: bool) -> Progress {
        self.hello = Some(Hello { name, extended });
        self.transaction = None;
        let mut lines = vec![self.settings.hostname.clone()];
        if extended {
            self.offer_extensions(&mut lines);
        }
        self.answer(Reply::with_lines(250, lines));
        Progress::Made
    }

    fn offer_extensions(&self, lines: &mut Vec<String>) {
        let settings = &self.settings;
        lines.extend(["PIPELINING".into(), format!("SIZE {}", settings.max_message_size)]);
        lines.extend(["8BITMIME", "BINARYMIME", "CHUNKING", "SMTPUTF8"].map(String::from));
        lines.extend(["ENHANCEDSTATUSCODES", "DSN", "DELIVERBY"].map(String::from));
        if let Some(FutureRelease { max_interval, max_date }) = settings.future_release {
            let date = max_date.to_jiff().strftime("%Y-%m-%dT%H:%M:%SZ");
            lines.push(format!("FUTURERELEASE {} {date}", max_interval.as_secs()));
        }
        // RFC 9422 section 4.2: a limit has at most 6 digits.
        let told = |limit: usize| (1..=999_999).contains(&limit).then_some(limit);
        let recipients = told(settings.max_recipients).map(|limit| format!(" RCPTMAX={limit}"));
        let messages = settings.max_messages.and_then(|limit| told(limit as usize));
        let messages = messages.map(|limit| format!(" MAILMAX={limit}"));
        if recipients.is_some() || messages.is_some() {
            lines.push(format!("LIMITS{}{}", recipients.unwrap_or_default(), messages.unwrap_or_default()));
        }
        if self.tls {
            lines.push("REQUIRETLS".into());
        }
        if settings.starttls && !self.tls {
            lines.push("STARTTLS".into());
        }
        if self.offers_auth() {
            lines.push(format!("AUTH {}", settings.auth.mechanisms.join(" ")));
        }
    }

    fn mail(&mut self, mail: MailCommand) -> Progress {
        let Some(hello) = &self.hello else { return self.fault(replies::HELLO_FIRST) };
        if self.transaction.is_some() {
            return self.fault(replies::MAIL_TWICE);
        }
        if mail.extended && !hello.extended {
            return self.fault(replies::PARAMETERS_NEED_EHLO);
        }
        self.messages = self.messages.saturating_add(1);
        if self.settings.max_messages.is_some_and(|most| self.messages > most) {
            return self.turn_away(replies::TOO_MANY_MESSAGES.into());
        }
        if let Err(fault) = self.check_parameters(&mail) {
            return self.fault(fault);
        }
        if mail.size.is_some_and(|size| size > self.settings.max_message_size) {
            return self.turn_away(replies::TOO_LARGE.into());
        }
        Progress::Mail(mail)
    }

    /// What is well-formed may not be on offer.
    fn check_parameters(&self, mail: &MailCommand) -> Result<(), Fixed> {
        if mail.auth && self.settings.auth.mechanisms.is_empty() {
            return Err(replies::PARAMETER_UNKNOWN);
        }
        if mail.require_tls && !self.tls {
            return Err(replies::REQUIRETLS_IN_CLEAR);
        }
        let Some(hold) = mail.hold else { return Ok(()) };
        let offer = self.settings.future_release.ok_or(replies::PARAMETER_UNKNOWN)?;
        let (fits, seconds) = match hold {
            Hold::For(interval) => (interval <= offer.max_interval, interval.as_secs() as i64),
            Hold::Until(moment) => (moment <= offer.max_date, 0),
        };
        match mail.deliver_by {
            _ if !fits => Err(replies::HOLD_TOO_LONG),
            Some(by) if by.seconds <= seconds => Err(replies::HOLD_BEYOND_BY),
            _ => Ok(()),
        }
    }

    fn rcpt(&mut self, rcpt: RcptCommand) -> Progress {
        let (Some(hello), Some(transaction)) = (&self.hello, &self.transaction) else {
            return self.fault(replies::MAIL_FIRST);
        };
        if rcpt.extended && !hello.extended {
            return self.fault(replies::PARAMETERS_NEED_EHLO);
        }
        if !matches!(transaction.chunks, Chunks::None) {
            return self.fault(replies::AMID_CHUNKS);
        }
        if !transaction.envelope.smtputf8 && !rcpt.is_ascii() {
            return self.fault(replies::NOT_ASCII);
        }
        if transaction.envelope.recipients.len() >= self.settings.max_recipients {
            return self.turn_away(replies::TOO_MANY_RECIPIENTS.into());
        }
        let address = match rcpt.forward_path {
            ForwardPath::Mailbox(address) => address,
            ForwardPath::Postmaster(name) => match format!("{name}@{}", self.settings.hostname).parse() {
                Ok(address) => address,
                Err(_) => return self.fault(replies::RECIPIENT_MAILBOX),
            },
        };
        Progress::Recipient(Recipient { address, notify: rcpt.notify, original: rcpt.original })
    }

    fn data(&mut self) -> Progress {
        match &mut self.transaction {
            None => self.fault(replies::MAIL_FIRST),
            Some(transaction) if !matches!(transaction.chunks, Chunks::None) => {
                // RFC 3030 section 2: nobody knows any more what the message is.
                transaction.chunks = Chunks::Refused;
                self.fault(replies::AMID_CHUNKS)
            }
            Some(transaction) if transaction.envelope.recipients.is_empty() => {
                self.reply(replies::NO_RECIPIENTS)
            }
            Some(transaction) if transaction.envelope.body == BodyType::BinaryMime => {
                self.fault(replies::BINARY_NEEDS_BDAT)
            }
            Some(_) => Progress::Content(None),
        }
    }

    fn start_tls(&mut self) -> Progress {
        if self.tls {
            return self.fault(replies::ALREADY_TLS);
        }
        if !self.settings.starttls {
            return self.fault(replies::NO_STARTTLS);
        }
        if self.hello.is_none() {
            return self.fault(replies::HELLO_FIRST);
        }
        self.answer(replies::START_TLS.into());
        self.state = State::StartTls;
        Progress::Made
    }

    fn auth(&mut self, exchange: Exchange) -> Progress {
        let auth = &self.settings.auth;
        let fault = match &self.hello {
            _ if auth.mechanisms.is_empty() => replies::NO_AUTH,
            None | Some(Hello { extended: false, .. }) => replies::AUTH_AFTER_EHLO,
            _ if self.user.is_some() => replies::AUTH_TWICE,
            _ if self.transaction.is_some() => replies::AUTH_IN_TRANSACTION,
            _ if !self.offers_auth() => replies::AUTH_NEEDS_TLS,
            _ if !auth.mechanisms.contains(&exchange.mechanism) => replies::AUTH_MECHANISM,
            _ => return Progress::Auth(exchange),
        };
        self.fault(fault)
    }

    fn quit(&mut self) -> Progress {
        self.note_premature(Awaited::Quit);
        self.answer(replies::GOODBYE.into());
        self.close();
        Progress::Made
    }
}
