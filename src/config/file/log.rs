//! Declares the keys of `[log]`, holds their typed values, and reads them.

use std::net::SocketAddr;
use std::path::PathBuf;

use toml::de::DeValue;

use super::choices::{FACILITY, FORMAT, LEVEL};
use super::read::path;
use crate::config::SyslogTarget;
use crate::config::diagnostic::{Diagnostic, Diagnostics};
use crate::config::reader::{Field, Located, Reader};
use crate::config::schema::{Key, Schema, ValueKind, choice_names};
use crate::config::value::InvalidValue;

pub static LOG: Schema = Schema {
    section: "[log]",
    about: "What is logged, and where to. A reload changes `level` and `checks`.",
    keys: &[
        Key::optional("level", ValueKind::Choice(|| choice_names(&LEVEL)), "The least severe level that is logged."),
        Key::optional("format", ValueKind::Choice(|| choice_names(&FORMAT)), "Lines of text, or of JSON.")
            .with_restart(),
        Key::optional(
            "checks",
            ValueKind::Flag,
            "Log every result of a health check, not only those that change a state.",
        ),
        Key::unset(
            "sessions",
            ValueKind::String("false, or an absolute path"),
            "no file",
            "The file that gets one line of JSON for every session that ends.",
        )
        .with_restart(),
        Key::unset(
            "syslog",
            ValueKind::Strings("an address with a port, or the path of a socket such as /dev/log"),
            "none",
            "Syslog collectors that get every line as well (RFC 5424).",
        )
        .with_restart(),
        Key::optional("facility", ValueKind::Choice(|| choice_names(&FACILITY)), "The syslog facility.").with_restart(),
        Key::unset(
            "hostname",
            ValueKind::String("1 to 255 printable characters without spaces"),
            "the machine's name",
            "The HOSTNAME of syslog messages.",
        )
        .with_restart(),
    ],
    reserved: &[],
    absent: &[],
};

/// The values of `[log]`.
#[derive(Debug, Clone)]
pub struct Log {
    pub level: Field<&'static str>,
    /// True for `format = "json"`.
    pub json: Field<bool>,
    pub checks: Field<bool>,
    /// The path of the session log; `None` for `sessions = false`.
    pub sessions: Field<Option<PathBuf>>,
    pub syslog: Field<Vec<Located<SyslogTarget>>>,
    /// The facility code (RFC 5424 section 6.2.1).
    pub facility: Field<u8>,
    pub hostname: Field<String>,
}

impl Log {
    /// The default facility, `daemon` (RFC 5424 section 6.2.1).
    pub const DAEMON: u8 = 3;
}

pub(super) fn read_log(reader: &Reader<'_>, out: &mut Diagnostics) -> Log {
    Log {
        level: reader.choice("level", &LEVEL, out),
        json: reader.choice("format", &FORMAT, out),
        checks: reader.flag("checks", out),
        sessions: read_sessions(reader, out),
        syslog: reader.strings("syslog", target, out),
        facility: reader.choice("facility", &FACILITY, out),
        hostname: reader.string("hostname", hostname, out),
    }
}

fn read_sessions(reader: &Reader<'_>, out: &mut Diagnostics) -> Field<Option<PathBuf>> {
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
        return super::read::socket_path(text).map(SyslogTarget::Local);
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
