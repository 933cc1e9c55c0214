//! AUTH as a lab has it: PLAIN and LOGIN (RFC 4954, RFC 4616), and every password is right.

use super::session::{Over, Session};
use crate::mail::{EnhancedStatus, Reply};

impl Session {
    /// Behind `AUTH`, when the script lets it pass. Credentials are read to their end and forgotten.
    pub(super) async fn authenticate(&mut self, argument: &str) -> Result<(), Over> {
        let (mechanism, initial) = argument.split_once(' ').unwrap_or((argument, ""));
        let challenges: &[&str] = match (mechanism.to_ascii_uppercase().as_str(), initial.is_empty()) {
            ("PLAIN", true) => &[""],
            ("PLAIN", false) => &[],
            // "Username:" and "Password:" in base64.
            ("LOGIN", true) => &["VXNlcm5hbWU6", "UGFzc3dvcmQ6"],
            ("LOGIN", false) => &["UGFzc3dvcmQ6"],
            _ => {
                let text = "only PLAIN and LOGIN are offered";
                return self.write_own(&Reply::new(504, Some(EnhancedStatus::new(5, 5, 4)), text)).await;
            }
        };
        for challenge in challenges {
            self.write_own(&Reply::new(334, None, challenge)).await?;
            if self.read_line().await?.starts_with(b"*") {
                let text = "cancelled as you wish";
                return self.write_own(&Reply::new(501, Some(EnhancedStatus::new(5, 7, 0)), text)).await;
            }
        }
        let text = "every password is right here";
        self.write_own(&Reply::new(235, Some(EnhancedStatus::new(2, 7, 0)), text)).await
    }
}
