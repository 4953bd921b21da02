//! Decides which frames a capture wants.

use std::fmt;
use std::str::FromStr;

use arrayvec::ArrayVec;
use ipnet::IpNet;

use crate::config::value::did_you_mean;
use crate::engine::trace::{FrameEvent, SessionCopy};
use crate::engine::{DropReason, Snapshot, Verdict};
use crate::flow::{FlowKey, FlowPattern};
use crate::id::{FirewallId, LinkId, ServerId, ServiceId};

/// The criteria that a frame must meet, all of those that are given. Criteria for addresses and ports must all be met
/// by the same leg of the flow. Names were checked when the filter was made; a name that a reload removes matches
/// nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// Names of links, of which it is seen on one; empty for all links.
    pub links: Vec<String>,
    /// A pattern that its flow matches in either direction, on any leg.
    pub flow: Option<FlowPattern>,
    /// Prefixes, each of which contains the source or the destination.
    pub hosts: Vec<IpNet>,
    /// Ports, each of which is the source or the destination port.
    pub ports: Vec<u16>,
    /// Prefix of the end that opened the session; without a session, of the source.
    pub source: Option<IpNet>,
    /// Prefix of the other end.
    pub destination: Option<IpNet>,
    /// A firewall that it comes from, goes to, or is pinned to: `fw1` or `perimeter/fw1`.
    pub firewall: Option<String>,
    /// A virtual service that its session belongs to.
    pub service: Option<String>,
    /// A server that its session is at: `s1` or `web/s1`.
    pub server: Option<String>,
    /// It is dropped. Then frames are shown as they were received, and no sent frames.
    pub dropped: Option<DropFilter>,
}

/// Which drops a capture wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropFilter {
    /// Drops for any reason.
    Any,
    /// Drops for this reason.
    For(DropReason),
}

impl DropFilter {
    /// The word for [`Self::Any`].
    pub const ANY: &str = "any";

    fn matches(self, part: FrameEvent) -> bool {
        match (part, self) {
            (FrameEvent::Decided { verdict: Verdict::Dropped(_), .. }, Self::Any) => true,
            (FrameEvent::Decided { verdict: Verdict::Dropped(reason), .. }, Self::For(wanted)) => reason == wanted,
            (
                FrameEvent::Decided { .. }
                | FrameEvent::Held
                | FrameEvent::Forwarded(_)
                | FrameEvent::Reset
                | FrameEvent::FromController,
                _,
            ) => false,
        }
    }
}

impl fmt::Display for DropFilter {
    /// `any`, or the word of the reason, which [`FromStr`] reads back.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Any => Self::ANY,
            Self::For(reason) => reason.word(),
        })
    }
}

impl FromStr for DropFilter {
    type Err = UnknownDropReason;

    /// Reads `any`, or a reason by its word or by the name of its counter.
    fn from_str(text: &str) -> Result<Self, UnknownDropReason> {
        let named = |reason: &&DropReason| reason.word() == text || reason.name() == text;
        match DropReason::ALL.iter().find(named) {
            Some(reason) => Ok(Self::For(*reason)),
            None if text == Self::ANY => Ok(Self::Any),
            None => {
                let words = DropReason::ALL.iter().map(|reason| reason.word());
                let meant = did_you_mean(text.trim_start_matches("drop_"), words);
                let help = match meant {
                    Some(word) => format!("did you mean {word:?}?"),
                    None => "`fwlb show counters` lists them as drop_REASON".to_owned(),
                };
                Err(UnknownDropReason { text: text.to_owned(), help })
            }
        }
    }
}

/// The word is the name of no drop reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no reason to drop a frame is called {text:?}; {help}")]
pub struct UnknownDropReason {
    text: String,
    help: String,
}

/// The names of a filter as ids of one snapshot.
#[derive(Debug, Default)]
pub(super) struct FilterIds {
    links: Option<Vec<LinkId>>,
    firewalls: Option<Vec<FirewallId>>,
    services: Option<Vec<ServiceId>>,
    servers: Option<Vec<ServerId>>,
}

/// What is known about a frame.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct FilterInput<'a> {
    /// Its flow, or that of the packet that it quotes; `None` if it belongs to no flow.
    pub flow: Option<FlowKey>,
    /// The two legs of a flow that is being translated: outside and inside.
    pub legs: Option<[FlowKey; 2]>,
    /// The firewalls that it comes from and goes to.
    pub firewalls: [Option<FirewallId>; 2],
    /// The session of its flow.
    pub session: Option<&'a SessionCopy>,
}

