//! Alarms about sources that exceed their limits: one for each reason, with the last source that was refused for it.

use super::Controller;
use crate::engine::change::{Alarm, Subject};
use crate::engine::forwarder::refusal_reason;
use crate::engine::view::AlarmKind;
use crate::session::{OverLimit, Refusal};
use crate::time::{Duration, Instant};

/// An alarm is cleared after this time without a refusal.
const CLEAR_AFTER: Duration = Duration::from_secs(30);

/// When a source was refused last, for each reason.
pub(super) type Refusals = [Option<Instant>; OverLimit::ALL.len()];

impl Controller {
    /// Takes the sources that the packet workers refused since the last call. It is to be called about once a second.
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
    Alarm { kind: AlarmKind::SourceRefused, subject: Subject::Sources(refusal_reason(why).word()) }
}
