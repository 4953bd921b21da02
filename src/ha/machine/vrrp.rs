//! Advertisements: what they say about nodes that speak nothing else (RFC 9568 section 6.4).

use std::net::IpAddr;

use super::peers::{HeardRouter, Peer};
use super::{Machine, NodeKind};
use crate::ha::Role;
use crate::ha::out::{Out, Reason};
use crate::ha::settings::{LegId, NodeId};
use crate::time::Instant;
use crate::wire::Family;
use crate::wire::vrrp::{Received, active_down_interval, skew_time};

/// What an advertisement was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Advertised {
    /// Of another node, which is judged by its hellos.
    Node,
    /// Of another node, which is judged by it.
    Router,
    /// As [`Self::Router`], but it lists other addresses than this node.
    OtherAddresses,
    /// This node's own, which came back.
    Own,
    /// Of another virtual router of the link.
    OtherVrid,
    /// Of a stranger that uses this cluster's VRID: an alarm.
    Stranger,
}

impl Advertised {
    /// The word for metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Router => "router",
            Self::OtherAddresses => "other_addresses",
            Self::Own => "own",
            Self::OtherVrid => "other_vrid",
            Self::Stranger => "stranger",
        }
    }
}

impl Machine {
    /// Takes an advertisement that arrived on a leg.
    pub fn handle_advertisement(&mut self, leg: LegId, received: &Received, now: Instant) -> (Out, Advertised) {
        let mut out = self.awake(now);
        let what = self.judge_advertisement(leg, received, now, &mut out);
        // A stranger is an alarm, for which the next round is soon enough.
        let is_judged = matches!(what, Advertised::Router | Advertised::OtherAddresses);
        self.settle_if(is_judged, now, &mut out);
        (out, what)
    }

    fn judge_advertisement(&mut self, leg: LegId, received: &Received, now: Instant, out: &mut Out) -> Advertised {
        let (said, source, family) = (&received.advertisement, received.pair.source(), received.pair.family());
        let Some(settings) = self.config.legs.get(leg.index()) else { return Advertised::OtherVrid };
        if said.vrid != settings.vrid || !settings.has_floating(family) {
            return Advertised::OtherVrid;
        }
        if settings.own.contains(&source) || self.link_local(leg) == Some(source) {
            return Advertised::Own;
        }
        let mut wanted: Vec<IpAddr> = settings.floating_of(family).collect();
        let mut listed = said.addresses.clone();
        listed.sort_unstable();
        wanted.sort_unstable();
        let is_ours = listed == wanted;
        let node =
            self.config.node_at(source).or_else(|| self.router_at(source, said.priority, now).filter(|_| is_ours));
        let Some(peer) = self.peers.iter_mut().find(|peer| Some(peer.node) == node) else {
            // Over IPv6 a node speaks from its link-local address, which the file need not have.
            if matches!(source, IpAddr::V6(source) if source.is_unicast_link_local()) && is_ours {
                return Advertised::Node;
            }
            self.stranger = Some((leg, source, now));
            return Advertised::Stranger;
        };
        peer.advertised = Some(now);
        self.checksums.insert((leg, family), received.checksum);
        self.legs.hear_node(leg, peer.node, now);
        if peer.kind == NodeKind::Fwlb && peer.hello.is_some() {
            return Advertised::Node;
        }
        let node = peer.node;
        match self.role {
            Role::Fault | Role::Listen | Role::Standby | Role::Leaving => {
                self.hear_router(node, leg, received, now);
            }
            Role::Active if said.priority > 0 && self.is_beaten(leg, said.priority, source, family) => {
                self.hear_router(node, leg, received, now);
                self.take_role(Role::Standby, Reason::BetterClaim(node), now, out);
            }
            // Section 6.4.3: the other router is answered at once, and the addresses are announced.
            Role::Active => self.reassert(now, out),
        }
        if is_ours { Advertised::Router } else { Advertised::OtherAddresses }
    }

    /// True if an advertisement wins against this active node: by priority, else by address (RFC 9568 section 6.4.3).
    fn is_beaten(&self, leg: LegId, priority: u8, source: IpAddr, family: Family) -> bool {
        let mine = self.priority();
        let of_family = || self.config.legs[leg.index()].own.iter().copied().find(|own| Family::of(*own) == family);
        let own = self.link_local(leg).filter(|_| family == Family::V6).or_else(of_family);
        priority > mine || (priority == mine && own.is_some_and(|own| source > own))
    }

    fn link_local(&self, leg: LegId) -> Option<IpAddr> {
        self.health.link_local.get(leg.index()).copied().flatten()
    }

    /// The node of VRRP alone that advertises the cluster's addresses from a link-local address, as every router of IPv6
    /// does (RFC 9568 section 5.1.2.2). The file need not have that address: it is the node that was heard at it before,
    /// else one with this priority, else any. While a node of this program is active, it is that node's own.
    fn router_at(&self, source: IpAddr, priority: u8, now: Instant) -> Option<NodeId> {
        let is_link_local = matches!(source, IpAddr::V6(source) if source.is_unicast_link_local());
        if !is_link_local || self.peers.iter().any(|peer| peer.speaking_forwarding(now).is_some()) {
            return None;
        }
        let routers = || self.peers.iter().filter(|peer| peer.kind == NodeKind::Vrrp);
        let was_heard = |peer: &&Peer| peer.routers.iter().any(|router| router.source == source);
        let known = routers().find(was_heard).or_else(|| routers().find(|peer| peer.priority == priority));
        known.or_else(|| routers().next()).map(|peer| peer.node)
    }

    /// Notes how long the router counts as active (RFC 9568 section 6.4.2).
    fn hear_router(&mut self, node: NodeId, leg: LegId, received: &Received, now: Instant) {
        let (said, source, family) = (&received.advertisement, received.pair.source(), received.pair.family());
        let mine = self.priority();
        let may_preempt = self.config.preempt.is_some_and(|after| now.since(self.since) >= after);
        let Some(peer) = self.peers.iter_mut().find(|peer| peer.node == node) else {
            return;
        };
        let known = peer.routers.iter_mut().find(|router| router.leg == leg && router.family == family);
        let down_at = match said.priority {
            0 => now + skew_time(mine, known.as_ref().map_or(said.interval, |known| known.interval)),
            // "If Preempt_Mode is False, or if the Priority is greater than or equal to the local": else discarded.
            priority if priority >= mine || !may_preempt => now + active_down_interval(mine, said.interval),
            _ => return,
        };
        let router =
            HeardRouter { leg, family, source, priority: said.priority, interval: said.interval, heard: now, down_at };
        match known {
            Some(known) => *known = router,
            None => peer.routers.push(router),
        }
        if said.priority > 0 {
            self.asked = None;
        }
    }

    /// The router of an advertisement that counts as active for longest, and its node. This node becomes active when
    /// every one of them is down.
    pub(super) fn router_down(&self) -> Option<(NodeId, &HeardRouter)> {
        let routers = self.peers.iter().flat_map(|peer| peer.routers.iter().map(|router| (peer.node, router)));
        routers.max_by_key(|(_, router)| router.down_at)
    }

    /// True if a node that speaks VRRP alone was heard as active in the last four intervals.
    pub(super) fn hears_router(peer: &Peer, now: Instant) -> bool {
        let is_fresh = |router: &HeardRouter| router.priority > 0 && now.since(router.heard) < router.interval * 4;
        peer.routers.iter().any(is_fresh)
    }
}
