//! What a service tells systemd (sd_notify(3)): that it listens, and that it is still alive.
//! Without a supervisor nothing is told.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// A service's supervisor.
pub struct Supervisor {
    socket: UnixDatagram,
    address: SocketAddr,
    watchdog: Option<Duration>,
}

impl Supervisor {
    /// The one that started this program, if one did.
    ///
    /// # Errors
    /// Where its socket cannot be used.
    pub fn of_this_program() -> io::Result<Option<Supervisor>> {
        let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return Ok(None) };
        let limit = std::env::var("WATCHDOG_USEC").ok().and_then(|text| text.parse().ok());
        Supervisor::at(&path, limit.map(Duration::from_micros)).map(Some)
    }

    fn at(path: &OsStr, limit: Option<Duration>) -> io::Result<Supervisor> {
        let address = match path.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(path)?,
        };
        let socket = UnixDatagram::unbound()?;
        Ok(Supervisor { socket, address, watchdog: limit.map(|limit| limit / 3) })
    }

    /// How often it wants to hear that the program is alive.
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// The service is ready.
    pub fn ready(&self) {
        self.tell("READY=1");
    }

    /// The service is alive.
    pub fn alive(&self) {
        self.tell("WATCHDOG=1");
    }

    fn tell(&self, what: &str) {
        if let Err(error) = self.socket.send_to_addr(what.as_bytes(), &self.address) {
            tracing::warn!(%error, what, "the supervisor was not told");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_supervisor_hears() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let heard = UnixDatagram::bind(&path).unwrap();
        let one = Supervisor::at(path.as_os_str(), Some(Duration::from_secs(30))).unwrap();
        assert_eq!(one.watchdog(), Some(Duration::from_secs(10)));
        one.ready();
        one.alive();
        for expected in ["READY=1", "WATCHDOG=1"] {
            let mut bytes = [0; 64];
            let len = heard.recv(&mut bytes).unwrap();
            assert_eq!(&bytes[..len], expected.as_bytes());
        }
        let named = Supervisor::at(OsStr::new("@redoubt-test-nobody"), None).unwrap();
        named.ready();
    }
}
