//! Resolves the names that operators use to the ids of a snapshot.

use crate::api::{ApiError, LinkOrFirewall};
use crate::engine::explain;
use crate::engine::snapshot::{Firewall, Snapshot};
use crate::id::{FirewallId, LinkId, ServerId, ServiceId};

/// The link called `name`.
pub fn link(snapshot: &Snapshot, name: &str) -> Result<LinkId, ApiError> {
    let position = snapshot.links.iter().position(|link| link.name == name);
    position.map(LinkId::from).ok_or_else(|| {
        let known: Vec<_> = snapshot.links.iter().map(|link| link.name.clone()).collect();
        unknown("link", name, &known)
    })
}

/// The firewall called `group/name`, or `name` if only one group has it.
pub fn firewall(snapshot: &Snapshot, name: &str) -> Result<FirewallId, ApiError> {
    match firewalls(snapshot, name)?.as_slice() {
        [one] => Ok(*one),
        _ => Err(ApiError::BadRequest(format!("several groups have a firewall {name:?}: write GROUP/{name}"))),
    }
}

/// Every firewall called `group/name` or `name`; at least one.
pub fn firewalls(snapshot: &Snapshot, name: &str) -> Result<Vec<FirewallId>, ApiError> {
    let full = |firewall: &Firewall| format!("{}/{}", snapshot.groups[firewall.group.index()].name, firewall.name);
    let named = |firewall: &Firewall| firewall.name == name || full(firewall) == name;
    let all = || snapshot.firewalls.iter();
    let found: Vec<_> = all().enumerate().filter(|(_, one)| named(one)).map(|(index, _)| index.into()).collect();
    if found.is_empty() {
        let known: Vec<_> = all().map(full).collect();
        return Err(unknown("firewall", name, &known));
    }
    Ok(found)
}

/// The service called `name`.
pub fn service(snapshot: &Snapshot, name: &str) -> Result<ServiceId, ApiError> {
    let services = snapshot.services.all();
    services.iter().find(|service| service.name == name).map(|service| service.id).ok_or_else(|| {
        let known: Vec<_> = services.iter().map(|service| service.name.clone()).collect();
        unknown("service", name, &known)
    })
}

/// Every server called `service/name` or `name`; at least one.
pub fn servers(snapshot: &Snapshot, name: &str) -> Result<Vec<ServerId>, ApiError> {
    let all = || snapshot.services.all().iter().flat_map(|of| of.servers.iter().map(move |server| (of, server)));
    let (service, server) = match name.split_once('/') {
        Some((service, server)) => (Some(service), server),
        None => (None, name),
    };
    let named = all().filter(|(of, one)| one.name == server && service.is_none_or(|service| service == of.name));
    let found: Vec<_> = named.map(|(_, one)| one.id).collect();
    if found.is_empty() {
        let known: Vec<_> = all().map(|(of, server)| format!("{}/{}", of.name, server.name)).collect();
        return Err(unknown("server", name, &known));
    }
    Ok(found)
}

/// The error that there is no `what` called `name`, with the `known` names.
fn unknown(what: &str, name: &str, known: &[String]) -> ApiError {
    let known =
        if known.is_empty() { "there is none".to_owned() } else { format!("there are: {}", shortened_list(known)) };
    ApiError::NotFound(format!("no {what} {name:?}; {known}"))
}

/// The first names of a list that may be long.
fn shortened_list(names: &[String]) -> String {
    const SHOWN: usize = 32;
    match names.get(..SHOWN) {
        Some(first) if names.len() > SHOWN => format!("{} and {} more", first.join(", "), names.len() - SHOWN),
        Some(_) | None => names.join(", "),
    }
}

/// What `probe` is to check.
pub enum Member {
    /// A firewall.
    Firewall(FirewallId),
    /// A real server.
    Server(ServerId),
}

/// The only firewall called `group/name` or server called `service/name`.
pub fn member(snapshot: &Snapshot, name: &str) -> Result<Member, ApiError> {
    match (firewalls(snapshot, name), servers(snapshot, name)) {
        (Ok(_), Err(_)) => firewall(snapshot, name).map(Member::Firewall),
        (Err(_), Ok(found)) => match found.as_slice() {
            [one] => Ok(Member::Server(*one)),
            _ => Err(ApiError::BadRequest(format!("several services have a server {name:?}: write SERVICE/{name}"))),
        },
        (Ok(_), Ok(_)) => {
            Err(ApiError::BadRequest(format!("{name:?} is a firewall and a server: write its whole name")))
        }
        (Err(no_firewall), Err(no_server)) => {
            let error = match (snapshot.firewalls.is_empty(), snapshot.services.all().is_empty()) {
                (true, false) => no_server,
                (_, true) => no_firewall,
                (false, false) => ApiError::NotFound(format!("{no_firewall}\n{no_server}")),
            };
            Err(error)
        }
    }
}

/// Where a flow arrives, by ids.
pub fn origin(snapshot: &Snapshot, via: &LinkOrFirewall) -> Result<explain::ArrivalPoint, ApiError> {
    match via {
        LinkOrFirewall::Link(name) => link(snapshot, name).map(explain::ArrivalPoint::Link),
        LinkOrFirewall::Firewall(name) => firewall(snapshot, name).map(explain::ArrivalPoint::Firewall),
    }
}
