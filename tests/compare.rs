//! Tests the programs of the benchmark against other products: their computations and their output. The measurements
//! themselves need a quiet machine and are no tests.
#![allow(dead_code, missing_docs, reason = "the benchmark's own modules, of which the tests use a part")]

#[path = "../benches/compare/catalogue.rs"]
mod catalogue;
#[path = "../benches/compare/conversation/mod.rs"]
mod conversation;
#[path = "compare/http.rs"]
mod http;
#[path = "../benches/compare/plot.rs"]
mod plot;
#[path = "../benches/compare/report.rs"]
mod report;
#[path = "../benches/compare/search.rs"]
mod search;
#[path = "../benches/compare/stats.rs"]
mod stats;
#[path = "../benches/compare/table.rs"]
mod table;

use std::collections::BTreeSet;

use proptest::prelude::*;

use crate::catalogue::ROWS;
use crate::report::{Line, Report};
use crate::search::{End, Search};
use crate::stats::{Quartiles, percentile, ratios};
use crate::table::{Goal, Outcome, Row, Sense, Share, Unit, Verdict};

fn at(value: f64) -> Outcome {
    Outcome::measured(Quartiles::exactly(value), Vec::new())
}

fn row(id: &str) -> Row {
    *ROWS.iter().find(|row| row.id == id).expect("a row of the table")
}

#[test]
fn quartiles_are_those_of_r_and_numpy() {
    let quartiles = Quartiles::of([7.0, 15.0, 36.0, 39.0, 40.0, 41.0]).unwrap();

    // numpy.percentile([7, 15, 36, 39, 40, 41], [25, 50, 75])
    assert_eq!((quartiles.q1, quartiles.median, quartiles.q3), (20.25, 37.5, 39.75));
    assert_eq!(quartiles.rounds, 6);
    assert_eq!(Quartiles::of([]), None);
    assert_eq!(Quartiles::of([f64::NAN, 3.0]), Some(Quartiles::exactly(3.0)));
}

#[test]
fn a_ratio_is_always_of_one_round() {
    // In the second round the machine is half as fast. This holds for both parties, so that the ratio stays.
    let value = ratios(&[400.0, 200.0, 400.0], &[200.0, 100.0, 200.0]).unwrap();

    assert_eq!((value.q1, value.median, value.q3), (2.0, 2.0, 2.0));
    assert_eq!(ratios(&[1.0, 6.0], &[0.0, 3.0]), Some(Quartiles::exactly(2.0)), "a peer that did nothing says nothing");
    assert_eq!(ratios(&[1.0], &[0.0]), None);
}

#[test]
fn percentiles_are_values_that_were_measured() {
    let sorted: Vec<f64> = (1..=100).map(f64::from).collect();

    assert_eq!(percentile(&sorted, 50.0), Some(50.0));
    assert_eq!(percentile(&sorted, 99.0), Some(99.0));
    assert_eq!(percentile(&sorted[..1], 99.0), Some(1.0));
    assert_eq!(percentile(&[], 50.0), None);
}

/// Searches the highest rate of a device that loses nothing up to `ceiling`; returns how the search ended, and the
/// number of trials.
fn search(ceiling: f64, loses: impl Fn(f64, bool) -> bool) -> (End, usize) {
    follow(Search::below(ceiling), loses)
}

fn follow(mut search: Search, loses: impl Fn(f64, bool) -> bool) -> (End, usize) {
    for trials in 0..100 {
        match search.next() {
            Ok(trial) => search.observe(loses(trial.rate, trial.full)),
            Err(end) => return (end, trials),
        }
    }
    panic!("the search does not end");
}

proptest! {
    #[test]
    fn the_search_finds_the_rate_from_below(capacity in 0.02..1.0f64) {
        let (end, trials) = search(1e6, |rate, _| rate > capacity * 1e6);

        let End::Found(found) = end else { panic!("{end:?}") };
        prop_assert!(found <= capacity * 1e6, "a rate without loss");
        prop_assert!(found > capacity * 1e6 * 0.9, "{found} of {capacity}");
        prop_assert!(trials < 16, "{trials} trials");
    }

    #[test]
    fn a_later_search_finds_the_rate_near_an_earlier_one_in_fewer_trials(earlier in 0.8..1.25f64) {
        let (end, trials) = follow(Search::around(earlier * 500e3), |rate, _| rate > 500e3);

        let End::Found(found) = end else { panic!("{end:?}") };
        prop_assert!(found <= 500e3 && found > 450e3, "{found}");
        prop_assert!(trials <= 6, "{trials} trials");
    }

    #[test]
    fn the_search_ends_whatever_comes(answers in prop::collection::vec(any::<bool>(), 100)) {
        let count = std::cell::Cell::new(0);
        let (_, trials) = search(1e6, |_, _| {
            count.set(count.get() + 1);
            answers[count.get() - 1]
        });

        prop_assert!(trials < 40);
    }

    #[test]
    fn quartiles_lie_in_order_among_the_values(values in prop::collection::vec(-1e9..1e9f64, 1..50)) {
        let quartiles = Quartiles::of(values.iter().copied()).expect("at least one value");

        prop_assert!(quartiles.q1 <= quartiles.median && quartiles.median <= quartiles.q3);
        let (least, most) = values.iter().fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(*value), high.max(*value)));
        prop_assert!(least <= quartiles.q1 && quartiles.q3 <= most);
    }
}

#[test]
fn a_rate_that_only_short_trials_carry_is_not_loss_free() {
    let (end, _) = search(1e6, |rate, full| rate > if full { 400e3 } else { 500e3 });

    let End::Found(found) = end else { panic!("{end:?}") };
    assert!((360e3..=400e3).contains(&found), "{found}");
}

