//! `[api]` with its certificate and tokens, as typed.

use std::net::SocketAddr;
use std::ops::Range;

use super::keys::{ALL, NAME};
use super::read::each;
use super::words::ROLE;
use crate::config::Role;
use crate::config::diagnostic::Diagnostics;
use crate::config::reader::{Field, Reader};
use crate::config::schema::{Key, Kind, Schema, words};
use crate::config::value::{self, Refused};

pub static API: Schema = Schema {
    section: "[api]",
    about: "The API, the web console and /metrics on the kernel's side: a management device, never a link of the engine. Beyond \
            loopback it takes `tls` and a token.",
    keys: &[
        Key::unset(
            "listen",
            Kind::Word("an address with a port, as in 127.0.0.1:9600"),
            "the control socket alone",
            "Where HTTP is served.",
        ),
        Key::unset("tls", Kind::Table, "no HTTPS", "The certificate for HTTPS."),
        Key::unset(
            "socket-group",
            Kind::Word("a group of the operating system, by name or number"),
            "the engine's own",
            "Who owns the control socket, which has mode 0660.",
        )
        .at_start(),
        Key::unset("token", Kind::Tables, "none", "Who may ask over the network."),
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
            Kind::File("the path of a PEM file, the server's own certificate first"),
            "\"/etc/fwlb/tls.crt\"",
            "The chain of certificates.",
        ),
        Key::required("key", Kind::Secret("a private key as PEM"), "\"file:/etc/fwlb/tls.key\"", "Its private key."),
    ],
    reserved: &[],
    absent: &[],
};
pub static TOKEN: Schema = Schema {
    section: "[[api.token]]",
    about: "Whoever sends the secret as a bearer token is the one called `name`.",
    keys: &[
        Key::required("name", NAME, "\"ansible\"", "Appears as `by` in events."),
        Key::required("role", Kind::Choice(|| words(&ROLE)), "\"viewer\"", "A viewer reads, an operator changes too."),
        Key::required(
            "secret",
            Kind::Secret("16 to 1024 visible ASCII characters"),
            "\"file:/etc/fwlb/ansible.token\"",
            "The token.",
        ),
    ],
    reserved: &[],
    absent: &[],
};

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
    let text = |text: &str| Ok(text.to_owned());
    Tls { span: reader.span(), certificate: reader.word("certificate", text, out), key: reader.word("key", text, out) }
}

fn read_token(reader: &Reader<'_>, out: &mut Diagnostics) -> Token {
    Token {
        span: reader.span(),
        name: reader.word("name", value::name, out),
        role: reader.choice("role", &ROLE, out),
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
