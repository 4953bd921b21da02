//! Decides how a worker with empty rings spends its time until frames arrive.
//!
//! ```text
//!   frames come in every turn          none
//!   at least 100 in a millisecond      nap     50 µs, without asking the kernel to wake it for each frame
//!   gaps of up to 300 µs               spin    looks again at once: a wake-up would cost more than the gap is worth
//!   anything else                      sleep   until a frame comes
//! ```
//!
//! The length of the spin follows the gaps, as in the kernel's halt polling
//! (`Documentation/virt/kvm/halt-polling.rst`): it doubles when a frame arrived shortly after the worker went to sleep,
//! and halves when the gap was longer than any spin. A worker leaves the core to other threads that want it: it yields
//! in every turn, and stops spinning for a while when a yield took long.

use crate::time::{Duration, Instant};

/// The longest sleep while packets arrive now and then: idle sessions are expired, and lost frames counted, at most
/// this late.
const SLEEP_MAX: Duration = Duration::from_millis(250);
/// The longest sleep after the same time without packets. The watchdog expects a turn within two seconds.
const QUIET_SLEEP_MAX: Duration = Duration::from_secs(1);
/// How long a worker under load naps when it finds its rings empty. Asking the kernel to wake it for the next frame
/// would cost more than handling the frame.
const NAP_TIME: Duration = Duration::from_micros(50);
/// Frames per millisecond that count as load. One or two request-response conversations make fewer; a nap would spoil
/// their latency.
const LOAD_PER_MS: u64 = 100;
/// A measurement that took longer, or is older, is void: the worker slept.
const SAMPLE_AGE_MAX: Duration = Duration::from_millis(2);
/// The shortest spin, with which it starts.
const SPIN_MIN: Duration = Duration::from_micros(10);
/// The longest spin: a few times the duration of a wake-up, also in a virtual machine.
const SPIN_MAX: Duration = Duration::from_micros(300);
/// If other threads ran this long while the worker yielded, spinning costs them more than it saves.
const YIELD_LONG: Duration = Duration::from_micros(50);
/// How long the core is then left to the others: briefly at first, and twice as long each time that they still want it.
const SPIN_PAUSE_MIN: Duration = Duration::from_millis(1);
const SPIN_PAUSE_MAX: Duration = Duration::from_millis(256);
/// Other threads that did not want the core for this long are gone.
const UNCONTENDED: Duration = Duration::from_millis(100);

/// What to do until the next look at the rings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IdleAction {
    /// Yield the core, and look again.
    Spin,
    /// Sleep for this time without asking for a wake-up, because frames arrive anyway.
    Nap(Duration),
    /// Sleep until a frame arrives, for this time at most.
    Sleep(Duration),
}

/// The load of the last millisecond or so, and the gaps between frames.
#[derive(Debug, Default)]
pub(super) struct IdlePolicy {
    since: Instant,
    frames: u64,
    loaded: bool,
    /// When frames arrived last.
    last_frame: Instant,
    /// Whether the worker has slept since.
    slept: bool,
    /// How long after a frame spinning pays off; zero: not at all.
    spin: Duration,
    /// How long the core was left to others the last time, and until when.
    spin_pause: (Duration, Instant),
}

impl IdlePolicy {
    /// Notes that a turn which began at `now` carried this many frames.
    pub(super) fn note_turn(&mut self, frames: usize, now: Instant) {
        self.frames += frames as u64;
        if frames > 0 {
            if self.slept {
                self.spin = spin_after(self.spin, now.since(self.last_frame));
            }
            self.last_frame = now;
            self.slept = false;
        }
        let passed = now.since(self.since);
        if passed >= Duration::from_millis(1) {
            let per_ms = self.frames * 1_000_000 / u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX);
            self.loaded = per_ms >= LOAD_PER_MS && passed < SAMPLE_AGE_MAX;
            self.since = now;
            self.frames = 0;
        }
    }

    /// What to do after a turn without frames.
    pub(super) fn idle_action(&mut self, now: Instant) -> IdleAction {
        if self.loaded && now.since(self.since) < SAMPLE_AGE_MAX {
            return IdleAction::Nap(NAP_TIME);
        }
        let gap = now.since(self.last_frame);
        if gap < self.spin && now >= self.spin_pause.1 {
            return IdleAction::Spin;
        }
        self.slept = true;
        IdleAction::Sleep(if gap < QUIET_SLEEP_MAX { SLEEP_MAX } else { QUIET_SLEEP_MAX })
    }

    /// Notes that the worker yielded its core at `from` and got it back at `to`.
    pub(super) fn note_yield(&mut self, from: Instant, to: Instant) {
        if to.since(from) > YIELD_LONG {
            let (last, until) = self.spin_pause;
            let length = if to.since(until) > UNCONTENDED {
                SPIN_PAUSE_MIN
            } else {
                (last * 2).clamp(SPIN_PAUSE_MIN, SPIN_PAUSE_MAX)
            };
            self.spin_pause = (length, to + length);
        }
    }
}

