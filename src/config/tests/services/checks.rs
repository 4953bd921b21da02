//! Tests of `[service.check]`.

use super::*;

#[test]
fn checks_of_servers_are_judged() {
    for (lines, messages) in [
        ("kind = \"htpp\"", &["did you mean \"http\"?"][..]),
        ("kind = \"https\"", &["`kind = \"https\"` is reserved"]),
        ("kind = \"icmp\"\nport = 80", &["`port` is for the kinds \"tcp\", \"half-open\" and \"http\""]),
        ("kind = \"tcp\"\npath = \"/\"", &["`path` is for the kind \"http\""]),
        ("expect-body = \"OK\"", &["`expect-body` is for the kind \"http\""]),
        (
            "interval = \"1s\"",
            &["`interval` must be longer than `timeout`: it is 1s, the timeout 1s", "one check ends before the next"],
        ),
        ("timeout = \"3s\"", &["`interval` must be longer than `timeout`: it is 2s, the timeout 3s"]),
        ("dead-interval = \"500ms\"", &["`dead-interval` must be longer than `timeout`"]),
        ("down-after = \"2s\"", &["a good server may be silent for 3s", "make it 3s or more"]),
        ("kind = \"http\"\nexpect-status = 99", &["`expect-status` must be 100..=599"]),
        ("kind = \"http\"\npath = \"x\"", &["`path` begins with a slash", "write \"/x\""]),
        ("kind = \"http\"\npath = \"/a b\"", &["visible ASCII"]),
        ("kind = \"http\"\nhost = \"a\\r\\nb\"", &["not a host name"]),
    ] {
        refused(&check(lines), messages);
    }
    warned(
        &check("kind = \"http\"\nexpect-body = \"OK\""),
        &["a check of the content without a status: only answers with 200 are looked into", "expect-status = 200"],
    );
    let any = farm("port = 80\n", "port = \"any\"\n").replace("port = 8080\n", "");
    refused(&any, &["which one is to be checked is not said", "add `port` to [service.check]"]);
    assert_eq!(said(&any.replace("kind = \"http\"", "kind = \"http\"\nport = 80")), "");
}

#[test]
fn what_is_checked_and_how_fast_is_told() {
    let told = requirements(&load_text(FARM).config.unwrap());
    assert!(
        told.contains("service web: tcp 198.51.100.80 2001:db8:1::80 port 80, nat, round-robin, 2 servers"),
        "{told}"
    );
    assert!(told.contains("checked by http GET /healthz on port 8080, expecting 200"), "{told}");
    assert!(told.contains("a dead server is out within 7s, a good one is in again within 5s"), "{told}");
    let never = requirements(&load_text(&check("kind = \"none\"")).config.unwrap());
    assert!(never.contains("no checks"), "{never}");
    let soon = only(&check("down-after = \"4s\""));
    assert_eq!(requirements::server_detection(&soon.check).unwrap().0, Duration::from_secs(4));
}

#[test]
fn the_port_of_a_check_is_its_own_then_the_servers_then_the_services() {
    let port = |text: &str| load_text(text).config.unwrap().check_port(ServerId(0));
    assert_eq!(port(FARM), Some(8080));
    assert_eq!(port(&check("port = 9")), Some(9));
    assert_eq!(port(&FARM.replace("port = 8080\n", "")), Some(80));
}
