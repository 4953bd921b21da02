//! Decides who a caller is, and whether he may do what he requests.
//!
//! The control socket is guarded by the permissions of its file: whoever opens it may do everything, and the kernel
//! tells which user that is (SO_PEERCRED, unix(7)). On the network, everybody on the machine may read over loopback,
//! and everything else needs a bearer token (RFC 6750). A browser never sends a token on its own, so a foreign page
//! cannot make it change anything. What a foreign page could still do is read from loopback through a name that it
//! resolves to loopback (DNS rebinding); this is refused by the `Host` and `Origin` headers, which the page cannot
//! forge.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::http::{HeaderMap, Method, StatusCode, header};
use subtle::ConstantTimeEq;

use crate::api::ApiError;
use crate::config::{Role, Token};

/// Who sends a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// A user of the control socket; `None` if the kernel did not tell which.
    Socket(Option<User>),
    /// Somebody without a token.
    Anonymous,
    /// The owner of a token.
    Token {
        /// Name of the token.
        name: Arc<str>,
        /// What the token permits.
        role: Role,
    },
}

impl Caller {
    /// Whether this caller may change what an engine does, or see packets.
    pub fn may_change(&self) -> bool {
        match self {
            Self::Socket(_) | Self::Token { role: Role::Operator, .. } => true,
            Self::Anonymous | Self::Token { role: Role::Viewer, .. } => false,
        }
    }

    /// The caller as he is shown to himself.
    pub fn view(&self) -> CallerView {
        let name = match self {
            Self::Token { name, .. } => Some(name.to_string()),
            Self::Socket(user) => user.as_ref().map(User::to_string),
            Self::Anonymous => None,
        };
        CallerView { name, role: if self.may_change() { "operator" } else { "viewer" } }
    }

    /// The name that is recorded as `by`: the name of a token, whatever the caller claims; on the control socket the
    /// user, with the claimed name beside it.
    pub fn by(&self, claim: Option<&str>) -> String {
        match self {
            Self::Token { name, .. } => name.to_string(),
            Self::Socket(user) => with_claim(user.as_ref(), claim),
            Self::Anonymous => with_claim(None, claim),
        }
    }
}

/// The caller, as the API sees him.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct CallerView {
    /// The name of the token, or on the control socket the user; null: unknown.
    pub name: Option<String>,
    /// What the caller may do: `viewer` or `operator`.
    pub role: &'static str,
}

/// The user who opened a connection to the control socket, as the kernel reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// User id of the process.
    pub uid: u32,
    /// Name of that user, if known.
    pub name: Option<String>,
    /// The user who logged in, if that is another one (behind `sudo` or `su`) and the kernel tells it: a name, or `uid
    /// N`.
    pub login: Option<String>,
}

impl fmt::Display for User {
    /// Formats as `root (uid 0)`, `root (uid 0, login anna)` or `uid 4711`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let uid = self.uid;
        match (&self.name, &self.login) {
            (Some(name), Some(login)) => write!(f, "{name} (uid {uid}, login {login})"),
            (Some(name), None) => write!(f, "{name} (uid {uid})"),
            (None, Some(login)) => write!(f, "uid {uid} (login {login})"),
            (None, None) => write!(f, "uid {uid}"),
        }
    }
}

/// Number of characters of a claimed name that are repeated.
const CLAIM_MAX: usize = 32;

/// The known user, with the claimed name beside it if that differs. A claim is quoted, so that it cannot be taken for a
/// fact.
fn with_claim(user: Option<&User>, claim: Option<&str>) -> String {
    let known = user.map_or_else(|| "unknown user".to_owned(), User::to_string);
    let names = user.map(|user| [user.name.as_deref(), user.login.as_deref()]).unwrap_or_default();
    match claim.filter(|claim| !claim.is_empty() && !names.contains(&Some(claim))) {
        Some(claim) => format!("{known}, claimed name {:?}", claim.chars().take(CLAIM_MAX).collect::<String>()),
        None => known,
    }
}

/// The rules of access at one address.
#[derive(Debug)]
pub struct Guard {
    loopback: bool,
    scheme: &'static str,
    tokens: Vec<Token>,
}

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status: 400, 401 or 403.
    pub status: StatusCode,
    /// The error, which says what to do.
    pub error: ApiError,
}

impl Guard {
    /// The rules for `listen` with these tokens.
    pub fn new(listen: SocketAddr, tls: bool, tokens: Vec<Token>) -> Self {
        Self { loopback: listen.ip().is_loopback(), scheme: if tls { "https" } else { "http" }, tokens }
    }

