//! `posthouse lab say`: changes what a running upstream does.
//!
//! Contract: a faulty rule is shown with a mark under what is wrong, before the lab is asked.
//! Not here: what rules mean (`posthouse::lab::script`).

use clap::Args;
use posthouse::lab::api::RuleRow;

use super::Place;
use super::rules;
use crate::failed::Failed;
use crate::place::Format;
use crate::print;
use crate::queue::encoded;
use crate::table::Table;

/// Give a running lab's upstream a rule, or take one back
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  posthouse lab say 'rcpt *@example.com: 451 4.7.1 try later, 3 times'
  posthouse lab say 'connect: refuse, for 2h'
  posthouse lab say 'dot: keep and close, once'
  posthouse lab say --list
  posthouse lab say --forget 3

A rule is STAGE [GLOB] [CONDITION]: WHAT TO DO [, N times | , once | , for DURATION]. The stages are
connect, greeting, ehlo, starttls, auth, mail, rcpt, data, content, dot (after the final dot), quit.
A new rule is asked before all others; the first that fits decides.")]
#[group(id = "what", required = true, multiple = false, args = ["rule", "list", "forget"])]
pub struct Say {
    /// The rule
    rule: Option<String>,
    /// Show the rules in the order in which they are asked, and how often each has decided
    #[arg(long)]
    list: bool,
    /// Take back the rule with this number
    #[arg(long, value_name = "N")]
    forget: Option<u32>,
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    place: Place,
}

impl Say {
    pub async fn run(self) -> Result<(), Failed> {
        let client = self.place.client();
        let failed = |error| self.place.failed(error);
        if let Some(text) = &self.rule {
            let rule = rules::rule(text)?;
            let path = format!("/v1/lab/rules?rule={}", encoded(&rule.to_string()));
            let row: RuleRow = client.post(&path).await.map_err(failed)?;
            return self.done(&row, "is asked before all others now");
        }
        if let Some(number) = self.forget {
            let row: RuleRow =
                client.post(&format!("/v1/lab/rules/{number}/forget")).await.map_err(failed)?;
            return self.done(&row, "is forgotten");
        }
        let rows: Vec<RuleRow> = client.get("/v1/lab/rules").await.map_err(failed)?;
        match self.format {
            Format::Json => print::json(&rows),
            Format::Table if rows.is_empty() => print::text("there are no rules: everything is taken\n"),
            Format::Table => print::text(&listed(rows)),
        }
    }

    fn done(&self, row: &RuleRow, what: &str) -> Result<(), Failed> {
        match self.format {
            Format::Json => print::json(row),
            Format::Table => print::text(&format!("rule {} {what}\n", row.number)),
        }
    }
}

fn listed(rows: Vec<RuleRow>) -> String {
    let mut table = Table::new(["number", "used", "rule"]);
    for row in rows {
        table.row([row.number.to_string(), row.used.to_string(), row.rule]);
    }
    table.to_string()
}
