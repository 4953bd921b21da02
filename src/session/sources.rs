//! Counts how many sessions each source has, decides whether it may open another one, and remembers which source was
//! refused last.

use std::net::IpAddr;
use std::sync::{Mutex, TryLockError};

use crate::flow::source::ROWS;
use crate::flow::{SourceHasher, SourceKey, SourcePrefix, SourceRates, SourceTally};
use crate::session::table::lock;
use crate::time::Instant;

/// The limits for each source (`source-sessions` and `source-rate` of `[limits]`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SourceLimits {
    /// The largest number of live sessions.
    pub sessions: Option<u32>,
    /// The largest number of new sessions in a second.
    pub rate: Option<u32>,
}

/// Why a source is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OverLimit {
    /// Ports or places in the session table run short, and the source holds more of them than its share.
    Share,
    /// The source has as many sessions as it may have.
    Sessions,
    /// The source opens more sessions in a second than it may.
    Rate,
}

/// A source that was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// Why it was refused.
    pub reason: OverLimit,
    /// The source.
    pub source: SourcePrefix,
    /// The number of its sessions.
    pub sessions: u32,
}

/// The session counts and rates of all sources; see the module documentation.
#[derive(Debug)]
pub struct SourceLimiter {
    hasher: SourceHasher,
    sessions: SourceTally,
    rates: SourceRates,
    /// The last refusal of each kind, until it is taken.
    refusals: Mutex<[Option<Refusal>; 3]>,
}

/// Sessions for each column of the count, which reports at most 16 too few.
const SESSIONS_PER_COLUMN: usize = 16;
/// Columns of the rates. With 1,000 sources at their limit, one that stays below its own is refused in one case of
/// 70,000.
const RATE_COLUMNS: usize = 16_384;

impl SourceLimiter {
    /// Bytes for each session of the capacity.
    pub(super) const BYTES: usize = 2 * ROWS * size_of::<u32>() / SESSIONS_PER_COLUMN;

    /// The counts for a table of `capacity` sessions. `seed` makes it hard to choose addresses that are counted as one.
    pub(super) fn new(capacity: usize, seed: u64) -> Self {
        let columns = capacity.div_ceil(SESSIONS_PER_COLUMN).max(64);
        Self {
            hasher: SourceHasher::new(seed),
            sessions: SourceTally::new(u32::try_from(columns).unwrap_or(u32::MAX >> 1)),
            rates: SourceRates::new(capacity.clamp(64, RATE_COLUMNS) as u32),
            refusals: Mutex::default(),
        }
    }

    /// The key of a source.
    #[inline]
    pub(super) fn key(&self, source: IpAddr) -> SourceKey {
        self.hasher.key(source)
    }

    /// Counts a session that the source opened.
    pub(super) fn opened(&self, source: IpAddr) {
        self.sessions.add(self.key(source));
    }

    /// Counts a session of the source that ended.
    pub(super) fn ended(&self, source: IpAddr) {
        self.sessions.remove(self.key(source));
    }

    /// The number of sessions of the source, of `all` that there are. [`SourceTally`] says how exact that is.
    pub fn sessions_of(&self, source: IpAddr, all: usize) -> u32 {
        self.held(self.key(source), all)
    }

    pub(super) fn held(&self, source: SourceKey, all: usize) -> u32 {
        self.sessions.held(source, u32::try_from(all).unwrap_or(u32::MAX))
    }

    /// Decides whether the source may open a session, of `all` that there are, and counts the attempt.
    pub fn admit(&self, source: IpAddr, limits: &SourceLimits, all: usize, now: Instant) -> Result<(), OverLimit> {
        let key = self.key(source);
        let is_full = |limit| self.held(key, all) >= limit;
        if limits.sessions.is_some_and(is_full) {
            return Err(OverLimit::Sessions);
        }
        let is_within = |rate| self.rates.take(key, rate, now);
        if limits.rate.is_none_or(is_within) { Ok(()) } else { Err(OverLimit::Rate) }
    }

    /// Decides the same without counting anything.
    pub fn would_admit(
        &self,
        source: IpAddr,
        limits: &SourceLimits,
        all: usize,
        now: Instant,
    ) -> Result<(), OverLimit> {
        let without_rate = SourceLimits { rate: None, ..*limits };
        self.admit(source, &without_rate, all, now)?;
        let is_within = |rate| self.rates.would_take(self.key(source), rate, now);
        if limits.rate.is_none_or(is_within) { Ok(()) } else { Err(OverLimit::Rate) }
    }

    /// Remembers a source that was refused, unless another thread is remembering one at this moment.
    pub fn refused(&self, source: IpAddr, why: OverLimit, all: usize) {
        let sessions = self.sessions_of(source, all);
        let mut refusals = match self.refusals.try_lock() {
            Ok(refusals) => refusals,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        refusals[why as usize] = Some(Refusal { reason: why, source: SourcePrefix::of(source), sessions });
    }

    /// The last refusal of each kind since the last call.
    pub fn take_refusals(&self) -> impl Iterator<Item = Refusal> {
        std::mem::take(&mut *lock(&self.refusals)).into_iter().flatten()
    }
}

impl OverLimit {
    /// All kinds of refusal.
    pub const ALL: [Self; 3] = [Self::Share, Self::Sessions, Self::Rate];
}

#[cfg(test)]
mod tests;
