//! A firewall that answers probes but loses the replies of sessions.

use super::paths::started;
use super::sandwich::{OUTER, Sandwich};
use crate::engine::Counters;
use crate::id::FirewallId;
use crate::time::{Duration, Instant};

/// What the workers of an engine have counted, and when.
struct Watched {
    sandwich: Sandwich,
    counters: Counters,
    now: Instant,
}

impl Watched {
    fn new() -> Self {
        let sandwich = started(2);
        let mut watched = Self { now: sandwich.now, sandwich, counters: Counters::default() };
        watched.after(1, [(0, 0), (0, 0)]);
        watched
    }

    /// Reports after so many seconds so many more sessions of each firewall, new ones and ones with a reply.
    fn after(&mut self, seconds: u64, more: [(u64, u64); 2]) -> Vec<String> {
        self.now += Duration::from_secs(seconds);
        for (id, (new, answered)) in more.into_iter().enumerate() {
            let firewall = self.counters.firewall(FirewallId::from(id));
            firewall.new_sessions += new;
            firewall.answered_sessions += answered;
        }
        self.sandwich.engines[OUTER].watch_returns(&self.counters, self.now);
        let alarms = self.sandwich.engines[OUTER].alarms(self.now);
        alarms.into_iter().map(|alarm| format!("{} {}: {}", alarm.kind, alarm.subject, alarm.reason)).collect()
    }
}

#[test]
fn a_firewall_whose_sessions_stay_one_way_while_those_of_others_are_answered_raises_an_alarm_until_they_are() {
    let mut watched = Watched::new();
    let raised = watched.after(2, [(100, 95), (60, 0)]);
    assert_eq!(
        raised,
        [
            "one_way perimeter/fw2: it answers probes, but in 2 s 0 of 60 new sessions were answered through it, and 95 of 100 through \
             the others: see its routes and rules for clients and servers"
        ]
    );
    assert_eq!(watched.after(61, [(0, 0), (0, 0)]).len(), 1, "nothing speaks for it yet");
    assert_eq!(watched.after(1, [(10, 9), (4, 4)]).len(), 1, "nor do four sessions");
    assert_eq!(watched.after(1, [(10, 9), (4, 4)]), [""; 0]);
}

#[test]
fn what_is_answered_through_no_firewall_or_is_too_little_to_tell_raises_no_alarm() {
    // A dead server, or a flood.
    assert_eq!(Watched::new().after(2, [(5_000, 3), (5_000, 0)]), [""; 0]);
    assert_eq!(Watched::new().after(2, [(100, 95), (15, 0)]), [""; 0]);
    assert_eq!(Watched::new().after(2, [(0, 0), (500, 0)]), [""; 0], "nothing to compare with");
    // The same sum over many minutes is another matter.
    let mut watched = Watched::new();
    for _ in 0..10 {
        assert_eq!(watched.after(61, [(10, 9), (5, 0)]), [""; 0]);
    }
}

#[test]
fn a_firewall_that_is_down_is_told_of_as_that_alone() {
    let mut watched = Watched::new();
    assert_eq!(watched.after(2, [(100, 95), (60, 0)]).len(), 1);
    watched.sandwich.kill(1);
    watched.sandwich.run(Duration::from_secs(1));
    assert_eq!(watched.sandwich.states(OUTER), ["up", "down"]);
    assert_eq!(watched.after(2, [(0, 0), (0, 0)]), [""; 0]);
}
