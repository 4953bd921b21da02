//! Adds up the traffic of sessions by address, service, server or firewall (top talkers).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;

use super::Walk;
use super::rank::{EarlierTraffic, Rate};
use crate::api::sessions::{DEFAULT_LIMIT, PAGE_MAX};
use crate::api::{SessionSort, TalkerRequest, TalkersBy};
use crate::engine::view::TalkerView;
use crate::engine::{SessionMatcher, Snapshot};
use crate::flow::FlowKey;
use crate::id::{FirewallId, ServerId, ServiceId};
use crate::session::{Placement, Session};

/// Number of subjects that are added up in one walk, approximately. If there may be more, each of several walks takes a
/// share.
const SUBJECTS_PER_WALK: usize = 1 << 18;

/// The subject of a sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Subject {
    Address(IpAddr),
    Service(ServiceId),
    Server(ServiceId, ServerId),
    Firewall(FirewallId),
}

#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    sessions: u64,
    packets: u64,
    bytes: u64,
    rate: Rate,
}

/// The subjects with the highest sums, highest first. Rates are computed from `earlier`.
pub fn talkers(
    walk: Walk<'_>,
    selection: &SessionMatcher,
    question: &TalkerRequest,
    earlier: Option<&EarlierTraffic>,
) -> Vec<TalkerView> {
    let limit = question.limit.unwrap_or(DEFAULT_LIMIT).clamp(1, PAGE_MAX);
    let walks = match question.by {
        TalkersBy::Source | TalkersBy::Destination => walk.table.len() / SUBJECTS_PER_WALK + 1,
        // A configuration never has more of these than one walk takes.
        TalkersBy::Service | TalkersBy::Server | TalkersBy::Firewall => 1,
    };
    let hasher = RandomState::new();
    let mut best = BinaryHeap::with_capacity(limit + 1);
    for number in 0..walks {
        let is_in_share = |subject: &Subject| walks == 1 || hasher.hash_one(subject) % walks as u64 == number as u64;
        for (subject, sum) in sums(walk, selection, question.by, earlier, is_in_share) {
            let rank = match question.sort {
                SessionSort::Packets => sum.packets,
                SessionSort::Rate => sum.rate.bytes,
                SessionSort::PacketRate => sum.rate.packets,
                // The sums of the other orders are not meaningful for a subject.
                SessionSort::Bytes | SessionSort::Age | SessionSort::Idle => sum.bytes,
            };
            best.push(Ranked { rank: Reverse((rank, sum.sessions, Reverse(subject))), sum });
            if best.len() > limit {
                best.pop();
            }
        }
    }
    let time = earlier.map(|earlier| walk.now.since(earlier.at()));
    let row = |Ranked { rank: Reverse((_, _, Reverse(subject))), sum }: Ranked| TalkerView {
        engine: walk.engine.to_owned(),
        by: question.by.name().to_owned(),
        subject: subject.name(walk.snapshot),
        sessions: sum.sessions,
        packets: sum.packets,
        bytes: sum.bytes,
        packets_per_second: time.map(|time| sum.rate.packets_per_second(time)),
        bits_per_second: time.map(|time| sum.rate.bits_per_second(time)),
    };
    best.into_sorted_vec().into_iter().map(row).collect()
}

/// The sums of all subjects of one share.
fn sums(
    walk: Walk<'_>,
    selection: &SessionMatcher,
    by: TalkersBy,
    earlier: Option<&EarlierTraffic>,
    is_in_share: impl Fn(&Subject) -> bool,
) -> BTreeMap<Subject, Sum> {
    let mut since = earlier.map(EarlierTraffic::since);
    let mut sums = BTreeMap::<Subject, Sum>::new();
    walk.table.walk(
        0,
        |key| selection.may_match(key),
        |id, key, session, bound| {
            if !selection.matches(key, session, bound) {
                return true;
            }
            let rate = since.as_mut().map(|since| since(id, session)).unwrap_or_default();
            let flow = key.in_direction(session.original_direction);
            for subject in subjects(by, &flow, session, bound).into_iter().flatten().filter(&is_in_share) {
                let sum = sums.entry(subject).or_default();
                sum.sessions += 1;
                sum.packets += session.packets;
                sum.bytes += session.bytes;
                sum.rate.packets += rate.packets;
                sum.rate.bytes += rate.bytes;
            }
            true
        },
    );
    sums
}

/// The subjects to whose sums a session counts.
fn subjects(by: TalkersBy, flow: &FlowKey, session: &Session, bound: Option<&Placement>) -> [Option<Subject>; 2] {
    match by {
        TalkersBy::Source => [Some(Subject::Address(flow.source.address)), None],
        TalkersBy::Destination => [Some(Subject::Address(flow.destination.address)), None],
        TalkersBy::Service => [bound.map(|bound| Subject::Service(bound.service)), None],
        TalkersBy::Server => [bound.map(|bound| Subject::Server(bound.service, bound.server)), None],
        TalkersBy::Firewall => {
            let [low, high] = [session.toward_low, session.toward_high].map(|pin| pin.map(|pin| pin.firewall));
            let high = high.filter(|high| Some(*high) != low);
            [low, high].map(|firewall| firewall.map(Subject::Firewall))
        }
    }
}

impl Subject {
    fn name(self, snapshot: &Snapshot) -> String {
        let service = |id| snapshot.services.get(id).map_or("?", |service| service.name.as_str());
        match self {
            Self::Address(address) => address.to_string(),
            Self::Service(id) => service(id).to_owned(),
            Self::Server(of, id) => {
                let servers = snapshot.services.get(of).into_iter().flat_map(|service| &service.servers);
                let server = servers.into_iter().find(|one| one.id == id).map_or("?", |one| one.name.as_str());
                format!("{}/{server}", service(of))
            }
            Self::Firewall(id) => snapshot.firewalls.get(id.index()).map_or_else(String::new, |firewall| {
                format!("{}/{}", snapshot.groups[firewall.group.index()].name, firewall.name)
            }),
        }
    }
}

/// A subject with its rank, ordered so that the heap yields the lowest first.
struct Ranked {
    rank: Reverse<(u64, u64, Reverse<Subject>)>,
    sum: Sum,
}

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.rank.cmp(&other.rank)
    }
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Ranked {
    fn eq(&self, other: &Self) -> bool {
        self.rank == other.rank
    }
}

impl Eq for Ranked {}
