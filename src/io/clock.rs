//! Reads the clocks of the operating system. Only the runtime calls it; the core gets time as an argument.

use std::time::SystemTime;

use crate::time::Instant;

/// A monotonic clock that starts at zero, and the wall clock for what people read.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    zero: std::time::Instant,
}

impl Clock {
    /// Starts a clock at zero.
    #[expect(clippy::new_without_default, reason = "a default that reads a clock would surprise")]
    #[expect(clippy::disallowed_methods, reason = "the one legal place")]
    pub fn new() -> Self {
        Self { zero: std::time::Instant::now() }
    }

    /// Monotonic time since the clock was started.
    #[expect(clippy::disallowed_methods, reason = "the one legal place")]
    pub fn now(&self) -> Instant {
        Instant::ZERO + std::time::Instant::now().saturating_duration_since(self.zero)
    }

    /// The present wall-clock time as RFC 3339 in UTC, to the millisecond.
    #[expect(clippy::disallowed_methods, reason = "the one legal place")]
    pub fn wall(&self) -> String {
        humantime::format_rfc3339_millis(SystemTime::now()).to_string()
    }

    /// The present wall-clock time.
    #[expect(clippy::disallowed_methods, reason = "the one legal place")]
    pub fn wall_time(&self) -> SystemTime {
        SystemTime::now()
    }

    /// The wall-clock time at a past `moment`, in the format of [`Clock::wall`].
    #[expect(clippy::disallowed_methods, reason = "the one legal place")]
    pub fn wall_at(&self, moment: Instant) -> String {
        let now = SystemTime::now();
        let then = now.checked_sub(self.now().since(moment)).unwrap_or(now);
        humantime::format_rfc3339_millis(then).to_string()
    }

    /// Wall-clock time at `at` in nanoseconds since 1970, by the wall clock's present setting: steps since `at` are
    /// included.
    #[expect(clippy::disallowed_methods, reason = "the one legal place")]
    pub fn wall_nanos(&self, at: Instant) -> u64 {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let nanos = u64::try_from(wall.as_nanos()).unwrap_or(u64::MAX);
        let (now, at) = (self.now().as_nanos(), at.as_nanos());
        nanos.saturating_add(at.saturating_sub(now)).saturating_sub(now.saturating_sub(at))
    }

    /// 64 random bits, to seed what must not be guessed.
    pub fn random(&self) -> u64 {
        use std::hash::{BuildHasher, Hasher};
        // Each `RandomState` derives its keys from the operating system's entropy (drawn per thread, then counted up).
        std::collections::hash_map::RandomState::new().build_hasher().finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_starts_near_zero_and_never_goes_back() {
        let clock = Clock::new();
        let first = clock.now();
        let second = clock.now();

        assert!(first.as_millis() < 1000, "{first:?}");
        assert!(second >= first);
    }

    #[test]
    fn the_wall_clock_is_rfc_3339_in_utc() {
        let wall = Clock::new().wall();

        assert!(humantime::parse_rfc3339(&wall).is_ok(), "{wall}");
        assert!(wall.ends_with('Z') && wall.len() == "2026-11-21T11:00:00.000Z".len(), "{wall}");
    }

    #[test]
    fn the_same_moment_has_the_same_time_on_the_wall() {
        let clock = Clock::new();
        let moment = clock.now();
        let (first, second) = (clock.wall_nanos(moment), clock.wall_nanos(moment));

        assert!(first.abs_diff(second) < 100_000_000, "{first} {second}");
        let later = clock.wall_nanos(moment + crate::time::Duration::from_secs(10));
        assert!(later.abs_diff(first) > 9_000_000_000, "{first} {later}");
    }

    #[test]
    fn random_numbers_differ() {
        let clock = Clock::new();
        assert_ne!(clock.random(), clock.random());
    }
}
