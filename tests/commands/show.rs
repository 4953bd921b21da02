//! What `fwlb show` requests, and how it prints the answers of one engine and of several.

use fwlb::api::{Request, SessionRequest, SessionSort, calls};
use serde_json::{Value, json};

use crate::ground::{Ground, text};

#[test]
fn status_is_the_default_and_tells_what_is_wrong() {
    let ground = Ground::new(&[("outer", 3)]);
    assert_eq!(
        ground.prints("show"),
        "outer: active, up 2h4m\n    \
             sessions 250 of 1000 (25.0 %), workers 2\n    \
             version 1.2.3, epoch 12, configuration 0123456789abcdef\n    \
             ALARM peer_lost perimeter/inner for 3.0s: all paths failed together\n    \
             perimeter/fw1 is set to drain* 2026-01-02T03:04:05Z by kim (uid 1000): \"upgrade\"\n"
    );
}

#[test]
fn firewalls_of_one_engine_and_of_two_are_tables() {
    let ground = Ground::new(&[("outer", 3)]);
    assert_eq!(
        ground.prints("show firewalls"),
        "FIREWALL       LINK       STATE  ADMIN    WEIGHT  SESSIONS  NEW  PACKETS   BYTES  SINCE  REASON\n\
         perimeter/fw1  firewalls  up     drain*        1         3  100     2000  300000  1m1s\n\
         perimeter/fw2  firewalls  up     ready   1 spare         5  100     2000  300000  1m1s\n\
         \n\
         PATH           PEER   FAMILY  STATE    RTT  SINCE  REASON\n\
         perimeter/fw1  inner  ipv4    up     312us  1m1s\n\
         perimeter/fw2  inner  ipv4    up     312us  1m1s\n"
    );

    let two = Ground::new(&[("outer", 3), ("inner", 3)]);
    let table = two.prints("show firewalls");
    assert!(table.starts_with("ENGINE  FIREWALL  "), "{table}");
    assert!(table.contains("\ninner   perimeter/fw1  ") && table.contains("\nouter   perimeter/fw1  "), "{table}");
    assert_eq!(two.prints("show firewalls -e outer").lines().next(), ground.prints("show firewalls").lines().next());
}

#[test]
fn json_of_one_engine_is_its_answer_and_of_several_rows_that_name_it() {
    let ground = Ground::new(&[("outer", 3), ("inner", 3)]);
    let engines = |value: &Value| value.as_array().unwrap().iter().map(|row| row["engine"].clone()).collect::<Vec<_>>();

    assert_eq!(engines(&ground.json("show firewalls --json")), ["inner", "inner", "outer", "outer"]);
    assert_eq!(engines(&ground.json("--json show status")), ["inner", "outer"]);
    assert_eq!(engines(&ground.json("show events --json")), ["inner", "outer"]);
    assert_eq!(ground.json("show status --json -e outer")["name"], "outer");
    assert_eq!(ground.json("show config --json -e outer")["text"], "# of outer\n");
    let counted = json!({ "received": 7, "forwarded": 7, "drop_no_route": 0 });
    assert_eq!(ground.json("show counters --json -e outer"), counted);
    let socket = ground.socket("inner");
    assert_eq!(ground.json(&format!("-s {} show firewalls --json", socket.display())).as_array().unwrap().len(), 2);
}

#[test]
fn events_of_several_engines_are_one_story_in_order_of_time() {
    let ground = Ground::new(&[("outer", 3), ("inner", 3)]);
    assert_eq!(
        ground.prints("show events"),
        "2026-01-02T03:04:00Z inner firewall perimeter/fw1: up -> down (no answer)\n\
         2026-01-02T03:05:00Z outer firewall perimeter/fw1: up -> down (no answer)\n"
    );
}

