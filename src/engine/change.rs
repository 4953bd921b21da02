//! What operators are told as it happens: what changed, from which state to which, and why.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use crate::config::Config;
use crate::engine::view::{AlarmKind, EventKind, EventView};
use crate::id::{FirewallId, GroupId, LinkId, PeerId, ServerId, ServiceId};
use crate::time::Duration;
use crate::wire::Family;

/// What an event or an alarm is about. It has names and no numbers, because it outlives reloads; displayed, it is the
/// `subject` of the JSON.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// An alarm.
    Alarm(Box<Alarm>),
    /// The engine itself.
    Engine(String),
    /// A firewall.
    Firewall {
        /// Its group.
        group: String,
        /// Its name in the group.
        firewall: String,
    },
    /// A group of firewalls.
    Group(String),
    /// The firewalls of a group that have paths of one family.
    Paths {
        /// The group.
        group: String,
        /// The peer that the paths lead to; `None` if that makes no difference.
        toward: Option<String>,
        /// The family of the paths.
        family: Family,
    },
    /// A link.
    Link(String),
    /// An address on a link: a neighbour's, or the engine's own.
    Neighbor {
        /// The link.
        link: String,
        /// The address.
        address: IpAddr,
    },
    /// A node of a cluster.
    Node(String),
    /// A path through a firewall to a peer.
    Path {
        /// The group of both.
        group: String,
        /// The firewall.
        firewall: String,
        /// The peer.
        peer: String,
        /// The family of the probes.
        family: Family,
    },
    /// An engine on the far side of a group.
    Peer {
        /// Its group.
        group: String,
        /// Its name in the group.
        peer: String,
    },
    /// A server of a service.
    Server {
        /// The service.
        service: String,
        /// Its name in the service.
        server: String,
    },
    /// The addresses of one family of a server.
    ServerFamily {
        /// The service.
        service: String,
        /// The server.
        server: String,
        /// The family.
        family: Family,
    },
    /// A service.
    Service(String),
    /// The sessions that a filter selects, in its words.
    Sessions(String),
    /// The sources that are refused for a reason, by its name.
    Sources(&'static str),
}

impl Subject {
    /// A link of the configuration.
    pub fn link(config: &Config, id: LinkId) -> Self {
        Self::Link(config.links[id.index()].name.clone())
    }

    /// An address on a link of the configuration.
    pub fn neighbor(config: &Config, link: LinkId, address: IpAddr) -> Self {
        Self::Neighbor { link: config.links[link.index()].name.clone(), address }
    }

    /// A group of the configuration.
    pub fn group(config: &Config, id: GroupId) -> Self {
        Self::Group(config.groups[id.index()].name.clone())
    }

    /// A firewall of the configuration.
    pub fn firewall(config: &Config, id: FirewallId) -> Self {
        let firewall = &config.firewalls[id.index()];
        Self::Firewall { group: config.groups[firewall.group.index()].name.clone(), firewall: firewall.name.clone() }
    }

    /// A peer of the configuration.
    pub fn peer(config: &Config, id: PeerId) -> Self {
        let peer = &config.peers[id.index()];
        Self::Peer { group: config.groups[peer.group.index()].name.clone(), peer: peer.name.clone() }
    }

    /// A service of the configuration.
    pub fn service(config: &Config, id: ServiceId) -> Self {
        Self::Service(config.services[id.index()].name.clone())
    }

    /// A server of the configuration.
    pub fn server(config: &Config, id: ServerId) -> Self {
        let server = &config.servers[id.index()];
        Self::Server { service: config.services[server.service.index()].name.clone(), server: server.name.clone() }
    }

    /// Everything that a configuration declares and a reload can add or remove.
    pub fn declared(config: &Config) -> BTreeSet<Self> {
        let links = config.link_ids().map(|id| Self::link(config, id));
        let groups = config.group_ids().map(|id| Self::group(config, id));
        let firewalls = config.firewall_ids().map(|id| Self::firewall(config, id));
        let peers = config.peer_ids().map(|id| Self::peer(config, id));
        let services = config.service_ids().map(|id| Self::service(config, id));
        let servers = config.server_ids().map(|id| Self::server(config, id));
        links.chain(groups).chain(firewalls).chain(peers).chain(services).chain(servers).collect()
    }

    /// What of [`Subject::declared`] this is, or is a part of: a path is part of its firewall and of its peer. A reload
    /// that removes one of these removes the subject.
    pub fn declarations(&self) -> Vec<Self> {
        match self {
            Self::Alarm(alarm) => alarm.subject.declarations(),
            Self::Neighbor { link, .. } => vec![Self::Link(link.clone())],
            Self::Paths { group, toward, .. } => {
                let peer = toward.iter().map(|peer| Self::Peer { group: group.clone(), peer: peer.clone() });
                peer.chain([Self::Group(group.clone())]).collect()
            }
            Self::Path { group, firewall, peer, .. } => vec![
                Self::Firewall { group: group.clone(), firewall: firewall.clone() },
                Self::Peer { group: group.clone(), peer: peer.clone() },
            ],
            Self::ServerFamily { service, server, .. } => {
                vec![Self::Server { service: service.clone(), server: server.clone() }]
            }
            Self::Firewall { .. }
            | Self::Group(_)
            | Self::Link(_)
            | Self::Peer { .. }
            | Self::Server { .. }
            | Self::Service(_) => vec![self.clone()],
            Self::Engine(_) | Self::Node(_) | Self::Sessions(_) | Self::Sources(_) => Vec::new(),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alarm(alarm) => write!(f, "{} {}", alarm.kind, alarm.subject),
            Self::Engine(name) | Self::Group(name) | Self::Link(name) | Self::Node(name) | Self::Service(name) => {
                f.write_str(name)
            }
            Self::Firewall { group: of, firewall: name }
            | Self::Peer { group: of, peer: name }
            | Self::Server { service: of, server: name } => write!(f, "{of}/{name}"),
            Self::Paths { group, toward: None, family } => write!(f, "{group} {family}"),
            Self::Paths { group, toward: Some(peer), family } => write!(f, "{group} toward {peer} {family}"),
            Self::Neighbor { link, address } => write!(f, "{link} {address}"),
            Self::Path { group, firewall, peer, family } => write!(f, "{group}/{firewall} to {peer} {family}"),
            Self::ServerFamily { service, server, family } => write!(f, "{service}/{server} {family}"),
            Self::Sessions(filter) => f.write_str(filter),
            Self::Sources(reason) => f.write_str(reason),
        }
    }
}

