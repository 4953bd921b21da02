//! What the machine does, rule by rule. `simulation` connects several of them.

mod explain;
mod order;
mod reload;
mod repeated;
mod rules;
mod simulation;
mod vrrp;

use super::testing::{config, node};
use super::*;
use crate::ha::alarm::{AlarmChange, AlarmKind};
use crate::ha::score::{GroupHealth, SyncState};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// One machine under test, its clock, and what it said.
struct Bench {
    machine: Machine,
    /// The number of the last hello that it heard.
    round: u64,
    now: Instant,
    moves: Vec<RoleChange>,
    raised: Vec<AlarmKind>,
    announced: usize,
    asked: usize,
    advertised: Vec<u8>,
    /// On so many links, from the first, a station answers whenever it is asked.
    answering: usize,
}

impl Bench {
    /// Node `me` of `nodes`.
    fn new(nodes: u8, me: u8) -> Self {
        Self::with(node(nodes, me))
    }

    fn with(config: HaConfig) -> Self {
        let now = Instant::from_millis(1000);
        Self {
            machine: Machine::new(config, now),
            round: 0,
            now,
            moves: Vec::new(),
            raised: Vec::new(),
            announced: 0,
            asked: 0,
            advertised: Vec::new(),
            answering: 2,
        }
    }

    fn take(&mut self, out: Out) {
        self.moves.extend(out.role);
        self.announced += usize::from(out.announce);
        self.asked += usize::from(out.ask);
        self.advertised.extend(out.advertise.map(|said| said.priority));
        self.raised.extend(out.alarms.into_iter().filter_map(|change| match change {
            AlarmChange::Raised(alarm, _) => Some(alarm.kind),
            AlarmChange::Cleared(_) => None,
        }));
        if out.ask {
            for leg in [LegId(0), LegId(1)].into_iter().take(self.answering) {
                let heard = self.machine.handle_station(leg, self.now);
                self.take(heard);
            }
        }
    }

    /// Lets time pass, with every timer on time.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.machine.poll_timeout() <= end {
            self.now = self.machine.poll_timeout().max(self.now);
            let out = self.machine.handle_timeout(self.now);
            self.take(out);
        }
        self.now = end;
    }

    /// Node `from` says this on every path.
    fn hear(&mut self, from: u8, hello: &Hello) {
        self.hear_on(&[Path::Leg(LegId(0)), Path::Leg(LegId(1)), Path::Sync], from, hello);
    }

    fn hear_on(&mut self, paths: &[Path], from: u8, hello: &Hello) {
        self.round += 1;
        self.hear_copy(paths, from, &Hello { round: self.round, ..hello.clone() });
    }

    /// Hears it as it is, with the number that it has.
    fn hear_copy(&mut self, paths: &[Path], from: u8, hello: &Hello) {
        for path in paths {
            let out = self.machine.handle_hello(*path, NodeId(from), hello.clone(), self.now);
            self.take(out);
        }
    }

    fn health(&mut self, health: Health) {
        let out = self.machine.handle_health(health, self.now);
        self.take(out);
    }

    /// Lets time pass while node `from` says this every interval.
    fn pass_hearing(&mut self, time: Duration, from: u8, hello: &Hello) {
        let end = self.now + time;
        while self.now < end {
            self.hear(from, hello);
            self.pass(ms(30).min(end.since(self.now)));
        }
    }

    fn role(&self) -> Role {
        self.machine.role()
    }

    fn alarms(&self) -> Vec<AlarmKind> {
        self.machine.alarms(self.now).into_iter().map(|(alarm, ..)| alarm.kind).collect()
    }

    fn last_reason(&self) -> &Reason {
        &self.moves.last().expect("it moved").reason
    }
}

/// What node `from` of `nodes` says in this role.
fn says(nodes: u8, from: u8, role: Role) -> Hello {
    let machine = Machine::new(node(nodes, from), Instant::ZERO);
    Hello { role, ..machine.hello(Instant::ZERO) }
}

/// Node 0 of two, active since it heard node 1 standing by.
fn active() -> Bench {
    let mut bench = Bench::new(2, 0);
    bench.hear(1, &says(2, 1, Role::Listen));
    bench.pass(ms(30));
    assert_eq!(bench.role(), Role::Active);
    bench.pass_hearing(ms(300), 1, &standby());
    bench
}

fn standby() -> Hello {
    Hello { term: 1, ..says(2, 1, Role::Standby) }
}

/// Node 1 of two, standby since it heard node 0 active.
fn following() -> Bench {
    let mut bench = Bench::new(2, 1);
    bench.pass_hearing(ms(300), 0, &leader());
    assert_eq!(bench.role(), Role::Standby);
    bench
}

fn leader() -> Hello {
    Hello { term: 1, last_active: 1, ..says(2, 0, Role::Active) }
}
