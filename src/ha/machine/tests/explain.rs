//! `explain ha`: who is active and why, by the rule that decided.

use super::*;
use crate::ha::explained::{ExplainedHaView, Rule};

fn explained(bench: &Bench) -> ExplainedHaView {
    bench.machine.explain(bench.now)
}

/// The rule of this node, and that of the other one with its sentence.
fn rules(bench: &Bench) -> (&'static str, &'static str, String) {
    let view = explained(bench);
    let other = view.nodes[1].clone();
    let name = |rule: &crate::named_enum::EnumOrUnknown<Rule>| rule.known().map_or("?", Rule::name);
    (name(&view.rule), name(&other.rule), other.why)
}

fn has(bench: &Bench, sentence: &str) {
    let story = explained(bench).story;
    assert!(story.iter().any(|said| said.contains(sentence)), "{sentence}\n{}", story.join("\n"));
}

#[test]
fn who_is_active_since_when_and_why_and_what_if_it_died_is_told() {
    let mut bench = active();
    let firewalls = GroupHealth { name: "perimeter".to_owned(), down: 1, weight: 8, is_below_min: false };
    bench.health(Health { groups: vec![firewalls], ..Health::default() });
    bench.pass_hearing(ms(3000), 1, &standby());
    assert_eq!(
        explained(&bench).story,
        [
            "outer-a, this node, is active, in term 1.",
            "It has been active for 3 s: no node is active, and this one has the best claim.",
            "4 points are taken from its priority 200 for group perimeter: 1 of 8 by weight: firewalls are down.",
            "outer-a may be active.",
            "outer-b is ready, and stays standby with 0 points of deductions against 4 of outer-a: it gets the role once it has \
             10 fewer (`margin`).",
            "If outer-a died now, outer-b would take over about 97 ms after the last hello, if a neighbour answers it, with \
             copies of the sessions that need them.",
        ]
    );
    let view = explained(&bench);
    assert_eq!((view.active.as_deref(), view.next.as_deref()), (Some("outer-a"), Some("outer-b")));
    assert_eq!(view.moved.map(|moved| moved.to), Some(Role::Active.into()));
    assert!(view.nodes[1].could_take_over && !view.nodes[0].could_take_over);
}

#[test]
fn what_keeps_the_other_node_from_the_role_is_named_by_its_rule() {
    let lost = || {
        let group = GroupHealth { name: "perimeter".to_owned(), down: 8, weight: 8, is_below_min: false };
        Health { groups: vec![group], ..Health::default() }
    };
    for (hello, rule, sentence) in [
        (standby(), "score", "once it has 10 fewer"),
        (Hello { is_ready: false, ..standby() }, "copies", "outer-b lacks copies of sessions"),
        (
            Hello { role: Role::Fault, is_eligible: false, is_in_maintenance: true, ..standby() },
            "maintenance",
            "in maintenance",
        ),
        (Hello { role: Role::Fault, is_eligible: false, ..standby() }, "fault", "outer-b is at fault"),
        (Hello { role: Role::Listen, ..standby() }, "listen", "outer-b listens"),
        (Hello { base: 210, ..standby() }, "priority", "210 against 200, which decides at a start only"),
        (Hello { role: Role::Active, ..standby() }, "claim", "outer-a stays, as the fewer deductions win"),
    ] {
        let mut bench = active();
        bench.hear(1, &hello);
        let (_, found, why) = rules(&bench);
        assert!(found == rule && why.contains(sentence), "{found}: {why}");
        has(&bench, sentence);
    }
    let mut bench = active();
    bench.pass(ms(3000));
    assert_eq!(rules(&bench).1, "unheard");
    has(&bench, "outer-b is heard on no path, since 3 s.");
    has(&bench, "nobody could take over, and the traffic would stop");

    let mut bench = active();
    bench.health(lost());
    bench.hear(1, &standby());
    has(&bench, "gets the role when it has been so for 250 ms");
    bench.pass_hearing(ms(700), 1, &standby());
    assert_eq!((bench.role(), rules(&bench).1), (Role::Active, "untaken"));
    has(&bench, "did not take it");
    assert_eq!(rules(&bench).0, "start", "it has the role for the reason that it had before");
    bench.hear(1, &Hello { start: 7, ..standby() });
    assert_eq!(rules(&bench).1, "hold");
    has(&bench, "which keeps it for 9 s more");
}

#[test]
fn a_node_that_is_not_active_says_how_it_came_to_that() {
    let bench = following();
    assert_eq!(rules(&bench).0, "active");
    has(&bench, "outer-a is active, in term 1; this node, outer-b, is standby.");
    has(&bench, "outer-b is ready, and stays standby with 0 points of deductions against 0 of outer-a");
    has(&bench, "If outer-a died now, outer-b would take over about 97 ms");

    let mut bench = active();
    let by = OrderedBy { operator: Some("anna".to_owned()), reason: Some("new card".to_owned()) };
    let out = bench.machine.handle_order(Order::Maint { by }, bench.now).expect("accepted");
    bench.take(out);
    bench.pass_hearing(ms(120), 1, &Hello { term: 2, last_active: 2, ..says(2, 1, Role::Active) });
    assert_eq!((bench.role(), rules(&bench).0), (Role::Fault, "maintenance"));
    has(&bench, "outer-b took the role.");
    has(&bench, "It gave the role away because of this: it is in maintenance: \"new card\".");
    has(&bench, "outer-a takes no role, as it is in maintenance.");
    has(&bench, "If outer-b died now, nobody could take over");

    let mut bench = following();
    bench.pass(ms(200));
    assert_eq!(rules(&bench).0, "silence");
    has(&bench, "outer-a was silent for");
}
