//! Which command is allowed when, and what it does.
//!
//! Contract: [`Server::obey`] takes a well-formed command and replies, or gives the question that it raises.
//! Invariants: a command out of order changes nothing. MAIL needs EHLO or HELO, RCPT and DATA need MAIL; parameters
//! need EHLO. A question is raised only for what would be accepted if the driver agrees.
//! Not here: the form of commands (`command`), what an answer leads to (`session`).
//! RFC 5321 section 4.1.4, RFC 3207 section 4.

use crate::mail::{Recipient, Reply};

use super::super::authentication::Exchange;
use super::super::command::{Command, MailCommand, RcptCommand};
use super::super::path::ForwardPath;
use super::super::replies;
use super::{Hello, Progress, Server, State};

impl Server {
    pub(super) fn obey(&mut self, command: Command) -> Progress {
        match command {
            Command::Ehlo(name) => self.hello(name, true),
            Command::Helo(name) => self.hello(name, false),
            Command::Mail(mail) => self.mail(mail),
            Command::Rcpt(rcpt) => self.rcpt(rcpt),
            Command::Data => self.data(),
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
            lines.extend(["PIPELINING".into(), format!("SIZE {}", self.settings.max_message_size)]);
            lines.extend(["8BITMIME", "ENHANCEDSTATUSCODES", "DSN"].map(String::from));
            if self.settings.starttls && !self.tls {
                lines.push("STARTTLS".into());
            }
            if self.offers_auth() {
                lines.push(format!("AUTH {}", self.settings.auth.mechanisms.join(" ")));
            }
        }
        self.answer(Reply::with_lines(250, lines));
        Progress::Made
    }

    fn mail(&mut self, mail: MailCommand) -> Progress {
        let Some(hello) = &self.hello else { return self.fault(replies::HELLO_FIRST) };
        if self.transaction.is_some() {
            return self.fault(replies::MAIL_TWICE);
        }
        if mail.extended && !hello.extended {
            return self.fault(replies::PARAMETERS_NEED_EHLO);
        }
        if mail.size.is_some_and(|size| size > self.settings.max_message_size) {
            return self.turn_away(replies::TOO_LARGE);
        }
        Progress::Mail(mail)
    }

    fn rcpt(&mut self, rcpt: RcptCommand) -> Progress {
        let (Some(hello), Some(transaction)) = (&self.hello, &self.transaction) else {
            return self.fault(replies::MAIL_FIRST);
        };
        if rcpt.extended && !hello.extended {
            return self.fault(replies::PARAMETERS_NEED_EHLO);
        }
        if transaction.envelope.recipients.len() >= self.settings.max_recipients {
            return self.turn_away(replies::TOO_MANY_RECIPIENTS);
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
        match &self.transaction {
            None => self.fault(replies::MAIL_FIRST),
            Some(transaction) if transaction.envelope.recipients.is_empty() => {
                self.reply(replies::NO_RECIPIENTS)
            }
            Some(_) => Progress::Content,
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
        self.answer(replies::GOODBYE.into());
        self.close();
        Progress::Made
    }
}
