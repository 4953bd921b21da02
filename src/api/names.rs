//! What operators call things, as numbers of a snapshot.

use crate::api::{ApiError, Via};
use crate::engine::explain;
use crate::engine::snapshot::{Firewall, Snapshot};
use crate::id::{FirewallId, LinkId};

/// The link called `name`.
pub fn link(snapshot: &Snapshot, name: &str) -> Result<LinkId, ApiError> {
    let position = snapshot.links.iter().position(|link| link.name == name);
    position.map(LinkId::from).ok_or_else(|| {
        let known: Vec<_> = snapshot.links.iter().map(|link| link.name.as_str()).collect();
        ApiError::NotFound(format!("no link {name:?}; there are: {}", known.join(", ")))
    })
}

/// The firewall called `group/name`, or `name` where one group knows it.
pub fn firewall(snapshot: &Snapshot, name: &str) -> Result<FirewallId, ApiError> {
    match firewalls(snapshot, name)?.as_slice() {
        [one] => Ok(*one),
        _ => Err(ApiError::BadRequest(format!("several groups have a firewall {name:?}: write GROUP/{name}"))),
    }
}

/// Every firewall of that name; at least one.
pub fn firewalls(snapshot: &Snapshot, name: &str) -> Result<Vec<FirewallId>, ApiError> {
    let full = |firewall: &Firewall| format!("{}/{}", snapshot.groups[firewall.group.index()].name, firewall.name);
    let named = |firewall: &Firewall| firewall.name == name || full(firewall) == name;
    let all = || snapshot.firewalls.iter();
    let found: Vec<_> = all().enumerate().filter(|(_, one)| named(one)).map(|(index, _)| index.into()).collect();
    if found.is_empty() {
        let known: Vec<_> = all().map(full).collect();
        return Err(ApiError::NotFound(format!("no firewall {name:?}; there are: {}", known.join(", "))));
    }
    Ok(found)
}

/// Where a flow arrives.
pub fn origin(snapshot: &Snapshot, via: &Via) -> Result<explain::From, ApiError> {
    match via {
        Via::Link(name) => link(snapshot, name).map(explain::From::Link),
        Via::Firewall(name) => firewall(snapshot, name).map(explain::From::Firewall),
    }
}