#[test]
fn sessions_show_their_pins_and_filters_reach_the_engine() {
    let ground = Ground::new(&[("outer", 3)]);
    let table = ground.prints("show sessions --source 198.51.100.7 --firewall fw1 --state established --limit 3");
    assert!(table.contains("perimeter/fw1 toward destination (hash, confirmed)"), "{table}");
    let asked = ground.asked(0);
    let [Request::Sessions(SessionRequest { filter, limit, .. })] = asked.as_slice() else { panic!("{asked:?}") };
    assert_eq!(filter.source, Some("198.51.100.7/32".parse().unwrap()));
    assert_eq!((filter.firewall.as_deref(), filter.state.as_deref()), (Some("fw1"), Some("established")));
    assert_eq!(*limit, Some(3));
}

#[test]
fn a_list_that_is_cut_says_so_and_all_of_it_comes_page_by_page() {
    let ground = Ground::new(&[("outer", 2849)]);
    let cut = ground.fwlb("show sessions");
    assert_eq!(text(&cut.stdout).lines().count(), 1 + 1000);
    assert_eq!(text(&cut.stderr), "1000 of 2849 sessions (--limit 0 for all)\n");
    let cut = ground.fwlb("show sessions --json --limit 1500");
    let rows: Vec<Value> = serde_json::from_slice(&cut.stdout).unwrap();
    let said = text(&cut.stderr);
    assert_eq!((rows.len(), said.as_str()), (1500, "{\"note\":\"1500 of 2849 sessions (--limit 0 for all)\"}\n"));

    let all = ground.fwlb("show sessions --limit 0");
    assert_eq!((text(&all.stdout).lines().count(), text(&all.stderr).as_str()), (1 + 2849, ""));
    assert_eq!(ground.json("show sessions --limit 0 --json").as_array().unwrap().len(), 2849);
    let longest = ground.asked(0).into_iter().map(|asked| match asked {
        Request::Sessions(question) => question.limit.unwrap(),
        other => panic!("{other:?}"),
    });
    assert!(longest.max().unwrap() <= 1000, "neither end holds them all");
    let both = Ground::new(&[("outer", 1200), ("inner", 1100)]);
    let cut = both.fwlb("show sessions --limit 1150 --json");
    let rows: Vec<Value> = serde_json::from_slice(&cut.stdout).unwrap();
    let said = text(&cut.stderr);
    assert_eq!((rows.len(), said.as_str()), (2250, "{\"note\":\"2250 of 2300 sessions (--limit 0 for all)\"}\n"));
}

#[test]
fn the_busiest_sessions_and_sums_of_sessions_are_asked_of_the_engine() {
    let ground = Ground::new(&[("outer", 50)]);
    let busiest = ground.fwlb("show sessions --sort packet-rate --limit 2 --host 198.51.100.7 --port 80 --port 443");
    let table = text(&busiest.stdout);
    assert!(table.lines().next().unwrap().contains("PKT/S  BIT/S") && table.contains(" 5600 "), "{table}");
    assert_eq!(text(&busiest.stderr), "2 of 50 sessions, those with the most packet-rate\n");
    let sums = ground.prints("show sessions --by source --flow tcp\u{a0}198.51.100.7\u{a0}203.0.113.80:80");
    assert_eq!(sums, "SOURCE        SESSIONS  PACKETS  BYTES\n198.51.100.7        50       12    900\n");

    let asked = ground.asked(0);
    let [Request::Sessions(busiest), Request::Talkers(sums)] = asked.as_slice() else { panic!("{asked:?}") };
    assert_eq!((busiest.sort, busiest.limit), (Some(SessionSort::PacketRate), Some(2)));
    assert_eq!((busiest.filter.hosts.len(), busiest.filter.ports.as_slice()), (1, &[80, 443][..]));
    assert_eq!(sums.filter.flow, Some("tcp 198.51.100.7 203.0.113.80:80".parse().unwrap()));
    let wrong = ground.fails("show sessions --sort rats", 2);
    assert!(wrong.contains("packet-rate") && wrong.contains("similar"), "{wrong}");
    assert!(ground.fails("show sessions --flow tcp", 2).contains("a flow is PROTO SOURCE DESTINATION"));
}

