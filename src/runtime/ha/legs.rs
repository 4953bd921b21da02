//! Sends hellos and advertisements on the links. Which frames those are is decided in [`crate::ha::frame`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrayvec::ArrayVec;

use crate::engine::{Snapshot, Transmit};
use crate::ha::settings::LegConfig;
use crate::ha::{Advertise, HaConfig, Machine, NodeId, frame};
use crate::id::LinkId;
use crate::runtime::ha_handle::{Counted, HaCounters};
use crate::runtime::socket_counters::SocketCounters;
use crate::runtime::transmit::{BURST, LinkSenders};
use crate::time::{Duration, Instant};
use crate::wire::MacAddr;
use crate::wire::offload::Offload;

/// The senders of the thread, and what it knows of the nodes on the links.
#[derive(Debug)]
pub(super) struct Legs {
    pub(super) senders: LinkSenders,
    /// The MAC addresses of other nodes, which are no stations outside the cluster.
    macs: BTreeSet<(LinkId, MacAddr)>,
    /// When a station outside the cluster was heard last on each link.
    stations: BTreeMap<LinkId, Instant>,
    counters: Arc<HaCounters>,
}

/// Stations that are heard sooner after one another say nothing new.
const STATION_PAUSE: Duration = Duration::from_millis(2);
/// The MAC addresses of nodes that are remembered, at most. Only those of opened datagrams are.
const MACS_MAX: usize = 4096;

impl Legs {
    pub(super) fn new(counters: Arc<HaCounters>) -> Self {
        Self { senders: LinkSenders::new(), macs: BTreeSet::new(), stations: BTreeMap::new(), counters }
    }

    /// A frame of another node came from this MAC address.
    pub(super) fn heard_node(&mut self, link: LinkId, mac: MacAddr) {
        if self.macs.len() < MACS_MAX {
            self.macs.insert((link, mac));
        }
    }

    /// True for a station that is no node of the cluster, as far as MAC addresses tell, unless another one was heard on
    /// the link of `leg` just before. Another virtual router is a station as any other.
    pub(super) fn is_outside(&mut self, leg: &LegConfig, mac: MacAddr, snapshot: &Snapshot, now: Instant) -> bool {
        let link = leg.link;
        let is_device = snapshot.links.get(link.index()).is_some_and(|link| link.mac == mac);
        if is_device || leg.is_virtual_mac(mac) || self.macs.contains(&(link, mac)) {
            return false;
        }
        let is_news = self.stations.get(&link).is_none_or(|last| now.since(*last) >= STATION_PAUSE);
        if is_news {
            self.stations.insert(link, now);
        }
        is_news
    }

    /// Forgets the nodes, which may have other devices after a reload.
    pub(super) fn forget_nodes(&mut self) {
        self.macs.clear();
    }

    /// Sends sealed datagrams, each for one node, on a leg.
    pub(super) fn send_datagrams(
        &self,
        leg: &LegConfig,
        config: &HaConfig,
        datagrams: &[(NodeId, Vec<u8>)],
        counted: Counted,
        snapshot: &Snapshot,
        traffic: &SocketCounters,
    ) {
        let frames = frame::datagrams(leg, config, datagrams, snapshot).into_iter().map(|bytes| (leg.link, bytes));
        self.send(frames, counted, snapshot, traffic);
    }

    /// Sends an advertisement on every leg and for every family with floating addresses.
    pub(super) fn advertise(&self, said: Advertise, machine: &Machine, snapshot: &Snapshot, traffic: &SocketCounters) {
        let frames = frame::advertisements(said, machine, snapshot);
        self.send(frames.into_iter(), Counted::AdvertSent, snapshot, traffic);
    }

    fn send(
        &self,
        frames: impl Iterator<Item = (LinkId, Vec<u8>)>,
        counted: Counted,
        snapshot: &Snapshot,
        traffic: &SocketCounters,
    ) {
        let mut frames = frames.filter_map(|(id, bytes)| {
            let link = snapshot.links.get(id.index())?;
            self.counters.count(counted);
            Some(Transmit { link: id, vlan: link.egress_tag(None), offload: Offload::NONE, bytes })
        });
        loop {
            let made: ArrayVec<Transmit, BURST> = frames.by_ref().take(BURST).collect();
            made.iter().for_each(|frame| traffic.count_sent(frame.link, frame.bytes.len()));
            self.senders.send_own(&made, traffic);
            if !made.is_full() {
                return;
            }
        }
    }
}
