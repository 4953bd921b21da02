//! `[api]` with its certificate and tokens, as typed.

use std::net::SocketAddr;
use std::ops::Range;

use super::read::{ALL, each};
use crate::config::Role;
use crate::config::diagnostic::Diagnostics;
use crate::config::reader::{Field, Reader, Schema};
use crate::config::value::{self, Refused};

pub(super) static API: Schema =
    Schema { section: "[api]", keys: &["listen", "tls", "socket-group", "token"], reserved: &[], absent: &[] };
pub(super) static TLS: Schema =
    Schema { section: "`tls` of [api]", keys: &["certificate", "key"], reserved: &[], absent: &[] };
pub(super) static TOKEN: Schema =
    Schema { section: "[[api.token]]", keys: &["name", "role", "secret"], reserved: &[], absent: &[] };

/// `[api]`.
#[derive(Debug, Clone)]
pub struct Api {
    /// `listen`.
    pub listen: Field<SocketAddr>,
    /// `tls`.
    pub tls: Option<Tls>,
    /// `socket-group`.
    pub socket_group: Field<String>,
    /// `[[api.token]]`.
    pub tokens: Vec<Token>,
}

/// `tls` of `[api]`.
#[derive(Debug, Clone)]
pub struct Tls {
    /// Where it stands.
    pub span: Range<usize>,
    /// `certificate`.
    pub certificate: Field<String>,
    /// `key`.
    pub key: Field<String>,
}

/// `[[api.token]]`.
#[derive(Debug, Clone)]
pub struct Token {
    /// Its header.
    pub span: Range<usize>,
    /// `name`.
    pub name: Field<String>,
    /// `role`.
    pub role: Field<Role>,
    /// `secret`.
    pub secret: Field<String>,
}

pub(super) fn read_api(reader: &Reader<'_>, out: &mut Diagnostics) -> Api {
    let tls =
        reader.table("tls", "tls = { certificate = \"/etc/fwlb/tls.crt\", key = \"file:/etc/fwlb/tls.key\" }", out);
    Api {
        listen: reader.word("listen", listen, out),
        tls: tls.map(|(table, span)| {
            let reader = Reader::new(table, span, &TLS, &ALL, out);
            read_tls(&reader, out)
        }),
        socket_group: reader.word("socket-group", group, out),
        tokens: each(reader, "token", &TOKEN, out, read_token),
    }
}

fn read_tls(reader: &Reader<'_>, out: &mut Diagnostics) -> Tls {
    reader.require("certificate", "\"/etc/fwlb/tls.crt\"", out);
    reader.require("key", "\"file:/etc/fwlb/tls.key\"", out);
    let text = |text: &str| Ok(text.to_owned());
    Tls { span: reader.span(), certificate: reader.word("certificate", text, out), key: reader.word("key", text, out) }
}

fn read_token(reader: &Reader<'_>, out: &mut Diagnostics) -> Token {
    reader.require("name", "\"ansible\"", out);
    reader.require("role", "\"viewer\"", out);
    reader.require("secret", "\"file:/etc/fwlb/ansible.token\"", out);
    Token {
        span: reader.span(),
        name: reader.word("name", value::name, out),
        role: reader.choice("role", &[("viewer", Role::Viewer), ("operator", Role::Operator)], out),
        secret: reader.word("secret", |text| Ok(text.to_owned()), out),
    }
}

fn listen(text: &str) -> Result<SocketAddr, Refused> {
    let refused = || Refused::new(format!("not an address with a port: {text:?}"));
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() == 0 => Err(refused().hint("a port is 1..=65535")),
        Ok(address) => Ok(address),
        Err(_) if text.starts_with("localhost:") => {
            Err(refused().hint(format!("write {:?}", text.replace("localhost", "127.0.0.1"))))
        }
        Err(_) => Err(refused().hint("write it as \"127.0.0.1:9600\" or \"[::1]:9600\"")),
    }
}

/// The name of a group of the operating system, or its number.
fn group(text: &str) -> Result<String, Refused> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    match !text.is_empty() && text.len() <= 32 && text.chars().all(legal) {
        true => Ok(text.to_owned()),
        false => Err(Refused::new(format!("not the name of a group: {text:?}"))),
    }
}