    /// Admits or refuses a request; returns its caller.
    pub fn admit(&self, method: &Method, path: &str, headers: &HeaderMap) -> Result<Caller, Refusal> {
        let host = text(headers, header::HOST).ok_or_else(|| {
            refusal(StatusCode::BAD_REQUEST, ApiError::BadRequest("the request has no `Host`".to_owned()))
        })?;
        self.same_site(host, headers)?;
        let caller = self.caller(headers)?;
        if caller == Caller::Anonymous {
            self.anonymous(method, path, host)?;
        }
        if !is_reading(method) && !caller.may_change() {
            let forbidden = "this token is a viewer's; changing calls need one with the role \"operator\"";
            return Err(refusal(StatusCode::FORBIDDEN, ApiError::Forbidden(forbidden.to_owned())));
        }
        Ok(caller)
    }

    /// Refuses requests of other sites' pages, which browsers mark by headers that scripts cannot set.
    fn same_site(&self, host: &str, headers: &HeaderMap) -> Result<(), Refusal> {
        let origin = headers.get(header::ORIGIN);
        let own = || format!("{}://{host}", self.scheme);
        let foreign = origin.is_some_and(|origin| !origin.as_bytes().eq_ignore_ascii_case(own().as_bytes()));
        let fetch = |name: &str| headers.get(name).map(|value| value.as_bytes());
        // A link from another page is harmless, because that page does not see the answer.
        let embedded = fetch("sec-fetch-site") == Some(b"cross-site") && fetch("sec-fetch-mode") != Some(b"navigate");
        if foreign || embedded {
            let message = "pages of other sites may not ask an engine";
            return Err(refusal(StatusCode::FORBIDDEN, ApiError::Forbidden(message.to_owned())));
        }
        Ok(())
    }

    fn caller(&self, headers: &HeaderMap) -> Result<Caller, Refusal> {
        let Some(authorization) = headers.get(header::AUTHORIZATION) else { return Ok(Caller::Anonymous) };
        let given = authorization.as_bytes();
        let secret = match given.split_at_checked(7) {
            Some((scheme, secret)) if scheme.eq_ignore_ascii_case(b"bearer ") => secret,
            Some(_) | None => return Err(unauthorized("expected `Authorization: Bearer SECRET`")),
        };
        // All tokens are compared, so that the time does not reveal which one was nearly right.
        let known = self.tokens.iter().fold(None, |known, token| {
            let same = bool::from(token.secret.expose().as_bytes().ct_eq(secret));
            if same { Some(token) } else { known }
        });
        match known {
            Some(token) => Ok(Caller::Token { name: token.name.as_str().into(), role: token.role }),
            None => Err(unauthorized("no token of this engine has that secret")),
        }
    }

    /// Permits what needs no token: the page, which contains no data, and on loopback reading.
    fn anonymous(&self, method: &Method, path: &str, host: &str) -> Result<(), Refusal> {
        if !is_reading(method) {
            return Err(unauthorized("changing calls need an operator's token: `Authorization: Bearer SECRET`"));
        }
        if self.loopback {
            return match is_own_name(host) {
                true => Ok(()),
                // DNS rebinding: a foreign name that resolves to loopback.
                false => Err(refusal(
                    StatusCode::FORBIDDEN,
                    ApiError::Forbidden(format!(
                        "the engine is not called {host:?}; ask for its address, or \"localhost\", or with a token"
                    )),
                )),
            };
        }
        match is_data(path) {
            false => Ok(()),
            true => Err(unauthorized("beyond loopback a token is needed: `Authorization: Bearer SECRET`")),
        }
    }
}

/// Whether the path leads to data, that is to anything but the page.
fn is_data(path: &str) -> bool {
    path.starts_with("/api") || path.starts_with("/metrics")
}

fn is_reading(method: &Method) -> bool {
    method == Method::GET || method == Method::HEAD
}

/// Whether a host is an address or `localhost`, with or without a port.
fn is_own_name(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) if port.is_empty() || port.starts_with(':') => address,
            Some(_) | None => return false,
        },
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn refusal(status: StatusCode, error: ApiError) -> Refusal {
    Refusal { status, error }
}

fn unauthorized(message: &str) -> Refusal {
    refusal(StatusCode::UNAUTHORIZED, ApiError::Unauthorized(message.to_owned()))
}

#[cfg(test)]
mod tests;
