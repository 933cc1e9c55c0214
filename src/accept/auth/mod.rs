//! AUTH: mechanisms, users, and limits against guessing.
//!
//! Contract: a mechanism is a small machine (`mechanism`): octets in; a challenge, a question to the users, or a verdict
//! out. Who the users are is up to an [`Authenticator`]; [`UsersFile`] is the one that the program has. The `gate` brings
//! the two together and keeps to the limits against guessing.
//! Invariants: an unknown user, a wrong password and a disabled user get the same reply after the same work. Passwords,
//! tokens and SASL messages are in no log, no event and no `Debug` output.
//! Not here: lines and base64 (`smtp`), the session (`session`), what a user may do (`policy`).
//! RFC 4954, RFC 4422.

mod authenticator;
mod gate;
mod guessing;
mod mechanism;
mod prepared;
mod scram_keys;
mod secret;
mod users;

pub use authenticator::{Authenticator, AuthenticatorError, TokenRefusal, UsersAnswer};
pub(super) use gate::{Door, Failure, Gate, Outcome};
pub use mechanism::{Exchange, Mechanism, Turn};
pub use scram_keys::{ScramKeys, ScramKeysError};
pub use secret::Secret;
pub use users::{Cost, NewUser, UserRow, UsersError, UsersFile};

/// Octets of a user's name; longer ones are nobody's.
pub const MAX_NAME: usize = 255;
