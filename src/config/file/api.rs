//! Declares `[api]`, `tls` and `[[api.token]]`.

use std::net::SocketAddr;

use super::NAME;
use super::section::section;
use crate::config::fact::{hidden, or_none, secret, text};
use crate::config::value::{self, InvalidValue};
use crate::config::{self, Role};

section! {
    /// The values of `[api]`.
    Api = "[api]" "The API, the web console and /metrics on the kernel's side: a management device, never a link of the engine. Beyond \
            loopback it takes `tls` and a token.";
    facts(api: &config::Api, _config);
    reserved;
    listen: SocketAddr = string("listen", "an address with a port, as in 127.0.0.1:9600", listen),
        unset("the control socket alone"),
        "The address of the HTTP listener." => or_none(api.listen, text);
    tls: Tls = table("tls"), unset("no HTTPS"), "The certificate and private key for HTTPS.";
    socket_group: String = string("socket-group", "a group of the operating system, by name or number", group),
        unset("the engine's own"), with_restart,
        "The group that owns the control socket, which has mode 0660." => or_none(api.socket_group.as_ref(), text);
    tokens: Token = tables("token"), unset("none"),
        "Bearer tokens, with which clients on the network identify themselves.";
}

section! {
    /// The values of `tls` of `[api]`.
    Tls = "`tls` of [api]" as "tls = { certificate = \"/etc/fwlb/tls.crt\", key = \"file:/etc/fwlb/tls.key\" }"
        "tls = { certificate = \"/etc/fwlb/tls.crt\", key = \"file:/etc/fwlb/tls.key\" }.";
    facts(tls: &config::Tls, _config);
    reserved;
    certificate: String = file("certificate", "the path of a PEM file, the server's own certificate first"),
        required("\"/etc/fwlb/tls.crt\""),
        "The certificate chain." => hidden(&tls.certificate);
    key: String = secret("key", "a private key as PEM"), required("\"file:/etc/fwlb/tls.key\""),
        "Its private key." => secret(&tls.key);
}

section! {
    /// The values of `[[api.token]]`.
    Token = "[[api.token]]" "A bearer token (RFC 6750): whoever sends the secret is identified as `name`.";
    facts(token: &config::Token, _config);
    reserved;
    name: String = string("name", NAME, value::name), required("\"ansible\""),
        "The name that events have as `by`." => text(&token.name);
    role: Role = choice("role", &Role::CHOICES), required("\"viewer\""),
        "A viewer may read; an operator may change things, too." => text(token.role);
    secret: String = secret("secret", "16 to 1024 visible ASCII characters"),
        required("\"file:/etc/fwlb/ansible.token\""),
        "The token itself." => secret(&token.secret);
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