/// The new length of the spin after a worker that had spun for `spin` fell asleep, and the next frame came `gap` after
/// the last.
fn spin_after(spin: Duration, gap: Duration) -> Duration {
    if gap <= SPIN_MAX {
        return (spin * 2).clamp(SPIN_MIN, SPIN_MAX);
    }
    let half = spin / 2;
    if half < SPIN_MIN { Duration::ZERO } else { half }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn micros(micros: u64) -> Instant {
        Instant::from_nanos(micros * 1000)
    }

    /// Feeds single frames that arrive `gap` microseconds apart to a worker that looks once in a microsecond; returns
    /// the time of the last.
    fn after_gaps(pace: &mut IdlePolicy, start: u64, gap: u64, frames: u64) -> u64 {
        for frame in 0..frames {
            for at in 1..gap {
                let now = micros(start + frame * gap + at);
                let _ = pace.idle_action(now);
                pace.note_turn(0, now);
            }
            pace.note_turn(1, micros(start + (frame + 1) * gap));
        }
        start + frames * gap
    }

    #[test]
    fn a_flood_is_napped_through_and_a_conversation_is_not() {
        let rest_after = |frames_per_turn, turn_us: u64| {
            let mut pace = IdlePolicy::default();
            let turns = 5000 / turn_us;
            (0..=turns).for_each(|turn| pace.note_turn(frames_per_turn, micros(turn * turn_us)));
            pace.idle_action(micros(turns * turn_us + 1))
        };

        assert_eq!(rest_after(10, 50), IdleAction::Nap(NAP_TIME), "200 frames a millisecond");
        assert_eq!(rest_after(1, 25), IdleAction::Sleep(SLEEP_MAX), "a ping-pong with 50 µs round trip");
        assert_eq!(rest_after(0, 1000), IdleAction::Sleep(SLEEP_MAX));
    }

    #[test]
    fn load_is_forgotten_when_it_ends() {
        let mut pace = IdlePolicy::default();
        (0..100).for_each(|turn| pace.note_turn(50, micros(turn * 50)));
        assert_eq!(pace.idle_action(micros(5000)), IdleAction::Nap(NAP_TIME));

        assert_eq!(pace.idle_action(micros(9000)), IdleAction::Sleep(SLEEP_MAX));
        pace.note_turn(0, micros(9000));
        assert_eq!(pace.idle_action(micros(9001)), IdleAction::Sleep(SLEEP_MAX));
    }

    #[test]
    fn a_worker_without_packets_is_rarely_awake_and_less_rarely_after_some() {
        let mut pace = IdlePolicy::default();
        pace.note_turn(0, micros(5_000_000));
        assert_eq!(pace.idle_action(micros(5_000_000)), IdleAction::Sleep(QUIET_SLEEP_MAX));

        pace.note_turn(1, micros(6_000_000));
        assert_eq!(pace.idle_action(micros(6_500_000)), IdleAction::Sleep(SLEEP_MAX));
        assert_eq!(pace.idle_action(micros(7_000_000)), IdleAction::Sleep(QUIET_SLEEP_MAX));
    }

    #[test]
    fn frames_that_come_soon_are_waited_for_awake() {
        let mut pace = IdlePolicy::default();
        let last = after_gaps(&mut pace, 0, 110, 10);

        assert_eq!(pace.idle_action(micros(last + 109)), IdleAction::Spin);
        assert_eq!(
            pace.idle_action(micros(last + 201)),
            IdleAction::Sleep(SLEEP_MAX),
            "the spin is not much longer than the gap"
        );
    }

    #[test]
    fn frames_that_come_now_and_then_are_waited_for_asleep() {
        let mut pace = IdlePolicy::default();
        let last = after_gaps(&mut pace, 0, 110, 10);
        let last = after_gaps(&mut pace, last, 1000, 6);

        assert_eq!(pace.idle_action(micros(last + 1)), IdleAction::Sleep(SLEEP_MAX));
    }

    #[test]
    fn a_pause_does_not_make_forget_how_a_conversation_goes() {
        let mut pace = IdlePolicy::default();
        let last = after_gaps(&mut pace, 0, 40, 10);
        let last = after_gaps(&mut pace, last, 1000, 1);

        assert_eq!(pace.idle_action(micros(last + 15)), IdleAction::Spin, "half as long as before");
    }

    #[test]
    fn a_core_that_others_want_is_left_to_them_for_a_while() {
        let mut pace = IdlePolicy::default();
        let last = after_gaps(&mut pace, 0, 110, 10);
        pace.note_yield(micros(last), micros(last + 5));
        assert_eq!(pace.idle_action(micros(last + 5)), IdleAction::Spin, "a short guest does no harm");

        pace.note_yield(micros(last + 5), micros(last + 85));

        assert_eq!(pace.idle_action(micros(last + 85)), IdleAction::Sleep(SLEEP_MAX));
        pace.note_turn(1, micros(last + 1086));
        assert_eq!(pace.idle_action(micros(last + 1087)), IdleAction::Spin);
    }

    #[test]
    fn others_that_stay_have_the_core_for_longer_and_longer() {
        let mut pace = IdlePolicy::default();
        let mut now = after_gaps(&mut pace, 1_000_000, 110, 10);
        let mut respite = |now: &mut u64, pause: u64| {
            *now += pause;
            pace.note_yield(micros(*now), micros(*now + 3000));
            *now += 3000;
            pace.note_turn(1, micros(*now));
            assert_ne!(pace.idle_action(micros(*now)), IdleAction::Spin);
            let (length, until) = pace.spin_pause;
            *now = until.as_nanos() / 1000;
            length.as_millis()
        };

        assert_eq!([0; 10].map(|pause| respite(&mut now, pause)), [1, 2, 4, 8, 16, 32, 64, 128, 256, 256]);
        assert_eq!(respite(&mut now, 200_000), 1, "they were gone for a while");
    }
}
