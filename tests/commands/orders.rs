//! Changes by operators: which engines they reach, what is reported, and with which exit status.

use fwlb::api::{Request, ServerChange, calls};
use fwlb::config::AdminState;
use serde_json::{Value, json};

use crate::ground::{Ground, text};

#[test]
fn sessions_are_counted_before_they_are_ended_and_many_of_them_take_a_yes() {
    let few = Ground::new(&[("outer", 3), ("inner", 4)]);
    assert_eq!(
        few.prints("kill --source 198.51.100.7 --reset --reason ticket"),
        "inner: 4 sessions ended, 8 resets sent\nouter: 3 sessions ended, 6 resets sent\n"
    );
    let asked = few.asked(0);
    let [Request::Sessions(_), Request::Kill(calls::Kill { filter, reset, reason, by })] = asked.as_slice() else {
        panic!("{asked:?}")
    };
    assert_eq!(filter.to_string(), "source 198.51.100.7");
    let claimed = r#"unknown user, claimed name "kim""#;
    assert_eq!((*reset, reason.as_deref(), by.as_deref()), (true, Some("ticket"), Some(claimed)));

    let many = Ground::new(&[("outer", 8), ("inner", 4)]);
    let refused = many.fails("kill --port 80", 1);
    assert_eq!(
        refused,
        "fwlb: 12 sessions match (inner 4, outer 8); nothing was ended\n\
         to end more than 10 without being asked, say --yes\n"
    );
    assert!(many.asked(0).iter().all(|asked| matches!(asked, Request::Sessions(_))), "counted, and no more");
    assert_eq!(
        many.json("kill --port 80 --yes --json"),
        json!([{ "engine": "inner", "killed": 4, "resets": 0 }, { "engine": "outer", "killed": 8, "resets": 0 }])
    );
    assert_eq!(many.prints("kill -e inner --all"), "inner: 4 sessions ended\n");

    assert!(many.fails("kill", 2).contains("--all"));
    assert!(many.fails("kill --reset --yes", 2).contains("say which sessions"));
    assert!(many.fails("kill --all --port 80", 2).contains("not both"));
    let none = Ground::new(&[("outer", 0)]);
    assert_eq!(none.fails("kill --all", 1), "no sessions match\n");
    assert!(none.asked(0).iter().all(|asked| matches!(asked, Request::Sessions(_))));
}

#[test]
fn what_needs_one_engine_asks_which() {
    let ground = Ground::new(&[("outer", 3), ("inner", 3)]);
    let which = "several engines run here: inner, outer\nsay which with -e NAME";
    let said: Value = serde_json::from_str(&ground.fails("show counters --json", 1)).unwrap();
    assert_eq!(said, json!({ "error": "failed", "message": which }));
    for line in ["explain esp 192.0.2.1 192.0.2.2", "probe perimeter/fw1", "ping 192.0.2.1"] {
        assert_eq!(ground.fails(line, 1), format!("fwlb: {which}\n"), "{line}");
    }
    assert_eq!(ground.fails("show -e dmz", 1), "fwlb: engine \"dmz\" does not run; running: inner, outer\n");
    let said = ground.fails("explain esp 192.0.2.1 192.0.2.2 -e outer", 1);
    assert_eq!(said, "fwlb: stopping\ntry again; if it stays so, see the engine's log\n");
}

#[test]
fn a_dead_socket_beside_a_live_engine_is_passed_over() {
    let ground = Ground::new(&[("outer", 3)]);
    let dead = ground.socket("dead");
    drop(std::os::unix::net::UnixListener::bind(&dead).unwrap());
    assert!(ground.prints("show").starts_with("outer: active"));
    let said = ground.fails(&format!("show -s {}", dead.display()), 1);
    assert!(said.contains("it has ended and left its socket behind"), "{said}");
}

