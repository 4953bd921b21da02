mod links;
mod lost;
mod model;

use super::*;

const INNER: PeerId = PeerId(0);
const DMZ: PeerId = PeerId(1);
const V4: PathSetId = PathSetId(0);
const GRACE: Duration = Duration::from_millis(800);
const RECALL: Duration = Duration::from_millis(150);

fn at(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

fn key(firewall: u16, peer: PeerId, family: Family) -> PathKey {
    PathKey { firewall: FirewallId(firewall), peer, family }
}

fn config(firewalls: u16, min_up: u16) -> LivenessConfig {
    let group = LivenessGroup {
        members: (0..firewalls).map(|number| (FirewallId(number), AdminState::Ready)).collect(),
        min_up,
        drain_timeout: Some(Duration::from_secs(5)),
        timing: PathTiming { grace: GRACE, recheck: RECALL },
    };
    LivenessConfig {
        groups: vec![group],
        paths: (0..firewalls).map(|number| key(number, INNER, Family::V4)).collect(),
        sets: vec![SetKey { group: GroupId(0), peer: Some(INNER), family: Family::V4 }],
    }
}

const UP: PathHealth = PathHealth { verdict: PathState::Up, accepts_new_flows: true, failing: false };
const HELD: PathHealth = PathHealth { verdict: PathState::Up, accepts_new_flows: false, failing: false };
const FAILING: PathHealth = PathHealth { verdict: PathState::Up, accepts_new_flows: true, failing: true };
const DOWN: PathHealth = PathHealth { verdict: PathState::Down, accepts_new_flows: false, failing: true };

/// The liveness of IPv4 paths to one peer, with a clock.
struct Lab {
    liveness: Liveness,
    now: u64,
}

impl Lab {
    fn new(config: LivenessConfig) -> Self {
        Self { liveness: Liveness::new(config, at(0)), now: 0 }
    }

    /// Makes all paths up and past their hold.
    fn up(firewalls: u16) -> Self {
        let mut lab = Self::new(config(firewalls, 1));
        lab.paths(&vec![UP; usize::from(firewalls)]);
        lab
    }

    /// Reports these probe results for the firewalls' paths, and evaluates 50 ms later.
    fn paths(&mut self, health: &[PathHealth]) -> Vec<LivenessChange> {
        for (number, health) in health.iter().enumerate() {
            self.liveness.handle_path_health(key(number as u16, INNER, Family::V4), *health);
        }
        self.wait(50)
    }

    fn wait(&mut self, millis: u64) -> Vec<LivenessChange> {
        self.now += millis;
        self.liveness.evaluate(at(self.now))
    }

    fn silent(&mut self, firewall: u16) {
        self.liveness.handle_neighbor_state(FirewallId(firewall), Family::V4, false);
    }

    fn told(&mut self, told: &[(u16, PathState, AdminState)]) -> Vec<LivenessChange> {
        let told: Vec<_> = told
            .iter()
            .map(|&(firewall, verdict, admin)| FirewallAdvertisement { firewall: FirewallId(firewall), verdict, admin })
            .collect();
        self.liveness.handle_advertisement(INNER, Family::V4, &told, at(self.now));
        self.wait(0)
    }

    /// The slots that are up, those that take new flows, and the failure counts.
    fn set(&self) -> (Slots, Slots, Vec<u32>) {
        let set = &self.liveness.sets()[V4.index()];
        (set.up, set.selectable, set.failure_counts.clone())
    }

    fn firewall(&self, firewall: u16) -> (FirewallState, StateReason) {
        let status = self.liveness.firewall(FirewallId(firewall)).expect("configured");
        (status.state, status.reason)
    }

    fn peer(&self) -> PeerState {
        self.liveness.peer(INNER).expect("configured").state
    }
}

#[test]
fn a_member_takes_no_flows_before_its_first_verdict_and_its_verdict_is_no_fall() {
    let mut lab = Lab::new(config(2, 1));
    assert_eq!(lab.set(), (0, 0, vec![0, 0]));
    assert_eq!(lab.liveness.sets()[0].starting, 0b11);
    assert_eq!(lab.firewall(0), (FirewallState::Down, StateReason::Starting));

    let changes = lab.paths(&[UP, DOWN]);

    assert_eq!(lab.set(), (0b01, 0b01, vec![0, 0]), "starting to down is no fall");
    assert_eq!(lab.liveness.sets()[0].starting, 0);
    assert_eq!(lab.firewall(1), (FirewallState::Down, StateReason::Probes(INNER, Family::V4)));
    assert!(changes.contains(&LivenessChange::Set(V4)));
    assert!(changes.contains(&LivenessChange::Peer { peer: INNER, from: PeerState::Down, to: PeerState::Up }));
    assert_eq!(lab.wait(50), [], "nothing changes while nothing happens");
}

#[test]
fn the_first_path_that_rises_waits_for_the_others_of_the_start() {
    let starting = PathHealth::default();
    let mut lab = Lab::new(config(3, 1));

    lab.paths(&[UP, starting, DOWN]);
    assert_eq!(lab.set(), (0, 0, vec![0; 3]), "a flow of the second would take the first");
    assert_eq!(lab.liveness.sets()[0].starting, 0b011);
    assert_eq!(lab.liveness.poll_timeout(), Some(at(lab.now) + GRACE));
    lab.paths(&[UP, UP, DOWN]);
    assert_eq!(lab.set(), (0b011, 0b011, vec![0; 3]), "both at once");

    let mut lab = Lab::new(config(3, 1));
    lab.paths(&[UP, starting, DOWN]);
    lab.wait(GRACE.as_millis() as u64);
    assert_eq!(lab.set(), (0b001, 0b001, vec![0; 3]), "a path without verdict is not waited for without end");
    assert_eq!(lab.liveness.sets()[0].starting, 0b010);
}

#[test]
fn a_firewall_that_dies_falls_while_the_others_answer() {
    let mut lab = Lab::up(2);
    let changes = lab.paths(&[DOWN, UP]);
    assert_eq!(lab.set(), (0b10, 0b10, vec![1, 0]));
    let reason = StateReason::Probes(INNER, Family::V4);
    let fell =
        LivenessChange::Firewall { firewall: FirewallId(0), from: FirewallState::Up, to: FirewallState::Down, reason };
    assert!(changes.contains(&fell));

    lab.paths(&[HELD, UP]);
    assert_eq!(lab.set(), (0b11, 0b10, vec![1, 0]), "up, but not past its hold");
    lab.paths(&[UP, UP]);
    assert_eq!(lab.set(), (0b11, 0b11, vec![1, 0]));
}

#[test]
fn a_draining_member_takes_no_flow_while_the_only_other_is_in_its_hold() {
    let mut lab = Lab::up(2);
    lab.paths(&[UP, DOWN]);
    lab.paths(&[UP, HELD]);
    assert_eq!(lab.set(), (0b11, 0b01, vec![0, 1]));

    lab.liveness.set_admin(FirewallId(0), AdminState::Drain);
    lab.wait(0);

    assert_eq!(lab.set(), (0b11, 0b10, vec![0, 1]));
}

#[test]
fn when_all_paths_fail_together_the_peer_is_lost_and_nothing_falls() {
    let mut lab = Lab::up(3);
    lab.paths(&[FAILING, FAILING, FAILING]);
    lab.paths(&[DOWN, FAILING, FAILING]);
    assert_eq!(lab.set(), (0b111, 0b111, vec![0; 3]), "the verdict waits: the others miss probes too");
    let changes = lab.paths(&[DOWN, DOWN, DOWN]);
    assert_eq!(lab.set(), (0b111, 0b111, vec![0; 3]));
    assert_eq!(changes, [LivenessChange::Peer { peer: INNER, from: PeerState::Up, to: PeerState::Lost }]);
    lab.wait(3_600_000);
    assert_eq!(lab.set(), (0b111, 0b111, vec![0; 3]), "for as long as it lasts");

    // The first path has returned; the others follow within the grace time.
    lab.paths(&[HELD, DOWN, DOWN]);
    assert_eq!(lab.set(), (0b111, 0b111, vec![0; 3]));
    assert_eq!(lab.peer(), PeerState::Lost);
    lab.wait(GRACE.as_millis() as u64 - 100);
    lab.paths(&[HELD, HELD, HELD]);
    assert_eq!(lab.set(), (0b111, 0b111, vec![0; 3]), "no hold for what never fell");
    assert_eq!(lab.peer(), PeerState::Up);
}

#[test]
fn a_firewall_that_died_while_the_peer_was_lost_falls_after_the_grace() {
    let mut lab = Lab::up(2);
    lab.paths(&[DOWN, DOWN]);
    assert_eq!(lab.peer(), PeerState::Lost);
    lab.paths(&[UP, DOWN]);
    assert_eq!(lab.liveness.poll_timeout(), Some(at(lab.now) + GRACE));
    lab.wait(GRACE.as_millis() as u64 - 1);
    assert_eq!(lab.set().0, 0b11);
    lab.wait(1);
    assert_eq!((lab.set(), lab.peer()), ((0b01, 0b01, vec![0, 1]), PeerState::Up));
}

#[test]
fn a_peer_that_is_lost_again_within_the_grace_stays_lost() {
    let mut lab = Lab::up(2);
    lab.paths(&[DOWN, DOWN]);
    lab.paths(&[UP, DOWN]);
    lab.paths(&[DOWN, DOWN]);
    lab.wait(10_000);
    assert_eq!((lab.set(), lab.peer()), ((0b11, 0b11, vec![0, 0]), PeerState::Lost));
}

#[test]
fn firewalls_that_answer_nobody_are_down() {
    let mut lab = Lab::up(2);
    lab.silent(0);
    lab.silent(1);
    let changes = lab.paths(&[DOWN, DOWN]);
    assert_eq!((lab.set(), lab.peer()), ((0, 0, vec![1, 1]), PeerState::Down));
    assert!(changes.contains(&LivenessChange::BelowMin { set: V4, below: true }));

    let mut lab = Lab::up(2);
    lab.paths(&[DOWN, DOWN]);
    assert_eq!(lab.peer(), PeerState::Lost, "silence is not known yet");
    lab.silent(0);
    lab.wait(50);
    assert_eq!((lab.set(), lab.peer()), ((0b10, 0b10, vec![1, 0]), PeerState::Lost));
    lab.silent(1);
    lab.wait(50);
    assert_eq!((lab.set(), lab.peer()), ((0, 0, vec![1, 1]), PeerState::Down));
}

#[test]
fn a_verdict_waits_only_until_another_path_answers() {
    let mut lab = Lab::up(2);
    lab.paths(&[DOWN, FAILING]);
    assert_eq!(lab.set().0, 0b11);
    lab.paths(&[DOWN, UP]);
    assert_eq!(lab.set().0, 0b11, "it is asked once more");
    lab.wait(RECALL.as_millis() as u64);
    assert_eq!(lab.set(), (0b10, 0b10, vec![1, 0]));
}

#[test]
fn a_path_that_answers_again_after_all_were_missing_probes_has_not_fallen() {
    let answering = PathHealth { failing: false, ..DOWN };
    let mut lab = Lab::up(3);
    lab.paths(&[FAILING, FAILING, FAILING]);
    lab.paths(&[UP, FAILING, FAILING]);
    lab.paths(&[UP, DOWN, DOWN]);
    lab.paths(&[UP, DOWN, answering]);
    lab.wait(RECALL.as_millis() as u64);
    assert_eq!((lab.set(), lab.peer()), ((0b101, 0b101, vec![0, 1, 0]), PeerState::Up), "its verdict is put off");
    lab.wait(GRACE.as_millis() as u64 - 1);
    assert_eq!(lab.set().0, 0b101);
    lab.paths(&[UP, DOWN, UP]);
    lab.wait(GRACE.as_millis() as u64);
    assert_eq!((lab.set(), lab.peer()), ((0b101, 0b101, vec![0, 1, 0]), PeerState::Up));
}

#[test]
fn a_verdict_about_one_path_holds_at_once_when_no_other_missed_probes() {
    let mut lab = Lab::up(2);
    lab.paths(&[FAILING, UP]);
    lab.paths(&[DOWN, UP]);
    assert_eq!(lab.set(), (0b10, 0b10, vec![1, 0]));
}

#[test]
fn a_silent_firewall_does_not_wait_for_the_others() {
    let mut lab = Lab::up(2);
    lab.silent(0);
    lab.paths(&[DOWN, FAILING]);
    assert_eq!(lab.set(), (0b10, 0b10, vec![1, 0]));
}

#[test]
fn what_the_peer_objects_to_is_down_until_its_word_expires() {
    let mut lab = Lab::up(2);
    let said = [(0, PathState::Down, AdminState::Ready), (1, PathState::Up, AdminState::Ready)];
    lab.told(&said);
    assert_eq!(lab.set(), (0b10, 0b10, vec![1, 0]));
    assert_eq!(lab.firewall(0), (FirewallState::Down, StateReason::Objection(INNER, Family::V4)));
    assert_eq!(lab.liveness.poll_timeout(), Some(at(lab.now) + ADVERTISEMENT_LIFETIME));
    lab.wait(900);
    lab.told(&said);
    lab.wait(999);
    assert_eq!(lab.set().0, 0b10, "renewed");
    lab.wait(1);
    assert_eq!(lab.set(), (0b11, 0b11, vec![1, 0]));
}

#[test]
fn a_peer_that_is_starting_does_not_object() {
    let mut lab = Lab::up(2);
    lab.told(&[(0, PathState::Starting, AdminState::Ready), (1, PathState::Starting, AdminState::Ready)]);
    assert_eq!(lab.set(), (0b11, 0b11, vec![0, 0]));
}

#[test]
fn the_word_of_a_lost_peer_does_not_expire() {
    let mut lab = Lab::up(2);
    lab.told(&[(0, PathState::Up, AdminState::Drain), (1, PathState::Up, AdminState::Ready)]);
    lab.paths(&[DOWN, DOWN]);
    lab.wait(3_000);
    assert_eq!((lab.set(), lab.peer()), ((0b11, 0b10, vec![0, 0]), PeerState::Lost), "new flows go as before");
}

#[test]
fn two_engines_that_start_together_do_not_wait_for_each_other() {
    let mut labs = [Lab::new(config(2, 1)), Lab::new(config(2, 1))];
    for step in 0..20 {
        for side in 0..2 {
            let told: Vec<_> = labs[1 - side].liveness.advertise(INNER, Family::V4).collect();
            assert_eq!(told.len(), 2);
            let now = at(labs[side].now);
            labs[side].liveness.handle_advertisement(INNER, Family::V4, &told, now);
            labs[side].paths(&[if step < 10 { PathHealth::default() } else { UP }; 2]);
        }
    }
    assert_eq!(labs.map(|lab| lab.set()), [(0b11, 0b11, vec![0, 0]), (0b11, 0b11, vec![0, 0])]);
}

#[test]
fn an_engine_advertises_its_own_judgement_and_command_not_the_peers() {
    let mut lab = Lab::up(2);
    lab.told(&[(0, PathState::Down, AdminState::Maint)]);
    lab.liveness.set_admin(FirewallId(1), AdminState::Drain);
    lab.paths(&[UP, FAILING]);
    let told = |lab: &Lab| -> Vec<_> {
        lab.liveness.advertise(INNER, Family::V4).map(|told| (told.firewall.0, told.verdict, told.admin)).collect()
    };
    assert_eq!(told(&lab), [(0, PathState::Up, AdminState::Ready), (1, PathState::Up, AdminState::Drain)]);
    lab.paths(&[DOWN, DOWN]);
    assert_eq!(told(&lab)[0].1, PathState::Up, "the peer is lost, not the firewall");
}

#[test]
fn a_draining_firewall_keeps_its_sessions_until_the_deadline() {
    let mut lab = Lab::up(2);
    lab.liveness.set_admin(FirewallId(0), AdminState::Drain);
    lab.wait(0);
    assert_eq!(
        (lab.set(), lab.firewall(0)),
        ((0b11, 0b10, vec![0, 0]), (FirewallState::Drain, StateReason::Commanded))
    );
    assert_eq!(lab.liveness.poll_timeout(), Some(at(lab.now + 5_000)));
    lab.wait(4_999);
    assert_eq!(lab.set().0, 0b11);
    lab.wait(1);
    assert_eq!(lab.set(), (0b10, 0b10, vec![1, 0]), "a passed deadline is a fall");
    assert_eq!(lab.firewall(0), (FirewallState::Drain, StateReason::Deadline(None)));
    assert_eq!(lab.liveness.poll_timeout(), None);

    lab.liveness.set_admin(FirewallId(0), AdminState::Ready);
    lab.wait(0);
    assert_eq!((lab.set(), lab.firewall(0)), ((0b11, 0b11, vec![1, 0]), (FirewallState::Up, StateReason::Healthy)));
}

#[test]
fn a_drain_at_the_peer_holds_here_too() {
    let mut lab = Lab::up(2);
    lab.told(&[(0, PathState::Up, AdminState::Drain)]);
    assert_eq!((lab.set().1, lab.firewall(0)), (0b10, (FirewallState::Drain, StateReason::CommandedAt(INNER))));
    assert_eq!(lab.liveness.effective_admin(FirewallId(0)), Some(AdminState::Drain));
    for _ in 0..10 {
        lab.wait(500);
        lab.told(&[(0, PathState::Up, AdminState::Drain)]);
    }
    assert_eq!(lab.set(), (0b10, 0b10, vec![1, 0]), "the deadline counts from the first word of it");
}

#[test]
fn maintenance_takes_a_firewall_out_at_once() {
    let mut lab = Lab::up(2);
    lab.liveness.set_admin(FirewallId(0), AdminState::Maint);
    lab.wait(0);
    assert_eq!(
        (lab.set(), lab.firewall(0)),
        ((0b10, 0b10, vec![1, 0]), (FirewallState::Maint, StateReason::Commanded))
    );
}

#[test]
fn a_set_without_a_peer_needs_every_peer_and_families_are_judged_alone() {
    let mut config = config(2, 1);
    let all_paths = [(INNER, Family::V4), (INNER, Family::V6), (DMZ, Family::V4)];
    config.paths = all_paths.iter().flat_map(|&(peer, family)| [key(0, peer, family), key(1, peer, family)]).collect();
    let set = |peer, family| SetKey { group: GroupId(0), peer, family };
    config.sets = vec![
        set(None, Family::V4),
        set(Some(INNER), Family::V4),
        set(Some(DMZ), Family::V4),
        set(None, Family::V6),
        set(Some(DMZ), Family::V6),
    ];
    let mut liveness = Liveness::new(config, at(0));
    let ups = |liveness: &Liveness| liveness.sets().iter().map(|set| set.up).collect::<Vec<_>>();
    for (peer, family) in all_paths {
        for firewall in [0, 1] {
            liveness.handle_path_health(key(firewall, peer, family), UP);
        }
    }
    liveness.evaluate(at(1));
    assert_eq!(ups(&liveness), [0b11, 0b11, 0b11, 0b11, 0], "no IPv6 path leads to the DMZ");

    liveness.handle_path_health(key(0, DMZ, Family::V4), DOWN);
    liveness.evaluate(at(2));
    assert_eq!(ups(&liveness), [0b10, 0b11, 0b10, 0b11, 0]);
    let status = liveness.firewall(FirewallId(0)).expect("configured");
    assert_eq!((status.state, status.reason), (FirewallState::Degraded, StateReason::Probes(DMZ, Family::V4)));
}

#[test]
fn a_set_below_its_minimum_says_so_once() {
    let mut lab = Lab::new(config(3, 2));
    assert!(lab.wait(0).is_empty(), "what is starting is not missing");
    lab.paths(&[UP, UP, UP]);
    lab.paths(&[DOWN, UP, UP]);
    let below = |below| LivenessChange::BelowMin { set: V4, below };
    assert!(lab.paths(&[DOWN, DOWN, UP]).contains(&below(true)));
    assert!(!lab.paths(&[DOWN, DOWN, UP]).contains(&below(true)));
    assert!(lab.paths(&[UP, DOWN, UP]).contains(&below(false)));
}
