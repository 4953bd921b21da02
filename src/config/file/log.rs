//! `[log]`.

use std::net::SocketAddr;
use std::path::PathBuf;

use toml::de::DeValue;

use super::read::path;
use super::words::{FACILITY, FORMAT, LEVEL};
use crate::config::SyslogTarget;
use crate::config::diagnostic::{Diagnostic, Diagnostics};
use crate::config::reader::{At, Field, Reader};
use crate::config::schema::{Key, Kind, Schema, words};
use crate::config::value::Refused;

pub static LOG: Schema = Schema {
    section: "[log]",
    about: "What is logged, and where to. A reload changes `level` and `checks`.",
    keys: &[
        Key::optional("level", Kind::Choice(|| words(&LEVEL)), "The least important lines that are written."),
        Key::optional("format", Kind::Choice(|| words(&FORMAT)), "Lines of text, or JSON.").at_start(),
        Key::optional("checks", Kind::Flag, "A line for every health check, not only for those that change a state."),
        Key::unset(
            "sessions",
            Kind::Word("false, or an absolute path"),
            "no file",
            "The file of a JSON line for every session that ends.",
        )
        .at_start(),
        Key::unset(
            "syslog",
            Kind::Words("an address with a port, or the path of a socket such as /dev/log"),
            "none",
            "Syslog collectors that get every line too (RFC 5424).",
        )
        .at_start(),
        Key::optional("facility", Kind::Choice(|| words(&FACILITY)), "The facility for the collectors.").at_start(),
        Key::unset(
            "hostname",
            Kind::Word("1 to 255 printable characters without spaces"),
            "the machine's name",
            "What collectors are told that this machine is called.",
        )
        .at_start(),
    ],
    reserved: &[],
    absent: &[],
};

/// `[log]`.
#[derive(Debug, Clone)]
pub struct Log {
    /// `level`.
    pub level: Field<&'static str>,
    /// `format` is `json`.
    pub json: Field<bool>,
    /// `checks`.
    pub checks: Field<bool>,
    /// `sessions`; `None` for `false`.
    pub sessions: Field<Option<PathBuf>>,
    /// `syslog`.
    pub syslog: Field<Vec<At<SyslogTarget>>>,
    /// `facility`, as its code.
    pub facility: Field<u8>,
    /// `hostname`.
    pub hostname: Field<String>,
}

impl Log {
    /// The facility where none is given.
    pub const DAEMON: u8 = 3;
}

pub(super) fn read_log(reader: &Reader<'_>, out: &mut Diagnostics) -> Log {
    Log {
        level: reader.choice("level", &LEVEL, out),
        json: reader.choice("format", &FORMAT, out),
        checks: reader.flag("checks", out),
        sessions: read_sessions(reader, out),
        syslog: reader.words("syslog", target, out),
        facility: reader.choice("facility", &FACILITY, out),
        hostname: reader.word("hostname", hostname, out),
    }
}

fn read_sessions(reader: &Reader<'_>, out: &mut Diagnostics) -> Field<Option<PathBuf>> {
    let Some(raw) = reader.raw("sessions") else { return Field::Absent };
    match raw.get_ref() {
        DeValue::Boolean(false) => Field::Given(At::new(None, raw.span())),
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
        | DeValue::Table(_) => match reader.word("sessions", path, out) {
            Field::Given(at) => Field::Given(At::new(Some(at.value), at.span)),
            Field::Absent => Field::Absent,
            Field::Invalid => Field::Invalid,
        },
    }
}

/// `192.0.2.1:514`, `[2001:db8::1]:514`, or `/dev/log`.
fn target(text: &str) -> Result<SyslogTarget, Refused> {
    if text.starts_with('/') {
        return super::read::socket_path(text).map(SyslogTarget::Local);
    }
    let refused = || {
        Refused::new(format!("not a syslog collector: {text:?}"))
            .hint("write \"ADDRESS:514\", \"[ADDRESS]:514\" for IPv6, or the path of a socket such as \"/dev/log\"")
    };
    let address: SocketAddr = text.parse().map_err(|_| refused())?;
    match address.port() {
        0 => Err(refused()),
        1.. => Ok(SyslogTarget::Udp(address)),
    }
}

/// RFC 5424 section 6.2.4: printable US-ASCII, at most 255 characters.
fn hostname(text: &str) -> Result<String, Refused> {
    match (1..=255).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(text.to_owned()),
        false => Err(Refused::new(format!(
            "`hostname` must be 1 to 255 printable characters without spaces, found {text:?}"
        ))),
    }
}
