//! Declares `[log]`.

use std::net::SocketAddr;
use std::path::PathBuf;

use toml::de::DeValue;

use super::choices::{FACILITY, FORMAT, LEVEL};
use super::path;
use super::section::section;
use crate::config::diagnostic::{Diagnostic, Diagnostics};
use crate::config::fact::{Value, bare, list, or_none, text, word};
use crate::config::reader::{Field, Located, Reader};
use crate::config::schema::ValueKind;
use crate::config::value::InvalidValue;
use crate::config::{self, SyslogTarget};

section! {
    /// The values of `[log]`.
    Log = "[log]" "What is logged, and where to. A reload changes `level` and `checks`.";
    facts(log: &config::Log, _config);
    reserved;
    level: &'static str = choice("level", &LEVEL), optional("info"),
        "The least severe level that is logged." => text(&log.level);
    /// True for `format = "json"`.
    json: bool = choice("format", &FORMAT), optional(false), with_restart,
        "Lines of text, or of JSON." => word(&FORMAT, &log.json);
    checks: bool = flag("checks"), optional(false),
        "Log every result of a health check, not only those that change a state." => bare(log.checks);
    /// The path of the session log; `None` for `sessions = false`.
    sessions: Option<PathBuf> = with("sessions", ValueKind::String("false, or an absolute path"), sessions),
        unset("no file"), with_restart,
        "The file that gets one line of JSON for every session that ends."
        => or_none(log.sessions.as_ref(), |path| text(path.display()));
    syslog: SyslogTarget = strings(
            "syslog", "an address with a port, or the path of a socket such as /dev/log", target
        ), unset("none"), with_restart,
        "Syslog collectors that get every line as well (RFC 5424)." => list(&log.syslog, collector);
    /// The facility code (RFC 5424 section 6.2.1).
    facility: u8 = choice("facility", &FACILITY), optional(DAEMON), with_restart,
        "The syslog facility." => word(&FACILITY, &log.facility);
    hostname: String = string("hostname", "1 to 255 printable characters without spaces", hostname),
        unset("the machine's name"), with_restart,
        "The HOSTNAME of syslog messages." => or_none(log.hostname.as_ref(), text);
}

/// The default facility, `daemon` (RFC 5424 section 6.2.1).
const DAEMON: u8 = 3;

fn collector(target: &SyslogTarget) -> Value {
    match target {
        SyslogTarget::Udp(address) => text(address),
        SyslogTarget::Local(path) => text(path.display()),
    }
}

fn sessions(reader: &Reader<'_>, out: &mut Diagnostics) -> Field<Option<PathBuf>> {
    let Some(raw) = reader.raw("sessions") else { return Field::Absent };
    match raw.get_ref() {
        DeValue::Boolean(false) => Field::Given(Located::new(None, raw.span())),
        DeValue::Boolean(true) => {
            let error = Diagnostic::error(raw.span(), "`sessions` must be false or the path of a file, found true");
            out.push(error.hint("write for example sessions = \"/var/log/fwlb/sessions.json\""));
            Field::Invalid
        }
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Datetime(_)
        | DeValue::Array(_)
        | DeValue::Table(_) => match reader.string("sessions", path, out) {
            Field::Given(at) => Field::Given(Located::new(Some(at.value), at.span)),
            Field::Absent => Field::Absent,
            Field::Invalid => Field::Invalid,
        },
    }
}

/// Parses a syslog collector: `192.0.2.1:514`, `[2001:db8::1]:514`, or the path of a socket such as `/dev/log`.
fn target(text: &str) -> Result<SyslogTarget, InvalidValue> {
    if text.starts_with('/') {
        return super::socket_path(text).map(SyslogTarget::Local);
    }
    let refused = || {
        InvalidValue::new(format!("not a syslog collector: {text:?}"))
            .hint("write \"ADDRESS:514\", \"[ADDRESS]:514\" for IPv6, or the path of a socket such as \"/dev/log\"")
    };
    let address: SocketAddr = text.parse().map_err(|_| refused())?;
    match address.port() {
        0 => Err(refused()),
        1.. => Ok(SyslogTarget::Udp(address)),
    }
}

/// Parses a HOSTNAME of syslog messages: 1 to 255 printable US-ASCII characters (RFC 5424 section 6.2.4).
fn hostname(text: &str) -> Result<String, InvalidValue> {
    match (1..=255).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(text.to_owned()),
        false => Err(InvalidValue::new(format!(
            "`hostname` must be 1 to 255 printable characters without spaces, found {text:?}"
        ))),
    }
}
