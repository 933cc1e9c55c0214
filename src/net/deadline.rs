//! Work that ends in time.
//!
//! Contract: real time, whatever the relay's clock does: the other side's does not run faster.
//! Not here: how long each step of the dialogue may take (RFC 5321 section 4.5.3.2), which `accept` and `deliver` know.

use std::future::Future;
use std::io;
use std::time::Duration;

/// `work`, or [`io::ErrorKind::TimedOut`] once `timeout` has passed.
pub(super) async fn within<T>(timeout: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let ended = tokio::time::timeout(timeout, work).await;
    ended.unwrap_or_else(|_| {
        let message = format!("no answer within {}", humantime::format_duration(timeout));
        Err(io::Error::new(io::ErrorKind::TimedOut, message))
    })
}