#[test]
fn set_firewall_reaches_every_engine_that_knows_it() {
    let ground = Ground::new(&[("outer", 0), ("inner", 0)]);

    let printed = ground.prints("set firewall perimeter/fw1 drain --reason upgrade --wait 5s");

    assert_eq!(
        printed,
        "inner: firewall fw1 is set to drain\nouter: firewall fw1 is set to drain\nfw1 has no sessions\n"
    );
    for engine in [0, 1] {
        let expected = Request::from(calls::SetFirewall {
            group: Some("perimeter".to_owned()),
            name: "fw1".to_owned(),
            admin: Some(AdminState::Drain),
            reason: Some("upgrade".to_owned()),
            by: Some("unknown user, claimed name \"kim\"".to_owned()),
            force: false,
        });
        assert_eq!(ground.asked(engine)[0], expected);
    }
    ground.prints("set firewall fw1 default");
    assert!(matches!(&ground.asked(0)[0], Request::SetFirewall(calls::SetFirewall { admin: None, group: None, .. })));
    assert_eq!(ground.fails("set firewall fw9 maint", 1), "fwlb: no firewall \"fw9\"; there are: fw1\n");
    assert!(ground.fails("set firewall fw1 ready --wait 5s", 2).contains("--wait is for drain"));
}

#[test]
fn a_drain_that_takes_too_long_is_a_no() {
    let ground = Ground::new(&[("outer", 3)]);
    let said = ground.fails("set firewall fw1 drain --wait 100ms", 1);
    assert_eq!(said, "fwlb: fw1 still has 3 sessions after 100ms; they stay, and no new ones come\n");
}

#[test]
fn a_drain_of_the_last_one_has_no_end_and_says_so() {
    let ground = Ground::new(&[("outer", 0)]);
    let said = ground.fails("set firewall fw2 drain --wait 500ms", 1);
    assert_eq!(
        said,
        "fwlb: fw2 still takes new flows, as no other firewall of its group does: this drain has no end; 5 sessions now\n\
         put another firewall in service, or take this one out: fwlb set firewall fw2 maint --force\n"
    );
    assert!(ground.fails("set firewall fw1 drain --force", 2).contains("--force is for maint"));
}

#[test]
fn set_server_and_service_reach_the_one_engine_that_has_them() {
    let ground = Ground::new(&[("outer", 0), ("inner", 0)]);

    let printed = ground.prints("set server web/s1 drain --wait 5s --reason upgrade");

    assert_eq!(printed, "inner: server web/s1: Admin(Some(Drain))\nweb/s1 has no sessions\n");
    assert_eq!(ground.asked(0), [calls::Services {}.into()], "the outer engine has no such server");
    let drain = ServerChange::Admin(Some(AdminState::Drain));
    let expected = Request::from(calls::SetServer {
        reason: Some("upgrade".to_owned()),
        by: Some("unknown user, claimed name \"kim\"".to_owned()),
        ..calls::SetServer::new("web", "s1", drain)
    });
    assert_eq!(ground.asked(1)[1], expected);
    assert_eq!(ground.prints("set server web/s1 weight=7"), "inner: server web/s1: Weight(Some(7))\n");
    assert_eq!(ground.prints("set service web default"), "inner: service web: None\n");
    assert!(ground.fails("set server web/s9 drain", 1).contains("no engine has web/s9; asked were inner, outer"));
    assert!(ground.fails("set server web/s1 weight=1 --wait 5s", 2).contains("--wait is for drain"));
    assert!(ground.fails("set server web/s1 weight=999", 2).contains("a weight is 0..=256 or default"));
}

#[test]
fn probe_and_ping_print_the_exchange_and_answer_with_their_status() {
    let ground = Ground::new(&[("outer", 3)]);
    let printed = ground.prints("probe perimeter/fw1");
    assert_eq!(printed, "perimeter/fw1: ok, 1.23ms\n      0.000 ms  sent      icmp echo\n");

    let output = ground.fwlb("ping 192.0.2.1 --firewall perimeter/fw1 -c 2 -i 10ms");
    assert_eq!(output.status.code(), Some(1));
    let printed = text(&output.stdout);
    assert!(printed.contains("192.0.2.1: FAILED: no answer within 1 s"), "{printed}");
    assert!(printed.ends_with("2 sent, 0 answered\n"), "{printed}");
    let (address, firewall) = ("192.0.2.1".parse().unwrap(), Some("perimeter/fw1".to_owned()));
    let ping = Request::from(calls::Ping { address, link: None, firewall });
    assert_eq!(ground.asked(0)[1..], [ping.clone(), ping]);
}
