//! Validates `[api]`: a listener beyond loopback needs encryption and a token.

use std::ops::Range;

use crate::config::diagnostic::{Diagnostic, Diagnostics};
use crate::config::file;
use crate::config::reader::{Field, Located};
use crate::config::validate::ReadSecret;
use crate::config::validate::names::{Names, duplicate_error};
use crate::config::validate::secrets::{content, is_hidden, secret};
use crate::config::{Api, Secret, Tls, Token};

/// The largest number of tokens of one engine.
const TOKENS_MAX: usize = 64;
/// The least length of a token in bytes; shorter ones could be guessed.
const SECRET_MIN: usize = 16;

/// The meaning of `[api]`; `None` if it has a mistake.
pub fn api(typed: &file::Api, read_secret: &mut ReadSecret<'_>, out: &mut Diagnostics) -> Option<Api> {
    let before = out.errors();
    let tls = typed.tls.as_ref().and_then(|tls| certificate(tls, read_secret, out));
    let tokens = tokens(&typed.tokens, read_secret, out);
    match &typed.listen {
        Field::Given(listen) => {
            if !listen.value.ip().is_loopback() {
                beyond_loopback(typed, &listen.span, out);
            }
        }
        Field::Absent => unused_keys(typed, out),
        Field::Invalid => {}
    }
    (out.errors() == before).then(|| Api {
        listen: typed.listen.value(),
        tls,
        socket_group: typed.socket_group.value(),
        tokens,
    })
}

fn beyond_loopback(typed: &file::Api, listen: &Range<usize>, out: &mut Diagnostics) {
    if typed.tls.is_none() {
        let missing = Diagnostic::error(listen.clone(), "`listen` beyond loopback needs `tls`");
        out.push(missing.hint(
            "add tls = { certificate = \"/etc/fwlb/tls.crt\", key = \"file:/etc/fwlb/tls.key\" }, or listen on \
             \"127.0.0.1:9600\"",
        ));
    }
    if typed.tokens.is_empty() {
        let missing = Diagnostic::error(listen.clone(), "`listen` beyond loopback needs a token");
        out.push(missing.hint("write [[api.token]] with name, role and secret, or listen on \"127.0.0.1:9600\""));
    }
}

/// Warns about keys that have no effect because there is no listener.
fn unused_keys(typed: &file::Api, out: &mut Diagnostics) {
    let tls = typed.tls.as_ref().map(|tls| tls.span.clone());
    let token = typed.tokens.first().map(|token| token.span.clone());
    if let Some(span) = tls.or(token) {
        let message = "without `listen` the API is served on the control socket alone, which needs no tls and no token";
        out.push(Diagnostic::warning(span, message).hint("add listen = \"127.0.0.1:9600\" to [api]"));
    }
}

fn certificate(typed: &file::Tls, read_secret: &mut ReadSecret<'_>, out: &mut Diagnostics) -> Option<Tls> {
    let hint = |path: &str| format!("put it there, or name another file than {path}");
    let certificate = typed.certificate.given()?;
    let path = certificate.value.strip_prefix("file:").unwrap_or(&certificate.value);
    let chain = content(path, certificate, read_secret, hint, out).filter(|text| {
        let what = format!("no certificate in {path}");
        is_pem(text, "CERTIFICATE", certificate, what, out)
    });
    let key = typed.key.given()?;
    if key.value.starts_with('/') {
        let message = "`key` is the key itself, or names its file";
        out.push(Diagnostic::error(key.span.clone(), message).hint(format!("write \"file:{}\"", key.value)));
        return None;
    }
    let secret = secret(key, read_secret, hint, out)
        .filter(|text| is_hidden(key) || is_pem(text, "PRIVATE KEY", key, "no private key here".to_owned(), out));
    Some(Tls { certificate: chain?, key: Secret::new(secret?) })
}

fn is_pem(text: &str, label: &str, typed: &Located<String>, what: String, out: &mut Diagnostics) -> bool {
    let is_pem = text.lines().any(|line| line.starts_with("-----BEGIN ") && line.contains(label));
    if !is_pem {
        let hint = format!("it is PEM, a text with the line -----BEGIN {label}-----");
        out.push(Diagnostic::error(typed.span.clone(), what).hint(hint));
    }
    is_pem
}

fn tokens(typed: &[file::Token], read_secret: &mut ReadSecret<'_>, out: &mut Diagnostics) -> Vec<Token> {
    if let Some(one) = typed.get(TOKENS_MAX) {
        out.push(Diagnostic::error(one.span.clone(), format!("an engine has at most {TOKENS_MAX} tokens")));
        return Vec::new();
    }
    Names::new("token", typed.iter().map(|token| &token.name), out);
    let mut tokens: Vec<Token> = Vec::new();
    let mut places = Vec::new();
    for token in typed {
        let Some(place) = token.secret.given() else { continue };
        let Some(secret) = secret_of(place, read_secret, out) else { continue };
        let (Some(name), Some(role)) = (token.name.value(), token.role.value()) else { continue };
        let secret = Secret::new(secret);
        let earlier = || tokens.iter().position(|earlier| earlier.secret == secret);
        if let (false, Some(first)) = (is_hidden(place), earlier()) {
            out.push(duplicate_error("this secret".to_owned(), &place.span, &places[first]));
        }
        tokens.push(Token { name, role, secret });
        places.push(place.span.clone());
    }
    tokens
}

fn secret_of(typed: &Located<String>, read_secret: &mut ReadSecret<'_>, out: &mut Diagnostics) -> Option<String> {
    let make = |path: &str| format!("make it: head -c 24 /dev/urandom | base64 > {path}; chmod 600 {path}");
    let secret = secret(typed, read_secret, make, out)?;
    // The characters of a bearer token (RFC 6750 section 2.1). The message does not show the secret.
    let problem = if is_hidden(typed) {
        return Some(secret);
    } else if secret.len() < SECRET_MIN {
        format!("the secret has {} bytes and can be guessed", secret.len())
    } else if secret.len() > 1024 {
        "the secret is longer than 1024 bytes".to_owned()
    } else if !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
        "the secret has characters that a request cannot carry".to_owned()
    } else {
        return Some(secret);
    };
    let hint =
        format!("use {SECRET_MIN} or more letters and digits, for example from: head -c 24 /dev/urandom | base64");
    out.push(Diagnostic::error(typed.span.clone(), problem).hint(hint));
    None
}
