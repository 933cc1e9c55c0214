//! `posthouse send`: submits a message through a relay, by SMTP as any client would.

use std::io::Read;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use posthouse::deliver::{Timeouts, submit};
use posthouse::mail::{Address, BodyType, Content, Envelope, Notify, Ret, ReversePath, Verdict};
use posthouse::submission::{Letter, with_crlf};

use crate::failed::Failed;
use crate::harmless::harmless;
use crate::print;

/// Submit a message through a relay
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  posthouse send --from alice@example.org --to bob@example.com message.eml
  printf 'Subject: hello\\n\\nWorld\\n' | posthouse send --from alice@example.org --to bob@example.com
  posthouse send --from '' --to bob@example.com message.eml    with the null reverse-path
  posthouse send -t -i message.eml    to those in To, Cc and Bcc; Bcc is taken away

`posthouse sendmail` takes all options of sendmail, and keeps mail while the relay is down.")]
pub struct Send {
    /// The relay
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:2525")]
    server: SocketAddr,
    /// The reverse-path; <> or nothing for the null one
    #[arg(long, short, value_name = "ADDRESS", value_parser = reverse_path, required_unless_present = "header")]
    from: Option<ReversePath>,
    /// A recipient; may be given several times
    #[arg(long, value_name = "ADDRESS", required_unless_present = "header")]
    to: Vec<Address>,
    /// Also to the recipients in To, Cc and Bcc, and from the sender in From; Bcc is taken away
    #[arg(short = 't', id = "header")]
    header: bool,
    /// As sendmail knows it: a line with a lone dot does not end the message. Here it never does
    #[arg(short = 'i')]
    ignore_dots: bool,
    /// NOTIFY: success, failure, delay or never, separated by commas (RFC 3461)
    #[arg(long, value_name = "WHEN", value_delimiter = ',', value_parser = ["success", "failure", "delay", "never"])]
    notify: Vec<String>,
    /// RET: what of the message a failure notice brings back (RFC 3461)
    #[arg(long, value_parser = ["full", "hdrs"])]
    ret: Option<String>,
    /// ENVID: a name of your own for this message (RFC 3461)
    #[arg(long)]
    envid: Option<String>,
    /// The message with its header section; standard input without it. Line ends become CRLF
    file: Option<PathBuf>,
}

pub fn reverse_path(text: &str) -> Result<ReversePath, posthouse::mail::AddressError> {
    match text {
        "" | "<>" => Ok(ReversePath::NULL),
        address => address.parse::<Address>().map(ReversePath::from),
    }
}

impl Send {
    pub async fn run(self) -> Result<(), Failed> {
        let text = self.read()?;
        let (from, to, text) = match self.header {
            true => self.by_header(&text)?,
            false => (self.from.clone().unwrap_or(ReversePath::NULL), self.to.clone(), with_crlf(&text)),
        };
        let envelope = self.envelope(from, to, text.is_ascii());
        let content = Content::from(text);
        let outcomes = submit(self.server, envelope, content, Timeouts::default()).await;
        let mut refused = 0;
        for (recipient, outcome) in outcomes {
            refused += usize::from(!matches!(outcome.verdict, Verdict::Delivered { .. }));
            print::text(&format!("{}\n", harmless(&format!("{recipient}: {outcome}"))))?;
        }
        match refused {
            0 => Ok(()),
            refused => Err(Failed::Message(format!("not taken for {refused} of the recipients"))),
        }
    }

    /// Sender, recipients and content of a message whose header section says who they are.
    fn by_header(&self, text: &[u8]) -> Result<(ReversePath, Vec<Address>, Vec<u8>), Failed> {
        let mut letter = Letter::read(text);
        let mut to = self.to.clone();
        to.extend(letter.recipients(None)?.into_iter().filter(|address| !self.to.contains(address)));
        let from = match &self.from {
            Some(from) => from.clone(),
            None => letter.sender(None)?.into(),
        };
        letter.remove_blind_copies();
        Ok((from, to, letter.into_content()))
    }

    fn envelope(&self, from: ReversePath, to: Vec<Address>, seven_bit: bool) -> Envelope {
        let mut envelope = Envelope::new(from, to);
        if !seven_bit {
            envelope.body = BodyType::EightBitMime;
        }
        envelope.ret = self.ret.as_deref().map(|ret| if ret == "full" { Ret::Full } else { Ret::Headers });
        envelope.envid = self.envid.clone();
        if !self.notify.is_empty() {
            let asked = |when: &str| self.notify.iter().any(|word| word == when);
            let notify =
                Notify { success: asked("success"), failure: asked("failure"), delay: asked("delay") };
            for recipient in &mut envelope.recipients {
                recipient.notify = Some(notify);
            }
        }
        envelope
    }

    fn read(&self) -> Result<Vec<u8>, Failed> {
        let Some(path) = &self.file else {
            let mut text = Vec::new();
            std::io::stdin().read_to_end(&mut text)?;
            return Ok(text);
        };
        std::fs::read(path)
            .map_err(|error| Failed::Message(format!("cannot read {}: {error}", path.display())))
    }
}
