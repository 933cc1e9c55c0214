//! `[[limit]]`: how much each client may do, by address, network or user.
//!
//! Contract: every limit is for somebody and limits something; one that can never count, because those above it have
//! all its keys for everybody, is a warning.
//! Not here: which of them counts for a client, and the counting (`accept`); what is taken in over all (`limits`).

use ipnet::IpNet;

use super::relaying::network;
use crate::config::quantity::{self, Mismatch};
use crate::config::section::Section;
use crate::queue::Rate;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limit {
    /// None: wherever the client comes from.
    pub networks: Vec<IpNet>,
    /// Each counted by itself; `*` is any. None: whoever the client is.
    pub users: Vec<String>,
    /// At one time.
    pub connections: Option<u32>,
    pub connection_rate: Option<Rate>,
    pub messages: Option<Rate>,
    pub recipients: Option<Rate>,
    /// Octets of content.
    pub max_message_size: Option<u64>,
}

const KEYS: [&str; 5] = ["connections", "connection_rate", "messages", "recipients", "max_message_size"];

pub(super) fn read(top: &mut Section<'_>) -> Vec<Limit> {
    let mut limits: Vec<Limit> = Vec::new();
    for mut section in top.repeated("limit") {
        let limit = Limit {
            networks: section.list("networks", network).unwrap_or_default(),
            users: section.list("users", user).unwrap_or_default(),
            connections: section.count("connections", 1, 1_000_000),
            connection_rate: section.get("connection_rate", quantity::rate),
            messages: section.get("messages", quantity::rate),
            recipients: section.get("recipients", quantity::rate),
            max_message_size: section.size("max_message_size"),
        };
        if !KEYS.iter().any(|key| section.has(key)) {
            let hint = "add messages = \"1000/h\", say, or take the section out";
            section.report.fault(section.place(), "this limit limits nothing", None, Some(hint.into()));
        }
        for key in ["networks", "users"] {
            if section.is_empty_list(key) {
                let hint = format!("take {key} out to limit everybody, or name some");
                let problem = format!("limit.{key} is empty: this limit is for nobody");
                section.report.fault(section.place_of(key), problem, None, Some(hint));
            }
        }
        if limit.is_never_reached(&limits) {
            let hint = "move it above the one that is for everybody, or take it out";
            section.report.warn(
                section.place(),
                "this limit is never reached: those above it are for everybody who comes over a network",
                hint,
            );
        }
        section.done();
        limits.push(limit);
    }
    limits
}

impl Limit {
    fn keys(&self) -> [bool; KEYS.len()] {
        [
            self.connections.is_some(),
            self.connection_rate.is_some(),
            self.messages.is_some(),
            self.recipients.is_some(),
            self.max_message_size.is_some(),
        ]
    }

    fn is_for_everybody(&self) -> bool {
        self.networks.is_empty() && self.users.is_empty()
    }

    fn is_never_reached(&self, above: &[Limit]) -> bool {
        let taken = |index: usize| above.iter().any(|limit| limit.is_for_everybody() && limit.keys()[index]);
        let keys = self.keys();
        keys.contains(&true) && keys.iter().enumerate().all(|(index, has)| !has || taken(index))
    }
}

fn user(value: &crate::config::tree::Value) -> Result<String, Mismatch> {
    let name = value.text().filter(|name| !name.is_empty()).map(str::to_owned);
    name.ok_or_else(|| Mismatch::new("the name of a user, or \"*\" for any"))
}
