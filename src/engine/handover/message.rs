//! What two programs say to each other in a handover, as bytes.
//!
//! ```text
//!  length of the body (32 bits, big endian) | kind (one byte) | body
//! ```

use serde::{Deserialize, Serialize};
use serde_json::{from_slice, to_vec};

use super::state::{State, StickyClient};

/// The version of what is said. Programs of different versions do not hand over to each other: this one restarts then.
/// Records of sessions have no version of their own; what they mean changes with this.
pub const FORMAT: u32 = 1;
/// Bytes before the body of a message.
pub const HEADER: usize = 5;
/// The longest body, in bytes.
const BODY_MAX: usize = 64 << 20;

const HELLO: u8 = 1;
const STATE: u8 = 2;
const CLIENTS: u8 = 3;
pub(super) const SESSIONS: u8 = 4;
const PASSED: u8 = 5;
const OPENED: u8 = 6;
const HANDOVER: u8 = 7;
const TAKEN: u8 = 8;
const GO: u8 = 9;
const GONE: u8 = 10;
const ABORT: u8 = 11;

/// Who speaks. Both ends begin with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`FORMAT`] of the speaker.
    pub format: u32,
    /// Name of the engine.
    pub engine: String,
    /// Version of the program.
    pub version: String,
    /// What the descriptors mean that follow, in their order; empty at the new program.
    #[serde(default)]
    pub descriptors: Vec<String>,
    /// Numbers of the network devices that the engine has set up, and sets down when it ends.
    #[serde(default)]
    pub raised: Vec<u32>,
}

/// What one program says to the other.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// Who speaks.
    Hello(Hello),
    /// What the old program knows besides sessions.
    State(Box<State>),
    /// Sticky clients.
    Clients(Vec<StickyClient>),
    /// Sessions that changed, or ended: see [`super::Giver`].
    Sessions(Vec<u8>),
    /// Nearly all sessions were told: what is left are those that change all the time.
    Passed,
    /// The new program has opened its devices: they keep what arrives from here on.
    Opened,
    /// All sessions were told as they are after the last frame that arrived before this moment of the wall clock, in
    /// nanoseconds since 1970.
    Handover {
        /// The moment; 0 if the devices do not say when a frame arrived.
        moment: u64,
    },
    /// The new program is ready to begin at once.
    Taken,
    /// The old program does nothing any more.
    Go,
    /// The old program has closed its files.
    Gone,
    /// The speaker gives up: the old program goes on.
    Abort(String),
}

/// The header of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    kind: u8,
    /// Bytes of the body.
    pub length: usize,
}

/// Why a message was not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// A kind that another version has added.
    #[error("a message of kind {0}, which this version does not know")]
    Unknown(u8),
    /// It is longer than any message.
    #[error("a message of {0} bytes")]
    TooLong(usize),
    /// Its body has no meaning.
    #[error("a message of kind {kind} without meaning: {what}")]
    Malformed {
        /// The kind.
        kind: u8,
        /// What is wrong.
        what: String,
    },
}

impl Header {
    /// Reads a header.
    ///
    /// # Errors
    /// If nothing so long is ever said.
    pub fn decode(bytes: [u8; HEADER]) -> Result<Self, Unreadable> {
        let [a, b, c, d, kind] = bytes;
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if length > BODY_MAX { Err(Unreadable::TooLong(length)) } else { Ok(Self { kind, length }) }
    }
}

impl Message {
    /// The bytes of the message.
    pub fn encode(&self) -> Vec<u8> {
        const PLAIN: &str = "plain data can be JSON";
        let (kind, body) = match self {
            Self::Hello(hello) => (HELLO, to_vec(hello).expect(PLAIN)),
            Self::State(state) => (STATE, to_vec(state).expect(PLAIN)),
            Self::Clients(clients) => (CLIENTS, to_vec(clients).expect(PLAIN)),
            Self::Sessions(bytes) => (SESSIONS, bytes.clone()),
            Self::Passed => (PASSED, Vec::new()),
            Self::Opened => (OPENED, Vec::new()),
            Self::Handover { moment } => (HANDOVER, moment.to_be_bytes().to_vec()),
            Self::Taken => (TAKEN, Vec::new()),
            Self::Go => (GO, Vec::new()),
            Self::Gone => (GONE, Vec::new()),
            Self::Abort(why) => (ABORT, why.clone().into_bytes()),
        };
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
        [&length.to_be_bytes()[..], &[kind], &body].concat()
    }

    /// The message with this header and body.
    ///
    /// # Errors
    /// If it has no meaning.
    pub fn decode(header: Header, body: Vec<u8>) -> Result<Self, Unreadable> {
        let kind = header.kind;
        let json = |error: serde_json::Error| Unreadable::Malformed { kind, what: error.to_string() };
        let empty = |message: Self| match body.is_empty() {
            true => Ok(message),
            false => Err(Unreadable::Malformed { kind, what: format!("{} bytes too many", body.len()) }),
        };
        match kind {
            HELLO => from_slice(&body).map(Self::Hello).map_err(json),
            STATE => from_slice(&body).map(Self::State).map_err(json),
            CLIENTS => from_slice(&body).map(Self::Clients).map_err(json),
            SESSIONS => Ok(Self::Sessions(body)),
            PASSED => empty(Self::Passed),
            OPENED => empty(Self::Opened),
            HANDOVER => match <[u8; 8]>::try_from(body.as_slice()) {
                Ok(moment) => Ok(Self::Handover { moment: u64::from_be_bytes(moment) }),
                Err(_) => Err(Unreadable::Malformed { kind, what: format!("{} bytes of 8", body.len()) }),
            },
            TAKEN => empty(Self::Taken),
            GO => empty(Self::Go),
            GONE => empty(Self::Gone),
            ABORT => Ok(Self::Abort(String::from_utf8_lossy(&body).into_owned())),
            unknown => Err(Unreadable::Unknown(unknown)),
        }
    }
}