/// What identifies an alarm.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Alarm {
    /// What is wrong.
    pub kind: AlarmKind,
    /// With what.
    pub subject: Subject,
}

impl Alarm {
    /// The change that raises it.
    pub fn raised(&self, reason: String) -> StateChange {
        StateChange::to(EventKind::Alarm, Subject::Alarm(Box::new(self.clone())), "raised")
            .from("clear")
            .because(reason)
    }

    /// The change that clears it.
    pub fn cleared(&self, reason: Option<String>) -> StateChange {
        StateChange::to(EventKind::Alarm, Subject::Alarm(Box::new(self.clone())), "clear")
            .from("raised")
            .because(reason)
    }
}

/// A change of a subject from one state to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateChange {
    /// The kind of event.
    pub kind: EventKind,
    /// What changed.
    pub subject: Subject,
    /// The state before, by its name; `None` if there was none.
    pub from: Option<Cow<'static, str>>,
    /// The state after, by its name.
    pub to: Option<Cow<'static, str>>,
    /// Why it changed.
    pub reason: Option<String>,
    /// The operator who ordered it.
    pub by: Option<String>,
    /// How long the earlier state lasted, where that is known.
    pub lasted: Option<Duration>,
}

impl StateChange {
    /// A change to the state called `to`, about which no more is known.
    pub fn to(kind: EventKind, subject: Subject, to: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, subject, from: None, to: Some(to.into()), reason: None, by: None, lasted: None }
    }

    /// The same change, from the state called `from`.
    pub fn from(self, from: impl Into<Cow<'static, str>>) -> Self {
        Self { from: Some(from.into()), ..self }
    }

    /// The same change, for a reason in words.
    pub fn because(self, reason: impl Into<Option<String>>) -> Self {
        Self { reason: reason.into(), ..self }
    }

    /// The same change, ordered by an operator.
    pub fn by(self, by: impl Into<Option<String>>) -> Self {
        Self { by: by.into(), ..self }
    }

    /// The same change, after the earlier state lasted this long.
    pub fn after(self, lasted: Duration) -> Self {
        Self { lasted: Some(lasted), ..self }
    }

    /// The event with number `seq` at the wall-clock time `at`, as it is shown.
    pub fn view(self, seq: u64, at: String) -> EventView {
        // Orders name the sort of what they are about, except of firewalls, which they were first given for.
        let sort = match (self.kind, &self.subject) {
            (EventKind::Admin, Subject::Node(_)) => "node ",
            (EventKind::Admin, Subject::Server { .. }) => "server ",
            (EventKind::Admin, Subject::Service(_)) => "service ",
            _ => "",
        };
        EventView {
            seq,
            at,
            kind: self.kind.into(),
            subject: format!("{sort}{}", self.subject),
            from: self.from.map(Cow::into_owned),
            to: self.to.map(Cow::into_owned),
            reason: self.reason,
            by: self.by,
            lasted_ms: self.lasted.map(|lasted| u64::try_from(lasted.as_millis()).unwrap_or(u64::MAX)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path() -> Subject {
        let (group, firewall, peer) = ("perimeter".to_owned(), "fw1".to_owned(), "inner".to_owned());
        Subject::Path { group, firewall, peer, family: Family::V4 }
    }

    fn server() -> Subject {
        Subject::Server { service: "web".to_owned(), server: "s1".to_owned() }
    }

    #[test]
    fn a_subject_has_the_words_that_operators_search_for() {
        let view = |kind, subject| StateChange::to(kind, subject, "up").view(7, String::new()).subject;
        let below = Subject::Paths { group: "perimeter".to_owned(), toward: None, family: Family::V6 };
        let alarm = Alarm { kind: AlarmKind::BelowMin, subject: below };

        assert_eq!(view(EventKind::Path, path()), "perimeter/fw1 to inner ipv4");
        assert_eq!(view(EventKind::Alarm, alarm.raised(String::new()).subject), "below_min perimeter ipv6");
        assert_eq!(view(EventKind::Server, server()), "web/s1");
        assert_eq!(view(EventKind::Admin, server()), "server web/s1", "an order names the sort");
        assert_eq!(view(EventKind::Admin, Subject::Node("outer-a".to_owned())), "node outer-a");
        assert_eq!(view(EventKind::Role, Subject::Node("outer-a".to_owned())), "outer-a");
    }

    #[test]
    fn what_is_part_of_a_declaration_goes_with_it() {
        let declarations = path().declarations();
        assert!(declarations.contains(&Subject::Peer { group: "perimeter".to_owned(), peer: "inner".to_owned() }));
        assert_eq!(declarations.len(), 2, "{declarations:?}");
        let alarm = Alarm { kind: AlarmKind::ServiceDown, subject: server() };
        assert_eq!(Subject::Alarm(Box::new(alarm)).declarations(), [server()]);
        assert!(Subject::Engine("outer".to_owned()).declarations().is_empty(), "an engine is of no reload");
    }
}
