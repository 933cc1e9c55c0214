//! Reads and writes that end in time.
//!
//! Contract: each function either does its work within `timeout` or fails with [`io::ErrorKind::TimedOut`]; any other
//! error is the stream's own. After a timeout the stream is in an unknown state and is only good for closing.
//! Invariants: nothing is copied; a row of chunks goes out in vectored writes.
//! Not here: how long each step of the dialogue may take (RFC 5321 section 4.5.3.2), which `accept` and `deliver` know.

use std::future::Future;
use std::io::{self, IoSlice};
use std::time::Duration;

use bytes::{BufMut, Bytes};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Slices handed to one vectored write.
const SLICES_MAX: usize = 64;

/// Reads what is there, at least one octet, into the free room of `buffer`; 0 means that the other side has closed.
pub async fn read_within<S, B>(stream: &mut S, buffer: &mut B, timeout: Duration) -> io::Result<usize>
where
    S: AsyncRead + Unpin + ?Sized,
    B: BufMut + ?Sized,
{
    within(timeout, stream.read_buf(buffer)).await
}

/// Writes and flushes all of `octets`; `timeout` is for the whole.
pub async fn write_all_within<S>(stream: &mut S, octets: &[u8], timeout: Duration) -> io::Result<()>
where
    S: AsyncWrite + Unpin + ?Sized,
{
    within(timeout, async {
        stream.write_all(octets).await?;
        stream.flush().await
    })
    .await
}

/// Writes and flushes all chunks in order; `timeout` is for each step forward, so that a long content on a slow line
/// is not cut off while it still moves.
pub async fn write_chunks_within<S>(stream: &mut S, chunks: &[Bytes], timeout: Duration) -> io::Result<()>
where
    S: AsyncWrite + Unpin + ?Sized,
{
    let mut at = 0;
    let mut offset = 0;
    while at < chunks.len() {
        if offset == chunks[at].len() {
            (at, offset) = (at + 1, 0);
            continue;
        }
        let mut written = {
            let mut slices = Vec::with_capacity(SLICES_MAX.min(chunks.len() - at));
            slices.push(IoSlice::new(&chunks[at][offset..]));
            slices.extend(chunks[at + 1..].iter().take(SLICES_MAX - 1).map(|chunk| IoSlice::new(chunk)));
            within(timeout, stream.write_vectored(&slices)).await?
        };
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        while at < chunks.len() && written >= chunks[at].len() - offset {
            written -= chunks[at].len() - offset;
            (at, offset) = (at + 1, 0);
        }
        offset += written;
    }
    within(timeout, stream.flush()).await
}

/// `work`, or [`io::ErrorKind::TimedOut`] once `timeout` has passed.
pub(super) async fn within<T>(timeout: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match tokio::time::timeout(timeout, work).await {
        Ok(result) => result,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {timeout:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_silent_peer_ends_in_a_timeout() {
        let (mut near, _far) = tokio::io::duplex(16);
        let error = read_within(&mut near, &mut Vec::new(), SECOND).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let error = write_all_within(&mut near, &[0; 17], SECOND).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn a_closed_peer_reads_as_zero() {
        let (mut near, far) = tokio::io::duplex(16);
        drop(far);
        assert_eq!(read_within(&mut near, &mut Vec::new(), SECOND).await.unwrap(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn chunks_arrive_in_order_also_through_a_narrow_pipe() {
        let chunks: Vec<Bytes> = (0..200u8).map(|n| Bytes::from(vec![n; usize::from(n) % 7])).collect();
        let expected = chunks.concat();
        for room in [1, 3, 64, 4096] {
            let (mut near, mut far) = tokio::io::duplex(room);
            let read = tokio::spawn(async move {
                let mut all = Vec::new();
                far.read_to_end(&mut all).await.unwrap();
                all
            });
            write_chunks_within(&mut near, &chunks, SECOND).await.unwrap();
            drop(near);
            assert_eq!(read.await.unwrap(), expected, "room for {room}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn slow_progress_is_not_cut_off_but_a_standstill_is() {
        let (mut near, mut far) = tokio::io::duplex(4);
        let slow = tokio::spawn(async move {
            let mut four = [0; 4];
            for _ in 0..5 {
                tokio::time::sleep(SECOND * 3 / 4).await;
                far.read_exact(&mut four).await.unwrap();
            }
            far
        });
        let chunks = [Bytes::from_static(&[7; 20])];
        write_chunks_within(&mut near, &chunks, SECOND).await.unwrap();
        let _far = slow.await.unwrap();
        let error = write_chunks_within(&mut near, &chunks, SECOND).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
