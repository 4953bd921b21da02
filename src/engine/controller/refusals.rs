//! Sources that have too much: an alarm for each reason, with the last that was refused for it.

use super::Controller;
use super::journal::Alarm;
use crate::engine::forwarder::refusal_reason;
use crate::session::{OverLimit, Refusal};
use crate::time::{Duration, Instant};

/// Without a refusal for so long the alarm is cleared.
const CLEAR_AFTER: Duration = Duration::from_secs(30);

/// When somebody was refused last, for each reason.
pub(super) type Refusals = [Option<Instant>; OverLimit::ALL.len()];

impl Controller {
    /// Takes what the packet workers refused to sources since this was called before; to be called every second or so.
    pub fn handle_refusals(&mut self, refusals: impl Iterator<Item = Refusal>, now: Instant) {
        for refusal in refusals {
            let Refusal { reason: why, source, sessions } = refusal;
            let reason = format!("{source} has {sessions} sessions and is refused more: {}", self.refusal_reason(why));
            self.refusals[why as usize] = Some(now);
            self.out.raise_alarm(alarm(why), reason, now);
        }
        for why in OverLimit::ALL {
            if self.refusals[why as usize].is_some_and(|last| now.since(last) >= CLEAR_AFTER) {
                self.refusals[why as usize] = None;
                self.out.clear_alarm(&alarm(why), now);
            }
        }
    }

    fn refusal_reason(&self, why: OverLimit) -> String {
        let limits = &self.config.limits.source;
        let limit = |value: Option<u32>| value.map_or_else(|| "a limit".to_owned(), |value| value.to_string());
        match why {
            OverLimit::Share => {
                "source ports or the session table run short, and it has more of them than its share".to_owned()
            }
            OverLimit::Sessions => format!("source-sessions is {}", limit(limits.sessions)),
            OverLimit::Rate => format!("source-rate is {} a second", limit(limits.rate)),
        }
    }
}

fn alarm(why: OverLimit) -> Alarm {
    Alarm { kind: "source_refused", subject: refusal_reason(why).word().to_owned() }
}
