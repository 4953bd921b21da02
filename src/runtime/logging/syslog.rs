//! Sends lines to a syslog collector: RFC 5424 over UDP (RFC 5426), or in the format of syslog(3) to a socket of this
//! machine.
//!
//! Local collectors read a format older than any RFC (`<30>Jan  2 03:04:05 fwlb[42]: ...`), as libc sends it; they know
//! the host and the time themselves. Sending never waits: what a socket does not take is lost.

use std::io;
use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use tracing::Level;

use super::line::Line;
use crate::config::SyslogTarget;

/// Bytes of a message that every receiver should accept (RFC 5424 section 6.1).
const BYTES_MAX: usize = 2048;
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// A collector and the socket to it.
#[derive(Debug)]
pub(super) struct Collector {
    socket: io::Result<SyslogTransport>,
    facility: u8,
    hostname: String,
}

#[derive(Debug)]
enum SyslogTransport {
    Udp(UdpSocket),
    /// Not connected, because a restarted collector has a new socket under the same name.
    Local(UnixDatagram, PathBuf),
}

impl Collector {
    /// Opens the socket to a collector. `hostname` is the host name in messages; `None` stands for the machine's own.
    pub(super) fn new(target: SyslogTarget, facility: u8, hostname: Option<String>) -> Self {
        let hostname = hostname.unwrap_or_else(|| {
            let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
            let name = name.trim();
            // The NILVALUE of RFC 5424, for an unknown host name.
            if name.is_empty() { "-".to_owned() } else { name.to_owned() }
        });
        Self { socket: SyslogTransport::open(target), facility, hostname }
    }

    /// Sends a line without waiting.
    pub(super) fn send(&self, line: &Line, json: bool) -> io::Result<()> {
        let message = self.message(line, json);
        match &self.socket {
            Ok(SyslogTransport::Udp(socket)) => socket.send(message.as_bytes()),
            Ok(SyslogTransport::Local(socket, path)) => socket.send_to(message.as_bytes(), path),
            Err(error) => return Err(error.kind().into()),
        }
        .map(|_| ())
    }

    fn message(&self, line: &Line, json: bool) -> String {
        let priority = self.facility * 8 + severity(line.level);
        let body = if json { line.json() } else { line.body() };
        let id = std::process::id();
        let mut message = match &self.socket {
            Ok(SyslogTransport::Local(_, _)) => format!("<{priority}>{} fwlb[{id}]: {body}", local_time(&line.at)),
            Ok(SyslogTransport::Udp(_)) | Err(_) => {
                let kind = line.field("kind").unwrap_or("-");
                // The byte order mark says that the text is UTF-8 (section 6.4).
                format!("<{priority}>1 {} {} fwlb {id} {kind} - \u{feff}{body}", line.at, self.hostname)
            }
        };
        message.truncate(message.floor_char_boundary(BYTES_MAX));
        message
    }
}

impl SyslogTransport {
    fn open(target: SyslogTarget) -> io::Result<Self> {
        Ok(match target {
            SyslogTarget::Udp(address) => {
                let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
                let socket = UdpSocket::bind(any)?;
                socket.connect(address)?;
                socket.set_nonblocking(true)?;
                Self::Udp(socket)
            }
            SyslogTarget::Local(path) => {
                let socket = UnixDatagram::unbound()?;
                socket.set_nonblocking(true)?;
                Self::Local(socket, path)
            }
        })
    }
}

/// The severity of a level (RFC 5424 section 6.2.1).
const fn severity(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

/// Formats `2026-01-02T03:04:05.678Z` as `Jan  2 03:04:05`.
fn local_time(at: &str) -> String {
    let month = at.get(5..7).and_then(|month| month.parse::<usize>().ok()).unwrap_or(1);
    let day = at.get(8..10).and_then(|day| day.parse::<u8>().ok()).unwrap_or(1);
    let name = MONTHS[month.clamp(1, 12) - 1];
    format!("{name} {day:>2} {}", at.get(11..19).unwrap_or("00:00:00"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::logging::line::tests::change_line;
    use crate::time::Duration;

    const WAIT: Option<Duration> = Some(Duration::from_secs(5));

    #[test]
    fn a_remote_collector_gets_rfc_5424() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        server.set_read_timeout(WAIT).unwrap();
        let target = SyslogTarget::Udp(server.local_addr().unwrap());
        let collector = Collector::new(target, 16, Some("lb1".to_owned()));

        collector.send(&change_line(), false).unwrap();

        let mut bytes = [0; 4096];
        let length = server.recv(&mut bytes).unwrap();
        let expected = format!(
            "<132>1 2026-01-02T03:04:05.678Z lb1 fwlb {} firewall - \u{feff}firewall perimeter/fw1: up -> down engine=outer",
            std::process::id()
        );
        assert_eq!(std::str::from_utf8(&bytes[..length]).unwrap(), expected);
    }

    #[test]
    fn a_local_collector_gets_what_it_gets_from_libc_also_after_its_restart() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let collector = Collector::new(SyslogTarget::Local(path.clone()), 3, None);
        assert!(collector.send(&change_line(), false).is_err(), "nobody listens");

        for _ in 0..2 {
            let server = UnixDatagram::bind(&path).unwrap();
            server.set_read_timeout(WAIT).unwrap();
            collector.send(&change_line(), false).unwrap();
            let mut bytes = [0; 4096];
            let length = server.recv(&mut bytes).unwrap();
            let expected = format!(
                "<28>Jan  2 03:04:05 fwlb[{}]: firewall perimeter/fw1: up -> down engine=outer",
                std::process::id()
            );
            assert_eq!(std::str::from_utf8(&bytes[..length]).unwrap(), expected);
            std::fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn a_collector_that_does_not_read_costs_lines_and_no_time() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let _server = UnixDatagram::bind(&path).unwrap();
        let collector = Collector::new(SyslogTarget::Local(path), 3, None);

        let refused = (0..5_000).filter(|_| collector.send(&change_line(), true).is_err()).count();

        assert!(refused > 0 && refused < 5_000, "{refused}");
    }
}