#[test]
fn a_device_that_always_loses_has_no_loss_free_rate() {
    let (end, _) = search(1e6, |_, _| true);

    assert!(matches!(end, End::Lossy(rate) if rate > 0.0), "{end:?}");
}

#[test]
fn every_row_of_the_table_has_a_name_of_its_own_and_a_goal_that_can_be_met() {
    let names: BTreeSet<_> = ROWS.iter().map(|row| row.id).collect();

    assert_eq!(names.len(), ROWS.len());
    assert!(ROWS.iter().any(|row| row.quick) && ROWS.iter().any(|row| !row.quick));
    for row in ROWS {
        let met = if row.goal.sense == Sense::Shown { Verdict::Shown } else { Verdict::Met };
        assert_eq!(at(row.goal.goal).verdict(&row.goal), met, "{}", row.id);
        let best = row.goal.stretch.map(|stretch| at(stretch).verdict(&row.goal));
        assert!(best.is_none_or(|verdict| verdict == Verdict::Stretch), "{}", row.id);
    }
}

#[test]
fn a_result_that_falls_short_is_told_as_such() {
    let more = Goal::ratio(1.0, Some(1.2));
    let less = Goal::at_most(20.0, Unit::Microseconds);

    assert_eq!(at(0.99).verdict(&more), Verdict::Missed);
    assert_eq!(at(1.19).verdict(&more), Verdict::Met);
    assert_eq!(at(1.2).verdict(&more), Verdict::Stretch);
    assert_eq!(at(20.1).verdict(&less), Verdict::Missed);
    assert_eq!(at(-3.0).verdict(&less), Verdict::Met, "faster than the peer");
    assert_eq!(Outcome::Skipped("no testpmd".to_owned()).verdict(&more), Verdict::Skipped);
}

fn report() -> Report {
    let shares = vec![Share::new("fwlb", 455.2, "kpps"), Share::new("testpmd", 402.0, "kpps")];
    let value = Quartiles { q1: 1.05, median: 1.132, q3: 1.21, rounds: 13 };
    let met = Outcome::measured(value, shares).note("the generator was the bottleneck of fwlb");
    let missed = Outcome::measured(Quartiles { q1: 31.0, median: 40.0, q3: 44.0, rounds: 15 }, Vec::new());
    Report {
        conditions: vec![("kernel".to_owned(), "6.18 <test> & more".to_owned())],
        warnings: vec!["core 1 is 40 % busy".to_owned()],
        rows: vec![
            Line::new(row("forward-split-10k-testpmd"), met),
            Line::new(row("round-trip-poll"), missed),
            Line::new(row("xdp-split"), Outcome::Skipped("not available".to_owned())),
        ],
    }
}

#[test]
fn the_text_names_placement_goal_ratio_quartiles_and_verdict() {
    let text = report().text();

    let line = text.lines().find(|line| line.contains("testpmd net_af_packet")).unwrap();
    for part in ["split", "1.13", "[1.05 1.21]", ">= 1.00 (1.20)", "met", "fwlb 455 kpps, testpmd 402 kpps"] {
        assert!(line.contains(part), "{part} in {line}");
    }
    for part in [
        "kernel  6.18",
        "warning: core 1 is 40 % busy",
        "bottleneck of fwlb",
        "40.0 us",
        "<= 20.0 us",
        "MISSED",
        "skipped: not available",
        "1 met, 1 missed, 1 skipped",
    ] {
        assert!(text.contains(part), "{part} in:\n{text}");
    }
}

#[test]
fn the_json_has_the_same_and_more() {
    let json: serde_json::Value = serde_json::from_str(&report().json().unwrap()).unwrap();

    let rows = json["rows"].as_array().unwrap();
    assert_eq!(rows[0]["id"], "forward-split-10k-testpmd");
    assert_eq!(rows[0]["placement"], "split");
    assert_eq!(rows[0]["goal"]["goal"], 1.0);
    assert_eq!(rows[0]["outcome"]["measured"]["value"]["q3"], 1.21);
    assert_eq!(rows[0]["outcome"]["measured"]["shares"][1]["who"], "testpmd");
    assert_eq!(
        rows.iter().map(|row| row["verdict"].as_str().unwrap()).collect::<Vec<_>>(),
        ["met", "missed", "skipped"]
    );
    assert_eq!(rows[2]["outcome"]["skipped"], "not available");
}

#[test]
fn the_picture_shows_every_row_inside_its_frame() {
    let report = report();
    let picture = plot::svg(&report, "a <test> & more");

    assert!(picture.starts_with("<svg ") && picture.ends_with("</svg>\n"));
    assert!(picture.contains("a &lt;test&gt; &amp; more"), "text cannot break it");
    assert_eq!(picture.matches("<circle ").count(), 2, "a dot for each measured row");
    assert!(picture.contains("not measured"));
    let places =
        picture.split("<circle cx=\"").skip(1).map(|rest| rest.split('"').next().unwrap().parse::<f64>().unwrap());
    let places: Vec<f64> = places.collect();
    assert!(places[0] > places[1], "what met its goal lies to the right of what missed it: {places:?}");
    assert!(places.iter().all(|place| (0.0..1080.0).contains(place)));
}

#[test]
fn the_picture_holds_values_that_lie_off_its_axis() {
    let mut report = report();
    report.rows = [0.0, -1.0, 1e12]
        .map(|value| Line::new(row("round-trip-busy"), at(value)))
        .into_iter()
        .chain([Line::new(row("allocations"), at(0.0))])
        .collect();

    let picture = plot::svg(&report, "");

    assert!(!picture.contains("NaN") && !picture.contains("inf"), "{picture}");
}
