//! What rotation promises: turns are exact, smooth, equal to the rule applied to every server, and fair to servers that
//! stay.

use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::slb::SchedulerState;

/// Servers of these weights; 0 stands for a server that is not there.
struct Servers(Vec<Arc<ServerState>>);

impl Servers {
    fn new(count: usize) -> Self {
        let state = SchedulerState::new(0);
        Self((0..count).map(|number| state.server("web", &format!("s{number}"))).collect())
    }

    fn lineup(&self, weights: &[u16]) -> Arc<RotationMembers> {
        let members = weights.iter().zip(&self.0).enumerate().filter(|(_, (weight, _))| **weight > 0);
        let member = |(place, (&weight, state)): (usize, (&u16, &Arc<ServerState>))| RotationMember {
            position: place,
            weight,
            state: Arc::downgrade(state),
        };
        Arc::new(RotationMembers(members.map(member).collect()))
    }
}

fn turns(weights: &[u16], count: usize) -> Vec<usize> {
    let servers = Servers::new(weights.len());
    let lineup = servers.lineup(weights);
    let mut turns = Rotation::default();
    (0..count).map(|_| turns.take(&lineup).expect("somebody takes part")).collect()
}

/// The rule applied to every server, with lags counted in turns times the sum of weights.
fn by_looking_at_all(weights: &[u16], count: usize) -> Vec<usize> {
    let weights: Vec<i64> = weights.iter().map(|&weight| weight.into()).collect();
    let sum: i64 = weights.iter().sum();
    let mut lags = vec![0_i64; weights.len()];
    let mut turn = || {
        let started = (0..weights.len()).filter(|&server| weights[server] > 0 && lags[server] >= 0);
        let next = started.min_by(|&a, &b| ((sum - lags[a]) * weights[b]).cmp(&((sum - lags[b]) * weights[a])));
        let next = next.expect("all lags together are nothing");
        lags.iter_mut().zip(&weights).for_each(|(lag, weight)| *lag += weight);
        lags[next] -= sum;
        next
    };
    (0..count).map(|_| turn()).collect()
}

#[test]
fn equal_servers_go_round_and_heavy_ones_are_spread() {
    assert_eq!(turns(&[1, 1, 1], 6), [0, 1, 2, 0, 1, 2]);
    assert_eq!(turns(&[5, 1, 1], 7), [0, 1, 0, 0, 2, 0, 0]);
    let alternating: Vec<_> = turns(&[100].into_iter().chain([1; 100]).collect::<Vec<_>>(), 200);
    assert!(alternating.iter().step_by(2).all(|&server| server == 0), "half of all turns are every other turn");
}

#[test]
fn nobody_takes_part_in_an_empty_lineup() {
    let servers = Servers::new(2);
    let mut turns = Rotation::default();
    assert_eq!((turns.take(&servers.lineup(&[0, 0])), turns.take(&servers.lineup(&[0, 1]))), (None, Some(1)));
    assert_eq!(turns.take(&servers.lineup(&[0, 0])), None);
}

#[test]
fn foreseeing_changes_nothing_also_for_another_lineup() {
    let servers = Servers::new(3);
    let (all, two) = (servers.lineup(&[3, 2, 1]), servers.lineup(&[3, 0, 1]));
    let mut asked = Rotation::default();
    let mut given = Vec::new();
    for _ in 0..12 {
        asked.peek(&two);
        let foreseen = asked.peek(&all);
        given.push(asked.take(&all).expect("all take part"));
        assert_eq!(foreseen, given.last().copied());
    }
    assert_eq!(given, turns(&[3, 2, 1], 12));
}

#[test]
fn who_has_just_had_a_turn_does_not_get_the_next_because_another_left() {
    let servers = Servers::new(4);
    let mut turns = Rotation::default();
    let all = servers.lineup(&[1, 1, 1, 1]);
    assert_eq!([turns.take(&all), turns.take(&all)], [Some(0), Some(1)]);

    let three = servers.lineup(&[1, 1, 0, 1]);

    assert_eq!([turns.take(&three), turns.take(&three), turns.take(&three)], [Some(3), Some(0), Some(1)]);
}

