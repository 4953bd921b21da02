//! Selects sessions by what an operator asked for, after names were resolved to ids of a snapshot.

use arrayvec::ArrayVec;
use ipnet::IpNet;

use crate::flow::{CanonicalKey, Direction, FlowKey, FlowPattern};
use crate::id::{FirewallId, ServerId, ServiceId};
use crate::session::{Placement, Session};
use crate::time::Instant;

/// Criteria that a session must meet, all of those that are given. A translated session has two legs, one between
/// client and engine and one between engine and server; `hosts`, `ports` and `flow` must all be met by the same leg.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SessionMatcher {
    /// Prefix of the source of the first packet.
    pub source: Option<IpNet>,
    /// Prefix of the destination of the first packet.
    pub destination: Option<IpNet>,
    /// Prefixes, each of which contains the source or the destination.
    pub hosts: Vec<IpNet>,
    /// Ports, each of which is the source or the destination port.
    pub ports: Vec<u16>,
    /// A pattern that the flow matches in either direction.
    pub flow: Option<FlowPattern>,
    /// The session is pinned to one of these firewalls.
    pub firewalls: Option<Vec<FirewallId>>,
    /// The session belongs to this service.
    pub service: Option<ServiceId>,
    /// The session is at one of these servers.
    pub servers: Option<Vec<ServerId>>,
    /// The name of the session's state.
    pub state: Option<String>,
    /// The session was opened at or before this time.
    pub opened_until: Option<Instant>,
}

impl SessionMatcher {
    /// True if there are no criteria.
    pub fn is_all(&self) -> bool {
        *self == Self::default()
    }

    /// False if no session with this key can meet the criteria. It is asked before the rest of the session is read.
    pub fn may_match(&self, key: &CanonicalKey) -> bool {
        let flow = key.in_direction(Direction::LowToHigh);
        self.ends_match(&flow) || self.ends_match(&flow.reversed())
    }

    /// True if the session meets the criteria.
    pub fn matches(&self, key: &CanonicalKey, session: &Session, bound: Option<&Placement>) -> bool {
        // The structure is destructured completely, so that a new criterion that is missing here does not compile.
        let Self {
            source: _,
            destination: _,
            hosts: _,
            ports: _,
            flow: _,
            firewalls,
            service,
            servers,
            state,
            opened_until,
        } = self;
        let outside = key.in_direction(session.original_direction);
        let pinned = |wanted: &Vec<FirewallId>| {
            let pins = [session.toward_low, session.toward_high];
            pins.iter().flatten().any(|pin| wanted.contains(&pin.firewall))
        };
        self.ends_match(&outside)
            && self.leg_matches(&outside, bound)
            && firewalls.as_ref().is_none_or(pinned)
            && service.is_none_or(|wanted| bound.is_some_and(|bound| bound.service == wanted))
            && servers.as_ref().is_none_or(|wanted| bound.is_some_and(|bound| wanted.contains(&bound.server)))
            && state.as_deref().is_none_or(|wanted| wanted == session.state.name())
            && opened_until.is_none_or(|until| session.created <= until)
    }

    /// True if source and destination of a flow, seen from the end that opened it, meet the criteria for them.
    fn ends_match(&self, flow: &FlowKey) -> bool {
        let holds = |prefix: &Option<IpNet>, address| prefix.is_none_or(|prefix| prefix.contains(&address));
        holds(&self.source, flow.source.address) && holds(&self.destination, flow.destination.address)
    }

