//! Who may ask an engine over the network, and how: `[api]`.

use std::fmt;
use std::net::SocketAddr;

/// `[api]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Api {
    /// Where HTTP is served on the kernel's side; `None`: nowhere.
    pub listen: Option<SocketAddr>,
    /// HTTPS; always there beyond loopback.
    pub tls: Option<Tls>,
    /// Owner group of the control socket, by name or number; `None`: the engine's own.
    pub socket_group: Option<String>,
    /// `[[api.token]]`; at least one beyond loopback.
    pub tokens: Vec<Token>,
}

/// A certificate and its key. The texts were read from their files when the configuration was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The chain as PEM, the server's own certificate first.
    pub certificate: String,
    /// The private key as PEM.
    pub key: Secret,
}

/// `[[api.token]]`: whoever knows the secret is the one called `name`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Appears as `by` in events.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// At least 16 visible ASCII characters.
    pub secret: Secret,
}

/// What the owner of a token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Read.
    Viewer,
    /// Read and change.
    Operator,
}

/// A text that no log line and no answer shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides `text`.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}
