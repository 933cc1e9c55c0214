//! The socket of the API, and who may speak to it.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use axum::Router;
use tokio::net::unix::SocketAddr;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;

use super::{SOCKET, api};
use crate::submission::Desk;

/// The API of one relay, while it is served. Dropping it ends that and removes the socket.
pub struct Control {
    task: JoinHandle<()>,
    path: PathBuf,
}

/// Why the API cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {}; {}", path.display(), way_out(source))]
pub struct ControlError {
    path: PathBuf,
    source: io::Error,
}

fn way_out(source: &io::Error) -> &'static str {
    match source.kind() {
        // Names of sockets hold about 100 octets.
        io::ErrorKind::InvalidInput => "name a folder with a shorter path",
        _ => "make its folder writable for posthouse",
    }
}

impl Control {
    /// Listens on `control.sock` in `folder`, which belongs to the relay alone (its spool is locked), so that a socket
    /// that is there already is left over from a relay that died.
    pub fn start(desk: impl Into<Desk>, folder: &Path) -> Result<Self, ControlError> {
        Self::serve(folder, api::routes(desk))
    }

    /// The same for other routes, or for more of them: a program that has requests of its own merges them with those
    /// of [`routes`](super::routes). What none of them knows is answered with 404 and [`Refused`](super::Refused).
    ///
    /// The caller sees to it that `folder` belongs to this process alone.
    pub fn serve(folder: &Path, routes: Router) -> Result<Self, ControlError> {
        let path = folder.join(SOCKET);
        let bound = bind(&path);
        let socket = bound.map_err(|source| ControlError { path: path.clone(), source })?;
        let task = tokio::spawn(async move {
            // Never ends by itself: accept errors are retried inside.
            let served = axum::serve(Guarded { socket }, routes.fallback(api::unknown_path)).await;
            if let Err(error) = served {
                tracing::error!(%error, "the control socket is not served any more");
            }
        });
        Ok(Self { task, path })
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.task.abort();
        // It is of no use to anybody now; a failure would be seen at the next start.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn bind(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let socket = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(socket)
}

/// A socket that hears only the relay's own user and root.
struct Guarded {
    socket: UnixListener,
}

impl axum::serve::Listener for Guarded {
    type Io = UnixStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (UnixStream, SocketAddr) {
        let own = rustix::process::geteuid().as_raw();
        loop {
            match self.socket.accept().await {
                Ok((stream, address)) => match stream.peer_cred() {
                    Ok(peer) if peer.uid() == own || peer.uid() == 0 => return (stream, address),
                    Ok(peer) => {
                        tracing::warn!(uid = peer.uid(), "a stranger at the control socket was sent away")
                    }
                    Err(error) => {
                        tracing::warn!(%error, "somebody unknown at the control socket was sent away")
                    }
                },
                Err(error) => {
                    tracing::warn!(%error, "cannot accept on the control socket");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_path_that_is_too_long_for_a_socket_is_not_called_unwritable() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("x".repeat(120));
        std::fs::create_dir(&deep).unwrap();
        let said = Control::serve(&deep, Router::new()).err().expect("too long").to_string();
        assert!(said.ends_with("name a folder with a shorter path"), "{said}");
        let said =
            Control::serve(&folder.path().join("none"), Router::new()).err().expect("none").to_string();
        assert!(said.ends_with("make its folder writable for posthouse"), "{said}");
    }
}
