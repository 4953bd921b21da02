//! Reports frames that were lost because a worker did not empty its ring in time: while the loss goes on, but not too
//! often.

use std::collections::BTreeMap;

use crate::id::DeviceId;
use crate::time::{Duration, Instant};

/// Shortest time between two reports about the same ring.
const REPORT_INTERVAL: Duration = Duration::from_secs(30);

/// The ring of one worker on one device.
pub(super) type Ring = (DeviceId, usize);

/// What was reported about each ring.
#[derive(Debug, Default)]
pub(super) struct RingLosses {
    reported: BTreeMap<Ring, ReportedLosses>,
}

#[derive(Debug, Clone, Copy, Default)]
struct ReportedLosses {
    lost: u64,
    at: Option<Instant>,
}

impl RingLosses {
    /// Takes the number of frames that a ring has lost since the start; returns how many to report at `now`, if a
    /// report is due: those since the last report.
    pub(super) fn report_due(&mut self, ring: Ring, lost: u64, now: Instant) -> Option<u64> {
        let told = self.reported.entry(ring).or_default();
        let more = lost.saturating_sub(told.lost);
        if more == 0 || told.at.is_some_and(|at| now.since(at) < REPORT_INTERVAL) {
            return None;
        }
        *told = ReportedLosses { lost, at: Some(now) };
        Some(more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_is_told_at_once_and_what_follows_together() {
        let mut losses = RingLosses::default();
        let (ring, at) = ((DeviceId(0), 1), |seconds: u64| Instant::from_millis(seconds * 1000));

        assert_eq!(losses.report_due(ring, 0, at(1)), None);
        assert_eq!(losses.report_due(ring, 7, at(2)), Some(7));
        assert_eq!(losses.report_due(ring, 9, at(3)), None, "told a second ago");
        assert_eq!(losses.report_due(ring, 12, at(32)), Some(5));
        assert_eq!(losses.report_due(ring, 12, at(90)), None, "it has ended");
        assert_eq!(losses.report_due(ring, 13, at(91)), Some(1));
    }

    #[test]
    fn each_ring_is_told_of_by_itself() {
        let mut losses = RingLosses::default();
        let now = Instant::from_millis(1000);

        assert_eq!(losses.report_due((DeviceId(0), 0), 3, now), Some(3));
        assert_eq!(losses.report_due((DeviceId(0), 1), 4, now), Some(4));
        assert_eq!(losses.report_due((DeviceId(1), 0), 5, now), Some(5));
    }
}
