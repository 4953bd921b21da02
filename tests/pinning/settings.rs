//! What does not change during a run of the model: its firewalls, its flow, and which engine prefers what.

use fwlb::flow::{FlowHash, FlowHasher, HashMode, Seed};
use fwlb::id::{FirewallId, GroupId};
use fwlb::path::{BelowMin, FirewallGroup, GroupMember, OnFailure, rendezvous};

use crate::world::O;

/// How a firewall keeps state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// It drops packets without state.
    Strict,
    /// It picks up connections in mid-stream if its policy permits them.
    Loose,
    /// All firewalls share their state.
    Synced,
}

/// The kind of flow, by its first packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Opener {
    Side(usize),
    Both,
}

/// Settings that do not change during a run.
#[derive(Clone, Debug)]
pub struct Settings {
    pub firewalls: usize,
    pub kind: Kind,
    pub tcp: bool,
    /// True if the firewalls permit new flows from both sides, and not only from the opener's.
    pub both_may_open: bool,
    pub opener: Opener,
    /// The hash of the flow, per engine. Different hashes stand for different seeds.
    pub hashes: [FlowHash; 2],
    /// The engine that leads.
    pub leader: usize,
    /// True if packets may be delayed in front of the firewall as well as behind it.
    pub two_stage: bool,
    /// The largest number of packets in flight.
    pub flight_max: usize,
    /// True if T exceeds detection and packet lifetime: time passes only while views are correct and nothing is in
    /// flight.
    pub patient: bool,
    /// A firewall that the inner engine does not know.
    pub unknown: Option<usize>,
    pub group: FirewallGroup,
}

impl Settings {
    /// Strict firewalls, TCP opened from outside, equal seeds, and the outer engine leads.
    pub fn strict(firewalls: usize) -> Self {
        let members = (0..firewalls).map(|slot| GroupMember {
            id: FirewallId::from(slot),
            name: format!("fw{slot}"),
            weight: 1,
            spare: false,
        });
        let group = FirewallGroup {
            id: GroupId(0),
            name: "perimeter".to_owned(),
            hasher: FlowHasher::new(Seed::from_text("pinning"), HashMode::FiveTuple),
            members: members.collect(),
            on_failure: OnFailure::Reselect,
            min_up: 1,
            below_min: BelowMin::Drop,
            has_mates: false,
        };
        let identity: Vec<_> = (0..firewalls).collect();
        let hash = hash_that_ranks(&group, &identity);
        Self {
            firewalls,
            kind: Kind::Strict,
            tcp: true,
            both_may_open: true,
            opener: Opener::Side(O),
            hashes: [hash, hash],
            leader: O,
            two_stage: false,
            flight_max: 3,
            patient: false,
            unknown: None,
            group,
        }
    }

    /// Sets the order in which each engine prefers the firewalls.
    pub fn ranked(mut self, outer: &[usize], inner: &[usize]) -> Self {
        self.hashes = [hash_that_ranks(&self.group, outer), hash_that_ranks(&self.group, inner)];
        self
    }

    pub fn may_open(&self, side: usize) -> bool {
        self.both_may_open || self.opens(side)
    }

    pub fn opens(&self, side: usize) -> bool {
        match self.opener {
            Opener::Side(opener) => opener == side,
            Opener::Both => true,
        }
    }

    pub fn all(&self) -> u64 {
        (1 << self.firewalls) - 1
    }

    /// The firewall whose state a firewall uses.
    pub fn conntrack_of(&self, firewall: usize) -> usize {
        match self.kind {
            Kind::Strict | Kind::Loose => firewall,
            Kind::Synced => 0,
        }
    }
}

/// A flow for which the rendezvous hash gives this order of firewalls.
pub fn hash_that_ranks(group: &FirewallGroup, order: &[usize]) -> FlowHash {
    let is_it =
        |hash: &FlowHash| rendezvous::rank(group, *hash).iter().map(|scored| scored.slot).eq(order.iter().copied());
    (0..).map(FlowHash).find(is_it).expect("every order has its flows")
}
