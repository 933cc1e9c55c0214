//! `posthouse send`: submits one message, also in the manner of sendmail.

use std::path::PathBuf;

use clap::Args;

/// Submit a message through a relay
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  posthouse send --from alice@example.org --to bob@example.com message.eml
  printf 'Subject: hello\\n\\nWorld\\n' | posthouse send --from alice@example.org --to bob@example.com
  posthouse send -t -i < message.eml        as sendmail does: recipients from To, Cc and Bcc")]
pub struct Send {
    /// The relay
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:2525")]
    pub server: String,
    /// The reverse-path; <> for the null one
    #[arg(
        long,
        short,
        visible_short_alias = 'r',
        value_name = "ADDRESS",
        required_unless_present = "fields"
    )]
    pub from: Option<String>,
    /// A recipient; may be given several times
    #[arg(long, value_name = "ADDRESS", required_unless_present = "fields")]
    pub to: Vec<String>,
    /// Take sender and recipients from the message's own fields; Bcc is taken out
    #[arg(short = 't', id = "fields")]
    pub fields: bool,
    /// A line with a single dot does not end the message; always so, taken for sendmail's sake
    #[arg(short = 'i')]
    pub ignore_dots: bool,
    /// NOTIFY: success, failure, delay or never, separated by commas (RFC 3461)
    #[arg(long, value_name = "WHEN", value_delimiter = ',', value_parser = ["success", "failure", "delay", "never"])]
    pub notify: Vec<String>,
    /// RET: what of the message a failure notice brings back (RFC 3461)
    #[arg(long, value_parser = ["full", "hdrs"])]
    pub ret: Option<String>,
    /// ENVID: a name of your own for this message (RFC 3461)
    #[arg(long)]
    pub envid: Option<String>,
    /// The message; standard input without it
    pub file: Option<PathBuf>,
}