#[test]
fn what_there_is_none_of_is_said() {
    let ground = Ground::new(&[("outer", 0)]);
    for (what, words) in [("sessions", "no sessions\n"), ("links", "no links\n"), ("neighbors", "no neighbours\n")] {
        let none = ground.fwlb(&format!("show {what}"));
        assert_eq!((text(&none.stdout).as_str(), text(&none.stderr).as_str()), ("", words));
        let none = ground.fwlb(&format!("show {what} --json"));
        assert_eq!((text(&none.stdout).as_str(), text(&none.stderr).as_str()), ("[]\n", ""));
    }
}

#[test]
fn the_last_checks_of_all_engines_are_one_story_and_one_that_knows_the_name_is_enough() {
    let ground = Ground::new(&[("outer", 3), ("inner", 3)]);
    assert_eq!(
        ground.prints("show checks"),
        "ENGINE  TIME                      SERVER/FIREWALL  TO     FAMILY  RESULT  TIMES  DURATION  STATE  DETAIL\n\
         inner   2026-01-02T03:04:01.000Z  web/s1           -      ipv4    passed      1     312us  up     HTTP 200\n\
         outer   2026-01-02T03:04:02.000Z  perimeter/fw1    inner  ipv4    passed    812     312us  up\n\
         inner   2026-01-02T03:04:03.000Z  web/s1           -      ipv4    failed      1     312us  up     HTTP 200\n"
    );
    let last = ground.prints("show checks -n 2");
    assert!(!last.contains("03:04:01") && last.lines().count() == 3, "{last}");
    assert_eq!(ground.json("show checks -n 1 --json").as_array().unwrap().len(), 1);

    let of_one = ground.fwlb("show checks web/s1");
    assert_eq!((text(&of_one.stderr).as_str(), of_one.status.code()), ("", Some(0)), "the other need not know it");
    assert_eq!(text(&of_one.stdout).lines().count(), 3);
    assert!(ground.asked(0).contains(&calls::Checks { subject: Some("web/s1".to_owned()), limit: None }.into()));
    assert!(ground.fails("show checks web/s1 -e outer", 1).contains("no server or firewall is called"));
}

#[test]
fn services_stand_over_their_servers() {
    let ground = Ground::new(&[("inner", 5)]);
    let printed = ground.prints("show services");
    let lines: Vec<Vec<&str>> = printed.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0][..4], ["SERVICE/SERVER", "ADDRESS", "STATE", "ADMIN"]);
    assert_eq!(lines[1][..4], ["web", "tcp", "203.0.113.80:80,8000-8099", "[2001:db8:113::80]:80,8000-8099"]);
    assert!(
        printed.contains("  1h0m   2 (1m30s)  nat, hash, 1 of 1 up, 0 of 1 backups up, imbalance 1.01"),
        "{printed}"
    );
    assert_eq!(
        lines[2],
        ["s1", "10.10.20.11:8080", "[fd00:20::11]:8080", "up", "ready", "3*", "5", "40", "200", "30000", "1m1s", "0"]
    );
    assert!(printed.lines().nth(3).unwrap().starts_with("  s2"), "{printed}");
    assert!(lines[3].join(" ").contains("down drain* 3 backup 0"), "{printed}");
    assert!(printed.contains("  1 (1m1s)   HTTP 503, expected 200\n"), "{printed}");
    let checks = printed.split("\n\n").nth(1).unwrap_or_default();
    assert_eq!(
        checks,
        "CHECK   FAMILY  STATE  SINCE  FAILED  FALLS     AGO    DURATION  LAST CHECK\n\
         web/s1  ipv4    up     1m1s       40  0         -             -\n\
         web/s2  ipv4    down   1m1s       40  1 (1m1s)  300ms    1.25ms  failed: HTTP 503, expected 200\n"
    );
}
