//! Holds what was typed: the tables of the TOML text, every value with its place and its type. It resolves no names
//! and fills in no defaults; [`crate::config::validate`] does that.
//!
//! Each section is declared once, by `section!`, in the file of its topic.

#![expect(
    missing_docs,
    reason = "fields and variants have the names of the keys and words, which `section!` describes"
)]

mod api;
pub(super) mod choices;
mod engine;
mod groups;
mod ha;
mod links;
mod log;
mod root;
mod section;
mod service_check;
mod services;

use std::path::PathBuf;

use crate::config::value::InvalidValue;
use crate::time::Duration;

pub use api::{Api, Tls, Token};
pub use engine::{Engine, Limits, Timeouts};
pub use groups::{Affinity, Check, CheckKindName, Firewall, Group, Peer, PeerEngine};
pub use ha::{Ha, Node};
pub use links::{Destination, Link, Route};
pub use log::Log;
pub use root::{File, all, read};
pub use service_check::{ServiceCheck, ServiceCheckKindName};
pub use services::{HashPart, Server, Service, Sticky, addresses_of};

/// The longest idle time or drain timeout, 30 days. A longer one is a typing error.
const TIME_MAX: Duration = Duration::from_secs(30 * 24 * 3600);
/// What a name is.
const NAME: &str = "a name of 1 to 63 letters, digits, `.`, `_` and `-`";
/// What a path is.
const PATH: &str = "an absolute path";

fn path(text: &str) -> Result<PathBuf, InvalidValue> {
    match text.starts_with('/') && !text.contains('\0') {
        true => Ok(PathBuf::from(text)),
        false => Err(InvalidValue::new(format!("not an absolute path: {text:?}"))),
    }
}

/// Parses the path of a Unix socket. The kernel's `sun_path` has 108 bytes, the terminating zero included (unix(7)).
fn socket_path(text: &str) -> Result<PathBuf, InvalidValue> {
    match text.len() {
        0..=107 => path(text),
        long => Err(InvalidValue::new(format!("the path of a socket may have 107 bytes, this one has {long}"))),
    }
}