impl FilterInput<'_> {
    /// The legs of the flow, with a session in the direction in which that was opened.
    fn legs(&self) -> ArrayVec<FlowKey, 2> {
        let mut legs = ArrayVec::new();
        match (self.session, self.legs, self.flow) {
            (Some(session), _, _) => {
                legs.push(session.flow);
                legs.extend(session.bound.and_then(|bound| bound.inside));
            }
            (None, Some(both), _) => legs.extend(both),
            (None, None, flow) => legs.extend(flow),
        }
        legs
    }
}

impl Filter {
    /// True if there are no criteria for the flow, so that frames without a flow, such as ARP, are wanted too.
    fn any_flow(&self) -> bool {
        let Self { links: _, flow, hosts, ports, source, destination, firewall: _, service: _, server: _, dropped: _ } =
            self;
        flow.is_none() && hosts.is_empty() && ports.is_empty() && source.is_none() && destination.is_none()
    }

    /// True if sent frames are wanted too.
    pub(super) fn wants_sent(&self) -> bool {
        self.dropped.is_none()
    }

    /// True if a received frame with this verdict is wanted.
    pub(super) fn wants_event(&self, part: FrameEvent) -> bool {
        self.dropped.is_none_or(|dropped| dropped.matches(part))
    }

    /// False if the frame is not wanted whatever its session is. It is asked before the session is looked up.
    pub(super) fn may_match(&self, subject: &FilterInput<'_>) -> bool {
        let shows = |leg: &FlowKey| self.leg_matches(leg) || self.leg_matches(&leg.reversed());
        self.any_flow() || subject.legs().iter().any(shows)
    }

    /// True if the frame meets all criteria except those for the link and the verdict.
    pub(super) fn matches(&self, subject: &FilterInput<'_>, resolved: &FilterIds) -> bool {
        let bound = subject.session.and_then(|session| session.bound);
        let of_firewall = |wanted: &Vec<FirewallId>| {
            let pins = subject.session.map(|seen| [seen.session.toward_low, seen.session.toward_high]);
            let pinned = pins.into_iter().flatten().flatten().map(|pin| pin.firewall);
            pinned.chain(subject.firewalls.into_iter().flatten()).any(|firewall| wanted.contains(&firewall))
        };
        let FilterIds { links: _, firewalls, services, servers } = resolved;
        (self.any_flow() || subject.legs().iter().any(|leg| self.leg_matches(leg)))
            && firewalls.as_ref().is_none_or(of_firewall)
            && services.as_ref().is_none_or(|wanted| bound.is_some_and(|bound| wanted.contains(&bound.service)))
            && servers.as_ref().is_none_or(|wanted| bound.is_some_and(|bound| wanted.contains(&bound.server)))
    }

    /// True if a leg meets all criteria for addresses and ports.
    fn leg_matches(&self, leg: &FlowKey) -> bool {
        let ends = [leg.source, leg.destination];
        let lies = |prefix: &Option<IpNet>, address| prefix.is_none_or(|prefix| prefix.contains(&address));
        self.flow.is_none_or(|pattern| pattern.matches(leg))
            && self.hosts.iter().all(|host| ends.iter().any(|end| host.contains(&end.address)))
            && self.ports.iter().all(|port| ends.iter().any(|end| end.port == *port))
            && lies(&self.source, leg.source.address)
            && lies(&self.destination, leg.destination.address)
    }

    pub(super) fn resolve(&self, snapshot: &Snapshot) -> FilterIds {
        let links = || snapshot.links.iter().enumerate();
        let named = |(_, link): &(usize, &crate::engine::snapshot::Link)| self.links.contains(&link.name);
        let firewalls = |wanted: &String| {
            let all = snapshot.firewalls.iter().enumerate();
            let group = |of: &crate::engine::snapshot::Firewall| &snapshot.groups[of.group.index()].name;
            let named = all.filter(|(_, one)| one.name == *wanted || format!("{}/{}", group(one), one.name) == *wanted);
            named.map(|(index, _)| index.into()).collect()
        };
        let all = snapshot.services.all();
        let services = |wanted: &String| all.iter().filter(|one| one.name == *wanted).map(|one| one.id).collect();
        let servers = |wanted: &String| {
            let each = all.iter().flat_map(|of| of.servers.iter().map(move |one| (of, one)));
            let named = each.filter(|(of, one)| one.name == *wanted || format!("{}/{}", of.name, one.name) == *wanted);
            named.map(|(_, one)| one.id).collect()
        };
        FilterIds {
            links: (!self.links.is_empty()).then(|| links().filter(named).map(|(index, _)| index.into()).collect()),
            firewalls: self.firewall.as_ref().map(firewalls),
            services: self.service.as_ref().map(services),
            servers: self.server.as_ref().map(servers),
        }
    }
}

impl FilterIds {
    /// True if frames on `link` are wanted.
    pub(super) fn wants_link(&self, link: LinkId) -> bool {
        self.links.as_ref().is_none_or(|links| links.contains(&link))
    }
}
