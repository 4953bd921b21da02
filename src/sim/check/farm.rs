//! Connects the checkers of services with the histories of flows.

use crate::config::ForwardingMode;
use crate::engine::{Snapshot, Verdict};
use crate::sim::check::Checkers;
use crate::sim::check::services::packet_of;
use crate::sim::farm::{server_at, server_mac, server_name, service_name};
use crate::sim::packet::{Packet, split_ethernet, tcp_flag};
use crate::sim::side::Side;
use crate::sim::sim_engine::HandledFrame;
use crate::sim::world::{NodeId, Observation, World};
use crate::time::{Duration, Instant};
use crate::wire::MacAddr;

impl Checkers {
    /// Shows a frame to the checker of its engine's services; returns whether it belongs to one. A translated tuple
    /// becomes another name of its flow.
    pub(super) fn service_frame(&mut self, world: &World, node: NodeId, handled: &HandledFrame) -> bool {
        let side = self.nodes.side(node);
        let services = &mut self.services[side as usize];
        if !services.handled(handled, world.engine(node), world.now()) {
            return false;
        }
        let after = split_ethernet(&handled.after.bytes).and_then(|(.., payload)| Packet::parse(payload));
        let Some(leaving) = after.map(|packet| packet.tuple()) else { return true };
        let Some((outside, server)) = services.flow_of(leaving) else { return true };
        let Some(number) = self.find(outside) else { return true };
        self.histories[number].servers.insert(server);
        if leaving.canonical() != outside.canonical() {
            self.by_tuple.insert(leaving.canonical(), number);
        }
        true
    }

    /// Checks a tunnelled packet that an engine sent: its outer destination is a server that decapsulates, and the
    /// packet inside belongs to a session of that server or is a health check. The outer header is checked as that of
    /// every packet.
    pub(super) fn check_tunneled(
        &mut self,
        now: Instant,
        side: Side,
        destination: MacAddr,
        outer: &Packet,
        inside: &Packet,
    ) {
        let tuple = inside.tuple();
        let story = self.find(tuple);
        let farm = &self.plan.farm;
        let wrong = match (server_at(outer.destination), farm.service_at(side, tuple.protocol, tuple.destination)) {
            (None, _) => Some("is none of the servers".to_owned()),
            (Some(server), _) if server_mac(server) != destination => Some(format!("was sent to {destination}")),
            (Some(_), _) if inside.source == outer.source => None,
            // Only the first of several fragments inside shows the ports.
            (Some(_), _) if inside.fragment.is_some_and(|piece| piece.offset > 0) => None,
            (Some(_), None) => Some("has no such service".to_owned()),
            (Some(_), Some(service)) if farm.services[service].mode != ForwardingMode::Tunnel => {
                Some("is not to unpack".to_owned())
            }
            (Some(server), Some(_)) => story
                .filter(|story| !self.histories[*story].servers.contains(&server))
                .map(|_| "has not got the session".to_owned()),
        };
        let is_damaged = inside.fragment.is_none() && !inside.checksum_ok() && !self.damaging;
        let wrong = wrong.or_else(|| is_damaged.then(|| "gets a wrong checksum".to_owned()));
        let wrong = wrong.or_else(|| (outer.tos != inside.tos).then(|| "does not see its DSCP".to_owned()));
        if let Some(wrong) = wrong {
            let what = format!("{}: {tuple} packed for {}, which {wrong}", side.name(), outer.destination);
            self.violate(now, "tunnels", what, story);
        }
    }

    /// Shows the checkers the resets that an engine made itself, that is those that it sent without having received
    /// them.
    pub(super) fn service_resets(&mut self, world: &World, observations: &[Observation]) {
        for observation in observations {
            let Observation::Sent { node, frame, .. } = observation else { continue };
            let Some((.., payload)) = split_ethernet(&frame.bytes) else { continue };
            let Some(packet) = Packet::parse(payload) else { continue };
            if packet.tcp_flags().is_none_or(|flags| flags & tcp_flag::RST == 0) {
                continue;
            }
            let is_forwarded = observations.iter().any(|other| match other {
                Observation::Handled { handled, .. } => handled.after.bytes == frame.bytes,
                _ => false,
            });
            // RFC 9293 section 3.10.7.1: a segment that belongs to no connection is refused with numbers taken from it.
            let refuses = |segment: Packet| {
                let numbers = packet.tcp_sequence().map(|sequence| (sequence, packet.tcp_acknowledgement()));
                segment.tuple() == packet.tuple().reversed() && segment.tcp_refusal() == numbers
            };
            let is_refusal = || {
                observations.iter().any(|other| match other {
                    Observation::Handled { node: at, handled } if at == node => {
                        let is_refused = matches!(handled.verdict, Verdict::Punted | Verdict::Dropped(_));
                        is_refused && packet_of(&handled.before).is_some_and(refuses)
                    }
                    _ => false,
                })
            };
            if !is_forwarded && !is_refusal() {
                self.services[self.nodes.side(*node) as usize].reset_sent(&packet, world.engine(*node));
            }
        }
    }

    pub(super) fn report_findings(&mut self, now: Instant) {
        for side in Side::BOTH {
            for finding in self.services[side as usize].take_findings() {
                let story = self.find(finding.outside);
                self.violate(now, finding.promise, format!("{}: {}", side.name(), finding.what), story);
            }
        }
    }

    /// Compares an engine's view of the servers with the truth: a server that is not up is a disturbance, and needs a
    /// cause.
    pub(super) fn check_server_states(&mut self, snapshot: &Snapshot, side: Side, now: Instant) {
        for service in 0..self.plan.farm.services.len() {
            let name = service_name(service);
            let Some(seen) = snapshot.services.all().iter().find(|seen| seen.name == name) else { continue };
            let seen = seen.clone();
            for server in &seen.servers {
                let Some(number) = (0..self.plan.farm.servers).find(|n| server_name(*n) == server.name) else {
                    continue;
                };
                for (family, up) in server.up.into_iter().enumerate() {
                    let why = format!("not up in {name} for {}", if family == 0 { "ipv4" } else { "ipv6" });
                    let before =
                        self.server_views.insert((side, service, number, family), (up, server.failure_counts[family]));
                    if up {
                        self.causes.end_server(number, &why, now);
                    } else {
                        self.causes.begin_server(number, &why, now);
                    }
                    let quiet = self.undisturbed_since.is_some_and(|since| now.since(since) > Duration::from_secs(3));
                    let fell = before.is_some_and(|(_, falls)| falls < server.failure_counts[family]);
                    if fell && quiet && !self.causes.is_disturbed(number, now) {
                        let what = format!("{}: {} of {name} declared down without a fault", side.name(), server.name);
                        self.violate(now, "no false alarm", what, None);
                    }
                }
            }
        }
    }
}
