//! Declares the keys of `[api]`, `tls` and `[[api.token]]`, holds their typed values, and reads them.

use std::net::SocketAddr;
use std::ops::Range;

use super::choices::ROLE;
use super::keys::{ALL, NAME};
use super::read::each;
use crate::config::Role;
use crate::config::diagnostic::Diagnostics;
use crate::config::reader::{Field, Reader};
use crate::config::schema::{Key, Schema, ValueKind, choice_names};
use crate::config::value::{self, InvalidValue};

pub static API: Schema = Schema {
    section: "[api]",
    about: "The API, the web console and /metrics on the kernel's side: a management device, never a link of the engine. Beyond \
            loopback it takes `tls` and a token.",
    keys: &[
        Key::unset(
            "listen",
            ValueKind::String("an address with a port, as in 127.0.0.1:9600"),
            "the control socket alone",
            "The address of the HTTP listener.",
        ),
        Key::unset("tls", ValueKind::Table, "no HTTPS", "The certificate and private key for HTTPS."),
        Key::unset(
            "socket-group",
            ValueKind::String("a group of the operating system, by name or number"),
            "the engine's own",
            "The group that owns the control socket, which has mode 0660.",
        )
        .with_restart(),
        Key::unset(
            "token",
            ValueKind::Tables,
            "none",
            "Bearer tokens, with which clients on the network identify themselves.",
        ),
    ],
    reserved: &[],
    absent: &[],
};
pub static TLS: Schema = Schema {
    section: "`tls` of [api]",
    about: "tls = { certificate = \"/etc/fwlb/tls.crt\", key = \"file:/etc/fwlb/tls.key\" }.",
    keys: &[
        Key::required(
            "certificate",
            ValueKind::File("the path of a PEM file, the server's own certificate first"),
            "\"/etc/fwlb/tls.crt\"",
            "The certificate chain.",
        ),
        Key::required(
            "key",
            ValueKind::Secret("a private key as PEM"),
            "\"file:/etc/fwlb/tls.key\"",
            "Its private key.",
        ),
    ],
    reserved: &[],
    absent: &[],
};
pub static TOKEN: Schema = Schema {
    section: "[[api.token]]",
    about: "A bearer token (RFC 6750): whoever sends the secret is identified as `name`.",
    keys: &[
        Key::required("name", NAME, "\"ansible\"", "The name that events have as `by`."),
        Key::required(
            "role",
            ValueKind::Choice(|| choice_names(&ROLE)),
            "\"viewer\"",
            "A viewer may read; an operator may change things, too.",
        ),
        Key::required(
            "secret",
            ValueKind::Secret("16 to 1024 visible ASCII characters"),
            "\"file:/etc/fwlb/ansible.token\"",
            "The token itself.",
        ),
    ],
    reserved: &[],
    absent: &[],
};

/// The values of `[api]`.
#[derive(Debug, Clone)]
pub struct Api {
    pub listen: Field<SocketAddr>,
    pub tls: Option<Tls>,
    pub socket_group: Field<String>,
    pub tokens: Vec<Token>,
}

/// The values of `tls` of `[api]`.
#[derive(Debug, Clone)]
pub struct Tls {
    /// Byte range of the table.
    pub span: Range<usize>,
    pub certificate: Field<String>,
    pub key: Field<String>,
}

/// The values of `[[api.token]]`.
#[derive(Debug, Clone)]
pub struct Token {
    /// Byte range of the header.
    pub span: Range<usize>,
    pub name: Field<String>,
    pub role: Field<Role>,
    pub secret: Field<String>,
}

pub(super) fn read_api(reader: &Reader<'_>, out: &mut Diagnostics) -> Api {
    let tls =
        reader.table("tls", "tls = { certificate = \"/etc/fwlb/tls.crt\", key = \"file:/etc/fwlb/tls.key\" }", out);
    Api {
        listen: reader.string("listen", listen, out),
        tls: tls.map(|(table, span)| {
            let reader = Reader::new(table, span, &TLS, &ALL, out);
            read_tls(&reader, out)
        }),
        socket_group: reader.string("socket-group", group, out),
        tokens: each(reader, "token", &TOKEN, out, read_token),
    }
}

fn read_tls(reader: &Reader<'_>, out: &mut Diagnostics) -> Tls {
    let text = |text: &str| Ok(text.to_owned());
    Tls {
        span: reader.span(),
        certificate: reader.string("certificate", text, out),
        key: reader.string("key", text, out),
    }
}

fn read_token(reader: &Reader<'_>, out: &mut Diagnostics) -> Token {
    Token {
        span: reader.span(),
        name: reader.string("name", value::name, out),
        role: reader.choice("role", &ROLE, out),
        secret: reader.string("secret", |text| Ok(text.to_owned()), out),
    }
}

fn listen(text: &str) -> Result<SocketAddr, InvalidValue> {
    let refused = || InvalidValue::new(format!("not an address with a port: {text:?}"));
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() == 0 => Err(refused().hint("a port is 1..=65535")),
        Ok(address) => Ok(address),
        Err(_) if text.starts_with("localhost:") => {
            Err(refused().hint(format!("write {:?}", text.replace("localhost", "127.0.0.1"))))
        }
        Err(_) => Err(refused().hint("write it as \"127.0.0.1:9600\" or \"[::1]:9600\"")),
    }
}

/// Parses the name or number of a group of the operating system.
fn group(text: &str) -> Result<String, InvalidValue> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    match !text.is_empty() && text.len() <= 32 && text.chars().all(legal) {
        true => Ok(text.to_owned()),
        false => Err(InvalidValue::new(format!("not the name of a group: {text:?}"))),
    }
}
