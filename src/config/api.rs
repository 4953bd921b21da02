//! What `[api]` means: who may use the API over the network, and how.

use std::fmt;
use std::net::SocketAddr;

/// `[api]`: the HTTP API on the network.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Api {
    /// The address of the HTTP listener, which uses the kernel's stack; `None` means that there is no listener.
    pub listen: Option<SocketAddr>,
    /// HTTPS; mandatory unless the listener is on loopback.
    pub tls: Option<Tls>,
    /// Owner group of the control socket, by name or number; `None` means the group of the engine's process.
    pub socket_group: Option<String>,
    /// `[[api.token]]`; at least one is mandatory unless the listener is on loopback.
    pub tokens: Vec<Token>,
}

/// A certificate and its private key, whose files were read together with the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The certificate chain as PEM, the server's own certificate first.
    pub certificate: String,
    /// The private key as PEM.
    pub key: Secret,
}

/// `[[api.token]]`: a bearer token. Whoever presents the secret is identified as `name`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// The name that events have as `by`.
    pub name: String,
    /// What the token permits.
    pub role: Role,
    /// The token itself: 16 to 1024 visible ASCII characters.
    pub secret: Secret,
}

named_enum! {
    /// What the holder of a token may do.
    pub enum Role {
        /// May read.
        Viewer = "viewer",
        /// May read and change.
        Operator = "operator",
    }
}

/// A text that appears in no log line and no answer.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Makes a secret of `text`.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself. Call it only where the secret is used.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}
