//! Orders about firewalls: how both sides report them, which engine gave them, and which groups they would leave
//! without a firewall.

use super::paths::{started, up};
use super::sandwich::{INNER, OUTER, Sandwich, text};
use crate::config::AdminState;
use crate::engine::controller::Order;
use crate::engine::view::{self, EventKind};
use crate::time::Duration;

#[test]
fn why_by_whom_and_when_is_told_on_both_sides_and_who_still_holds_a_firewall() {
    let mut sandwich = started(2);
    let at = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_258_800);
    let order = |reason: &str| Order { reason: Some(reason.into()), by: Some("root (uid 0)".into()), at: Some(at) };
    let now = sandwich.now;
    sandwich.engines[OUTER].set_admin(None, "fw1", Some(AdminState::Drain), &order("upgrade"), now).unwrap();
    sandwich.engines[OUTER].set_admin(None, "fw2", Some(AdminState::Maint), &order("disk"), now).unwrap();
    sandwich.run(Duration::from_millis(300));

    let here = "2026-11-21T11:00:00Z by root (uid 0)";
    let reasons = |engine| [0, 1].map(|firewall| sandwich.firewall(engine, firewall).reason.unwrap());
    assert_eq!(reasons(OUTER), [format!("set {here}: \"upgrade\""), format!("set {here}: \"disk\"")]);
    assert_eq!(reasons(INNER), [format!("set at outer {here}: \"upgrade\""), format!("set at outer {here}: \"disk\"")]);
    let told =
        sandwich.events.iter().filter(|(_, engine, event)| *engine == INNER && event.kind == EventKind::Firewall);
    let told: Vec<_> =
        told.filter_map(|(_, _, event)| event.reason.clone()).filter(|why| why.contains("set at")).collect();
    assert!(
        told.iter().all(|why| why.contains("by root (uid 0)")) && told.len() >= 2,
        "the event has it too: {told:?}"
    );

    // Setting it to ready here does not undo the peer's order, whose author is shown.
    let now = sandwich.now;
    sandwich.engines[INNER].set_admin(None, "fw1", None, &Order::default(), now).unwrap();
    let held = sandwich.engines[INNER].stricter_orders_at_peers(None, "fw1");
    assert_eq!(
        held.iter().map(view::OrderView::describe).collect::<Vec<_>>(),
        [format!("set at outer {here}: \"upgrade\"")]
    );
    assert_eq!(sandwich.firewall(INNER, 0).orders, held);
    assert!(sandwich.engines[OUTER].stricter_orders_at_peers(None, "fw1").is_empty(), "it is held here");

    let now = sandwich.now;
    for name in ["fw1", "fw2"] {
        sandwich.engines[OUTER].set_admin(None, name, None, &Order::default(), now).unwrap();
    }
    sandwich.run(Duration::from_millis(300));
    assert!(sandwich.engines[INNER].stricter_orders_at_peers(None, "fw1").is_empty());
    assert!([0, 1].iter().all(|firewall| sandwich.firewall(INNER, *firewall).orders.is_empty()));
}

#[test]
fn a_state_of_the_other_engines_file_is_told_as_that_and_a_deadline_by_who_set_it() {
    let texts = [OUTER, INNER].map(|engine| {
        let text = text(engine, 2, "a secret of both", "drain-timeout = \"1s\"", "", "5-tuple");
        if engine == OUTER { text + "admin = \"drain\"\n" } else { text }
    });
    let mut sandwich = Sandwich::of(texts, 2);
    sandwich.run(Duration::from_millis(900));
    assert_eq!(sandwich.firewall(OUTER, 1).reason.as_deref(), Some("configured"));
    assert_eq!(sandwich.firewall(INNER, 1).reason.as_deref(), Some("configured at outer"));

    sandwich.run(Duration::from_secs(2));
    let over = Some("configured at outer; drain-timeout has passed");
    assert_eq!(sandwich.firewall(INNER, 1).reason.as_deref(), over);
}

#[test]
fn what_an_order_leaves_nobody_for_is_known_before_it_is_given() {
    let mut sandwich = started(2);
    let words = |sandwich: &Sandwich, name: &str, admin| {
        let found = sandwich.engines[OUTER].consequences_for_firewall(None, name, Some(admin)).unwrap();
        found.into_iter().map(|one| (one.description, one.is_grave)).collect::<Vec<_>>()
    };
    assert_eq!(words(&sandwich, "fw1", AdminState::Maint), []);
    assert_eq!(words(&sandwich, "fw1", AdminState::Drain), []);

    let now = sandwich.now;
    sandwich.engines[INNER].set_admin(None, "fw1", Some(AdminState::Drain), &Order::default(), now).unwrap();
    sandwich.run(Duration::from_millis(300));
    assert_eq!(words(&sandwich, "fw2", AdminState::Maint), [], "fw1 drains and takes what nobody else does");
    let still = "new flows still go to perimeter/fw2: no other firewall of group perimeter takes any".to_owned();
    assert_eq!(words(&sandwich, "fw2", AdminState::Drain), [(still, false)]);

    let now = sandwich.now;
    sandwich.engines[INNER].set_admin(None, "fw1", Some(AdminState::Maint), &Order::default(), now).unwrap();
    sandwich.run(Duration::from_millis(300));
    let nobody = "no firewall of group perimeter takes new flows now".to_owned();
    assert_eq!(words(&sandwich, "fw2", AdminState::Maint), [(nobody, true)]);
    assert_eq!(words(&sandwich, "fw1", AdminState::Maint), [], "it takes none as it is");
    assert_eq!(words(&sandwich, "fw2", AdminState::Ready), []);
    assert!(sandwich.engines[OUTER].consequences_for_firewall(None, "fw9", None).is_err());
}

#[test]
fn fewer_than_min_up_is_as_grave_as_none() {
    let sandwich = up(Sandwich::with(2, "min-up = 2", ""));
    let found = sandwich.engines[OUTER].consequences_for_firewall(None, "fw1", Some(AdminState::Maint)).unwrap();
    assert_eq!((found.len(), found[0].is_grave), (1, true));
    assert_eq!(found[0].description, "group perimeter drops its flows, with 1 live and min-up 2 now");
}
