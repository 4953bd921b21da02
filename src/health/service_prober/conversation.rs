//! What is said over the connection of a check.

use std::fmt;

use super::connection::{CheckConnection, ConnectionPhase};
use crate::time::Instant;

/// Why a server that answers a SYN with a reset is not healthy.
pub(super) const REFUSED: &str = "connection refused";

/// What a check says over its connection, and what it makes of the answer. Each kind of check over TCP has its own.
pub(super) trait Conversation: fmt::Debug + Send + Sync {
    /// Lets the connection proceed. Returns whether the server is healthy, or why it is not, as soon as that is known;
    /// `decided` says that it already was. The conversation closes the connection once it is.
    fn proceed(&mut self, connection: &mut CheckConnection, decided: bool, now: Instant) -> Option<Result<(), String>>;

    /// The successful answer in words, such as `HTTP 200` or `connected`.
    fn answer(&self) -> String;

    /// Why an established connection gave no verdict when its time was over, such as `no answer`.
    fn timeout_reason(&self) -> &'static str;
}

/// The conversation of kind `tcp`: a server that takes the connection is healthy.
#[derive(Debug)]
pub(super) struct Connect;

impl Conversation for Connect {
    fn proceed(&mut self, connection: &mut CheckConnection, decided: bool, now: Instant) -> Option<Result<(), String>> {
        connection.poll(now);
        if decided {
            connection.drop_received();
            return None;
        }
        let verdict = match connection.phase() {
            ConnectionPhase::Connecting => return None,
            ConnectionPhase::Established | ConnectionPhase::PeerClosed => Ok(()),
            ConnectionPhase::Closed => Err(REFUSED.to_owned()),
        };
        connection.close(now);
        Some(verdict)
    }

    fn answer(&self) -> String {
        "connected".to_owned()
    }

    fn timeout_reason(&self) -> &'static str {
        "no answer"
    }
}