    /// True if one of the legs meets the criteria for hosts, ports and flow.
    fn leg_matches(&self, outside: &FlowKey, bound: Option<&Placement>) -> bool {
        if self.hosts.is_empty() && self.ports.is_empty() && self.flow.is_none() {
            return true;
        }
        let mut legs = ArrayVec::<FlowKey, 2>::new();
        legs.push(*outside);
        legs.extend(bound.and_then(|bound| bound.inside));
        legs.iter().any(|leg| {
            let ends = [leg.source, leg.destination];
            self.hosts.iter().all(|host| ends.iter().any(|end| host.contains(&end.address)))
                && self.ports.iter().all(|port| ends.iter().any(|end| end.port == *port))
                && self.flow.is_none_or(|pattern| pattern.matches(leg))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::text;

    fn session(flow: &str) -> (CanonicalKey, Session) {
        let (key, direction) = text::parse(flow).unwrap().canonical();
        (key, Session::new(&key, direction, Instant::from_millis(10)))
    }

    /// Whether `selection` matches the session that `flow` opened, which a service sends on as `inside`.
    fn means(selection: &SessionMatcher, flow: &str, inside: Option<&str>) -> bool {
        let (key, session) = session(flow);
        let bound = inside.map(|inside| Placement {
            service: ServiceId(1),
            server: ServerId(2),
            server_failures: 0,
            inside: Some(text::parse(inside).unwrap()),
        });
        let matches = selection.matches(&key, &session, bound.as_ref());
        assert!(!matches || selection.may_match(&key), "what is meant is never passed over");
        matches
    }

    const OUTSIDE: &str = "tcp 198.51.100.7:40000 203.0.113.80:80";
    const INSIDE: &str = "tcp 198.51.100.7:40000 10.10.20.11:8080";

    #[test]
    fn source_and_destination_are_as_the_session_was_opened() {
        let from = |source: &str| SessionMatcher { source: Some(source.parse().unwrap()), ..SessionMatcher::default() };
        let to = |to: &str| SessionMatcher { destination: Some(to.parse().unwrap()), ..SessionMatcher::default() };
        assert!(means(&from("198.51.100.0/24"), OUTSIDE, None) && means(&to("203.0.113.80/32"), OUTSIDE, None));
        assert!(!means(&from("203.0.113.80/32"), OUTSIDE, None) && !means(&to("198.51.100.0/24"), OUTSIDE, None));
        let (key, _) = session(OUTSIDE);
        assert!(!from("192.0.2.0/24").may_match(&key));
    }

    #[test]
    fn hosts_ports_and_flows_are_of_either_end_and_of_either_leg() {
        let host = |host: &str| SessionMatcher { hosts: vec![host.parse().unwrap()], ..SessionMatcher::default() };
        let port = |port| SessionMatcher { ports: vec![port], ..SessionMatcher::default() };
        for of_a_leg in [host("198.51.100.7/32"), host("203.0.113.80/32"), host("10.10.20.0/24"), port(8080), port(80)]
        {
            assert!(means(&of_a_leg, OUTSIDE, Some(INSIDE)), "{of_a_leg:?}");
        }
        for of_none in [host("192.0.2.1/32"), port(443)] {
            assert!(!means(&of_none, OUTSIDE, Some(INSIDE)), "{of_none:?}");
        }
        assert!(!means(&host("10.10.20.11/32"), OUTSIDE, None));
        // No single leg has both.
        let apart = SessionMatcher { ports: vec![80], ..host("10.10.20.11/32") };
        assert!(!means(&apart, OUTSIDE, Some(INSIDE)));
        let flow = |flow: &str| SessionMatcher { flow: Some(flow.parse().unwrap()), ..SessionMatcher::default() };
        assert!(means(&flow("tcp 203.0.113.80:80 198.51.100.7"), OUTSIDE, None));
        assert!(means(&flow("tcp 198.51.100.7 10.10.20.11"), OUTSIDE, Some(INSIDE)));
        assert!(!means(&flow("udp 203.0.113.80:80 198.51.100.7"), OUTSIDE, None));
    }

    #[test]
    fn every_part_has_to_hold() {
        let all = SessionMatcher::default();
        assert!(all.is_all() && means(&all, OUTSIDE, None));
        for not_so in [
            SessionMatcher { firewalls: Some(vec![FirewallId(0)]), ..SessionMatcher::default() },
            SessionMatcher { firewalls: Some(vec![]), ..SessionMatcher::default() },
            SessionMatcher { service: Some(ServiceId(2)), ..SessionMatcher::default() },
            SessionMatcher { servers: Some(vec![ServerId(1)]), ..SessionMatcher::default() },
            SessionMatcher { state: Some("established".to_owned()), ..SessionMatcher::default() },
            SessionMatcher { opened_until: Some(Instant::from_millis(9)), ..SessionMatcher::default() },
        ] {
            assert!(!not_so.is_all() && !means(&not_so, OUTSIDE, Some(INSIDE)), "{not_so:?}");
        }
        let so = SessionMatcher {
            service: Some(ServiceId(1)),
            servers: Some(vec![ServerId(2)]),
            state: Some("opening".to_owned()),
            opened_until: Some(Instant::from_millis(10)),
            ..SessionMatcher::default()
        };
        assert!(means(&so, OUTSIDE, Some(INSIDE)) && !means(&so, OUTSIDE, None));
    }
}
