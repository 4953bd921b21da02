//! Measures whether the machine had time for the tour: promises are in milliseconds, which an overloaded machine cannot
//! keep.

use std::fs;
use std::time::Duration;

use tokio::time::Instant;

/// Less than this percentage of the time breaks no promise.
const NOTABLE_PERCENT: u64 = 10;

/// The kernel's CPU pressure when the tour began (Documentation/accounting/psi.rst).
#[derive(Debug)]
pub struct Pressure {
    stalled: Duration,
    since: Instant,
}

impl Pressure {
    /// Starts measuring; `None` on a kernel that does not measure pressure.
    pub fn begin() -> Option<Self> {
        Some(Self { stalled: now()?, since: Instant::now() })
    }

    /// For how much of the time since then a task waited for a CPU, in words, if that was notable.
    pub fn end(&self) -> Option<String> {
        stall_text(now()?.saturating_sub(self.stalled), self.since.elapsed())
    }
}

fn stall_text(stalled: Duration, elapsed: Duration) -> Option<String> {
    let percent = stalled.as_millis().checked_mul(100)?.checked_div(elapsed.as_millis())?;
    let percent = u64::try_from(percent).ok().filter(|percent| *percent >= NOTABLE_PERCENT)?;
    Some(format!(
        "This machine had too little CPU: for {percent} % of the tour's {} s something waited for one (/proc/pressure/cpu). A promise of \
         milliseconds may be broken by that alone: try again when nothing else runs.",
        elapsed.as_secs()
    ))
}

fn now() -> Option<Duration> {
    stalled(&fs::read_to_string("/proc/pressure/cpu").ok()?)
}

/// Parses the total of the line `some avg10=0.00 avg60=0.00 avg300=0.00 total=MICROSECONDS`.
fn stalled(text: &str) -> Option<Duration> {
    let some = text.lines().find(|line| line.starts_with("some "))?;
    let total = some.split_whitespace().find_map(|word| word.strip_prefix("total="))?;
    total.parse().ok().map(Duration::from_micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_starved_machine_is_told_and_one_with_time_to_spare_is_not() {
        let text =
            "some avg10=1.00 avg60=2.00 avg300=3.00 total=2500000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n";
        assert_eq!(stalled(text), Some(Duration::from_millis(2500)));
        assert_eq!(stalled("full avg10=0.00 total=7"), None);

        let minute = Duration::from_secs(60);
        assert_eq!(stall_text(Duration::from_secs(5), minute), None);
        let told = stall_text(Duration::from_secs(30), minute).unwrap();
        assert!(told.contains("50 %") && told.contains("60 s"), "{told}");
        assert_eq!(stall_text(Duration::ZERO, Duration::ZERO), None);
    }
}
