//! What the copies have to know of the engine.

use crate::flow::CanonicalKey;
use crate::ha::records::{NamedKind, PinRecord};
use crate::id::{ServerId, ServiceId};
use crate::path::pinning::Pin;
use crate::session::{EndReason, Placement, Removed, Session};
use crate::time::Instant;
use crate::wire::Family;

/// The engine, as the copies need it.
///
/// Records refer to services, servers, path sets and firewalls by number. A number means the same thing until
/// [`CopyHost::generation`] changes.
pub trait CopyHost {
    /// The number of the configuration.
    fn generation(&self) -> u64;

    /// A number that changes when other firewalls take new flows, so that other sessions need copies.
    fn selection(&self) -> u64;

    /// True if a node without a copy would forward the session in another way.
    fn needs_copy(&self, key: &CanonicalKey, session: &Session, placement: Option<&Placement>, now: Instant) -> bool;

    /// The name of a thing, the same on all nodes and after a reload.
    fn name(&self, kind: NamedKind, number: u16) -> Option<String>;

    /// The number of the thing with this name.
    fn number(&self, kind: NamedKind, name: &str) -> Option<u16>;

    /// A pin with the numbers of this node. `None` if the firewall is not in the group of the set.
    fn pin(&self, record: &PinRecord) -> Option<Pin>;

    /// The number of failures that a copy of a session of this server is to have seen: if the server is down, all but
    /// the last one. `None` if it does not belong to the service.
    fn server_failures(&self, service: ServiceId, server: ServerId, family: Family) -> Option<u32>;

    /// A copy was inserted: it counts at its server, and its source port is taken.
    fn opened(&mut self, key: &CanonicalKey, session: &Session, placement: Option<&Placement>, now: Instant);

    /// A session is as it was told again.
    fn renewed(&mut self, before: &Session, after: &Session, placement: Option<&Placement>);

    /// A session ended. `reason` is `None` if another node said so, or if this node only held it for another one.
    fn ended(&mut self, ended: &Removed, reason: Option<EndReason>, now: Instant);
}