#[test]
fn a_light_server_gets_its_turns_although_others_come_and_go_all_the_time() {
    let servers = Servers::new(3);
    let lineups = [servers.lineup(&[50, 50, 1]), servers.lineup(&[50, 0, 1])];
    let mut sequence = Rotation::default();
    let mut light = 0;
    for turn in 0..4_000 {
        light += usize::from(sequence.take(&lineups[turn / 10 % 2]) == Some(2));
    }
    // Half of the time it has 1 of 101 turns, and half of the time 1 of 51: that is 59 turns.
    assert!((50..=68).contains(&light), "{light}");
}

#[test]
fn a_lineup_prefers_primaries_and_takes_backups_only_when_all_others_are_down() {
    let state = SchedulerState::new(0);
    let server = |number: usize, backup| Server {
        id: number.into(),
        name: format!("s{number}"),
        v4: Some([10, 0, 0, 1].into()),
        v6: None,
        port: None,
        weight: 1,
        backup,
        up: [true; 2],
        is_starting: [false; 2],
        accepts_new_sessions: true,
        out_of_service: None,
        failure_counts: [0; 2],
        is_removed: false,
        state: state.server("web", &format!("s{number}")),
    };
    let mut servers = vec![server(0, false), server(1, false), server(2, true)];
    let places = |servers: &[Server], family| {
        let lineups = RotationMembersByFamily::default();
        let places = lineups.of(servers, family).0.0.iter().map(|member| member.position).collect::<Vec<_>>();
        (places, lineups.of(servers, family).1)
    };
    assert_eq!(places(&servers, Family::V6), (vec![0, 1], 0));
    servers[0].up = [false, true];
    assert_eq!(places(&servers, Family::V4), (vec![1], 0));
    assert_eq!(places(&servers, Family::V6), (vec![0, 1], 1), "the families stand apart");
    servers[1].accepts_new_sessions = false;
    assert_eq!(places(&servers, Family::V4).0, Vec::<usize>::new(), "a draining server is not down");
    servers[1].up = [false; 2];
    assert_eq!(places(&servers, Family::V4).0, [2]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn turns_are_those_of_the_rule_and_every_share_is_exact_to_less_than_a_turn(
        weights in vec(prop_oneof![Just(0_u16), 1..=3_u16, 1..=256_u16], 1..20),
    ) {
        let sum: usize = weights.iter().map(|&weight| usize::from(weight)).sum();
        prop_assume!(sum > 0);

        let turns = turns(&weights, 2 * sum);

        prop_assert_eq!(&turns, &by_looking_at_all(&weights, 2 * sum));
        let mut had = vec![0_i64; weights.len()];
        for (given, &server) in (1..).zip(&turns) {
            had[server] += 1;
            for (had, &weight) in had.iter().zip(&weights) {
                let lag = given * i64::from(weight) - had * sum as i64;
                prop_assert!(lag.abs() < sum as i64, "after {} turns {} of {}", given, had, weight);
            }
        }
    }

    #[test]
    fn those_that_stay_keep_their_shares_over_any_changes(
        steps in vec((vec(0..=4_u16, 5), 0..30_usize), 1..20),
    ) {
        let servers = Servers::new(5);
        let mut sequence = Rotation::default();
        for (weights, count) in steps {
            let sum: f64 = weights.iter().copied().map(f64::from).sum();
            let lineup = servers.lineup(&weights);
            let mut had = [0.0; 5];
            for given in 1..=count {
                match sequence.take(&lineup) {
                    Some(server) => had[server] += 1.0,
                    None => prop_assert_eq!(sum, 0.0),
                }
                for (had, weight) in had.iter().zip(&weights).filter(|_| sum > 0.0) {
                    let share = given as f64 * f64::from(*weight) / sum;
                    prop_assert!((had - share).abs() < 4.0, "{} of {} after {} with {:?}", had, share, given, weights);
                }
            }
        }
    }
}
