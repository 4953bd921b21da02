//! Finds the sessions with the highest values in one walk that remembers no more of them than are asked for.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::{Walk, view};
use crate::api::sessions::{DEFAULT_LIMIT, PAGE_MAX};
use crate::api::{SessionPage, SessionSort};
use crate::engine::SessionMatcher;
use crate::session::{Session, SessionId, SessionTable};
use crate::time::{Duration, Instant};

/// What sessions had carried at an earlier time, from which rates are computed. It takes 24 bytes for each matching
/// session.
#[derive(Debug)]
pub struct EarlierTraffic {
    at: Instant,
    /// In the order of the table: id, packets, bytes.
    sessions: Vec<(SessionId, u64, u64)>,
}

/// What a session has carried since an earlier time.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rate {
    pub(super) packets: u64,
    pub(super) bytes: u64,
}

impl EarlierTraffic {
    /// Notes what the matching sessions have carried up to `now`.
    pub fn take(table: &SessionTable, selection: &SessionMatcher, now: Instant) -> Self {
        let mut sessions = Vec::new();
        table.walk(
            0,
            |key| selection.may_match(key),
            |id, key, session, bound| {
                if selection.matches(key, session, bound) {
                    sessions.push((id, session.packets, session.bytes));
                }
                true
            },
        );
        Self { at: now, sessions }
    }

    /// When it was noted.
    pub fn at(&self) -> Instant {
        self.at
    }

    /// Returns what each session has carried since; to be called in the order of the table.
    pub(super) fn since(&self) -> impl FnMut(SessionId, &Session) -> Rate {
        let mut earlier = self.sessions.iter().peekable();
        move |id, session| {
            while earlier.next_if(|(other, _, _)| other.slot < id.slot).is_some() {}
            // A session that was opened since has carried everything since.
            let (packets, bytes) = match earlier.peek() {
                Some((same, packets, bytes)) if *same == id => (*packets, *bytes),
                Some(_) | None => (0, 0),
            };
            Rate { packets: session.packets.saturating_sub(packets), bytes: session.bytes.saturating_sub(bytes) }
        }
    }
}

impl Rate {
    pub(super) fn packets_per_second(self, time: Duration) -> u64 {
        per_second(self.packets, time)
    }

    pub(super) fn bits_per_second(self, time: Duration) -> u64 {
        per_second(self.bytes.saturating_mul(8), time)
    }
}

fn per_second(count: u64, time: Duration) -> u64 {
    (count as f64 / time.as_secs_f64().max(0.001)) as u64
}

/// The matching sessions with the highest values of what `sort` says, highest first; equal ones in the order of the
/// table. Rates are computed from `earlier`.
pub fn sorted(
    walk: Walk<'_>,
    selection: &SessionMatcher,
    sort: SessionSort,
    limit: Option<usize>,
    earlier: Option<&EarlierTraffic>,
) -> SessionPage {
    let limit = limit.unwrap_or(DEFAULT_LIMIT).clamp(1, PAGE_MAX);
    let Walk { engine, table, snapshot, now } = walk;
    let mut since = earlier.map(EarlierTraffic::since);
    let time = earlier.map_or(Duration::ZERO, |earlier| now.since(earlier.at()));
    let mut best = BinaryHeap::with_capacity(limit + 1);
    let mut total = 0;
    table.walk(
        0,
        |key| selection.may_match(key),
        |id, key, session, bound| {
            if !selection.matches(key, session, bound) {
                return true;
            }
            total += 1;
            let rate = since.as_mut().map(|since| since(id, session)).unwrap_or_default();
            let rank = match sort {
                SessionSort::Packets => session.packets,
                SessionSort::Bytes => session.bytes,
                SessionSort::Rate => rate.bytes,
                SessionSort::PacketRate => rate.packets,
                SessionSort::Age => nanos(now.since(session.created)),
                SessionSort::Idle => nanos(now.since(session.last_seen)),
            };
            best.push(Reverse((rank, Reverse(id.slot), id.generation, (rate.packets, rate.bytes))));
            if best.len() > limit {
                best.pop();
            }
            true
        },
    );
    let best = best.into_sorted_vec();
    let row = |Reverse((_, Reverse(slot), generation, (packets, bytes)))| {
        let (key, session, bound) = table.copy(SessionId { slot, generation })?;
        let flow = key.in_direction(session.original_direction);
        let mut row = view(engine, &flow, (&session, bound.as_ref()), &table.timeouts(), snapshot, now);
        if earlier.is_some() {
            let rate = Rate { packets, bytes };
            row.packets_per_second = Some(rate.packets_per_second(time));
            row.bits_per_second = Some(rate.bits_per_second(time));
        }
        Some(row)
    };
    SessionPage { rows: best.into_iter().filter_map(row).collect(), total: Some(total), next: None }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
