//! Who asks, and whether they may.
//!
//! The control socket is guarded by its file's permissions: whoever opens it may do everything, and the kernel says who that is
//! (SO_PEERCRED, unix(7)), not the one who asks. On the network, loopback may
//! be read by everybody on the machine, and everything else needs a bearer token (RFC 6750). A token is never sent by a
//! browser on its own, so a foreign page cannot make one change anything; what a foreign page could still do, read from
//! loopback through a name that it made point there, is refused by the `Host` and `Origin` that it cannot forge.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::http::{HeaderMap, Method, StatusCode, header};
use subtle::ConstantTimeEq;

use crate::api::ApiError;
use crate::config::{Role, Token};

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// Somebody on the control socket; `None`: the kernel did not say who.
    Socket(Option<User>),
    /// Somebody without a token.
    Anonymous,
    /// The owner of a token.
    Token {
        /// Its name.
        name: Arc<str>,
        /// What it may do.
        role: Role,
    },
}

impl Caller {
    /// Whether this one may change what an engine does, or see packets.
    pub fn may_change(&self) -> bool {
        match self {
            Self::Socket(_) | Self::Token { role: Role::Operator, .. } => true,
            Self::Anonymous | Self::Token { role: Role::Viewer, .. } => false,
        }
    }

    /// As it is told to the one who asks.
    pub fn view(&self) -> CallerView {
        let name = match self {
            Self::Token { name, .. } => Some(name.to_string()),
            Self::Socket(user) => user.as_ref().map(User::to_string),
            Self::Anonymous => None,
        };
        CallerView { name, role: if self.may_change() { "operator" } else { "viewer" } }
    }

    /// What appears as `by`: a token's own name, whoever it says it is; on the control socket the user, and beside it who it
    /// claims to be.
    pub fn by(&self, claim: Option<&str>) -> String {
        match self {
            Self::Token { name, .. } => name.to_string(),
            Self::Socket(user) => with_claim(user.as_ref(), claim),
            Self::Anonymous => with_claim(None, claim),
        }
    }
}

/// Who asks, as it is told to the one who asks.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct CallerView {
    /// The name of the token; on the control socket the user. Null: nobody knows.
    pub name: Option<String>,
    /// What it may do: `viewer`, `operator`.
    pub role: &'static str,
}

/// The user who opened a connection to the control socket, by the kernel's word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The user whose process it is.
    pub uid: u32,
    /// What that user is called.
    pub name: Option<String>,
    /// The user who logged in, where that is another one (behind `sudo` or `su`) and the kernel says it: a name, or `uid N`.
    pub login: Option<String>,
}

impl fmt::Display for User {
    /// `root (uid 0)`, `root (uid 0, login anna)`, `uid 4711`.
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

/// Letters of a claimed name that are repeated.
const CLAIM_MAX: usize = 32;

/// Who is known, and beside it who it claims to be, where that says something else. A claim is quoted: it cannot look like
/// anything but a claim.
fn with_claim(user: Option<&User>, claim: Option<&str>) -> String {
    let known = user.map_or_else(|| "unknown user".to_owned(), User::to_string);
    let names = user.map(|user| [user.name.as_deref(), user.login.as_deref()]).unwrap_or_default();
    match claim.filter(|claim| !claim.is_empty() && !names.contains(&Some(claim))) {
        Some(claim) => format!("{known}, claimed name {:?}", claim.chars().take(CLAIM_MAX).collect::<String>()),
        None => known,
    }
}

/// Who may ask at one address.
#[derive(Debug)]
pub struct Guard {
    loopback: bool,
    scheme: &'static str,
    tokens: Vec<Token>,
}

/// Why a request is not answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// 400, 401 or 403.
    pub status: StatusCode,
    /// What to do.
    pub error: ApiError,
}

impl Guard {
    /// For `listen`, with these tokens.
    pub fn new(listen: SocketAddr, tls: bool, tokens: Vec<Token>) -> Self {
        Self { loopback: listen.ip().is_loopback(), scheme: if tls { "https" } else { "http" }, tokens }
    }

    /// Who asks, if they may.
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

    /// A page of another site says so in headers that its scripts cannot set.
    fn same_site(&self, host: &str, headers: &HeaderMap) -> Result<(), Refusal> {
        let origin = headers.get(header::ORIGIN);
        let own = || format!("{}://{host}", self.scheme);
        let foreign = origin.is_some_and(|origin| !origin.as_bytes().eq_ignore_ascii_case(own().as_bytes()));
        let fetch = |name: &str| headers.get(name).map(|value| value.as_bytes());
        // To follow a link from elsewhere is no harm: the other page sees nothing of the answer.
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
        // All are compared, so that the time says nothing about which one was nearly right.
        let known = self.tokens.iter().fold(None, |known, token| {
            let same = bool::from(token.secret.expose().as_bytes().ct_eq(secret));
            if same { Some(token) } else { known }
        });
        match known {
            Some(token) => Ok(Caller::Token { name: token.name.as_str().into(), role: token.role }),
            None => Err(unauthorized("no token of this engine has that secret")),
        }
    }

    /// What is allowed without a token: to load the page, which holds no data, and on loopback to read.
    fn anonymous(&self, method: &Method, path: &str, host: &str) -> Result<(), Refusal> {
        if !is_reading(method) {
            return Err(unauthorized("changing calls need an operator's token: `Authorization: Bearer SECRET`"));
        }
        if self.loopback {
            return match is_own_name(host) {
                true => Ok(()),
                // DNS rebinding: a foreign name that points to loopback.
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

/// Everything but the page itself.
fn is_data(path: &str) -> bool {
    path.starts_with("/api") || path.starts_with("/metrics")
}

fn is_reading(method: &Method) -> bool {
    method == Method::GET || method == Method::HEAD
}

/// An address, or `localhost`, with or without a port.
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
