//! Server load balancing behind strict firewalls: virtual services on the inner engine, with real servers that fail and
//! recover.

use std::io::Write as _;
use std::time::Duration;

use fwlb::lab::{Side, Station, Stop, Topology};

use crate::ground::{Rig, patient, sandwich};

/// `web` translates the destination, `both` the source too, for clients among the servers.
const SERVICES: &str = r#"
[[service]]
name = "web"
address = ["203.0.113.80", "2001:db8:113::80"]
protocol = "tcp"
port = 8000

[service.check]
kind = "http"
expect-status = [200]
interval = "300ms"
timeout = "200ms"

[[service.server]]
name = "s1"
address = ["203.0.113.11", "2001:db8:113::11"]
port = 80
weight = 3

[[service.server]]
name = "s2"
address = ["203.0.113.12", "2001:db8:113::12"]
port = 80

[[service]]
name = "both"
address = "203.0.113.81"
protocol = "tcp"
port = 80
mode = "full-nat"
scheduler = "least-connections"

[service.check]
kind = "tcp"
interval = "300ms"
timeout = "200ms"

[[service.server]]
name = "s1"
address = "203.0.113.11"

[[service.server]]
name = "s2"
address = "203.0.113.12"
"#;

/// The sandwich with [`SERVICES`] on its inner engine, all servers up.
pub fn farm(test: impl FnOnce(&mut Rig)) {
    sandwich(
        |base| patient(Topology { servers: 2, ..base }),
        |rig| {
            let path = rig.lab.configuration_file(Side::Inner);
            let mut file = std::fs::OpenOptions::new().append(true).open(path).expect("the laboratory wrote it");
            file.write_all(SERVICES.as_bytes()).expect("is writable");
            rig.lab.stop_engine(Side::Inner, Stop::Orderly).unwrap();
            rig.lab.start_engine(Side::Inner).unwrap();
            rig.lab.wait_for_firewalls(Duration::from_secs(10)).unwrap();
            rig.within(Duration::from_secs(5), "both servers are up in both services", |rig| {
                [("web", "s1"), ("web", "s2"), ("both", "s1"), ("both", "s2")]
                    .iter()
                    .all(|(service, server)| state(rig, service, server) == "up")
            });
            test(rig);
        },
    );
}

fn state(rig: &Rig, service: &str, server: &str) -> String {
    let services = rig.json(Side::Inner, &["show", "services", "--json"]);
    let found = services.as_array().expect("a list").iter().find(|view| view["name"] == service).expect("configured");
    let servers = found["servers"].as_array().expect("a list");
    let view = servers.iter().find(|view| view["name"] == server).expect("configured");
    view["state"].as_str().expect("a word").to_owned()
}

/// Requests a page; returns the name of the server that answered, if one did.
pub fn page(rig: &Rig, from: Station, url: &str) -> Option<String> {
    let output = rig.output(from, &["curl", "-s", "-g", "-m", "2", url]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    output.status.success().then(|| text.split_whitespace().next().unwrap_or_default().to_owned())
}

fn pages(rig: &Rig, from: Station, url: &str, count: usize) -> Vec<String> {
    (0..count).map(|_| page(rig, from, url).unwrap_or_else(|| panic!("{url} from {from} has no answer"))).collect()
}

fn share(answers: &[String], server: &str) -> usize {
    answers.iter().filter(|name| *name == server).count()
}

#[test]
fn a_service_shares_by_weight_in_both_families_and_the_firewalls_see_whole_conversations() {
    farm(|rig| {
        for url in ["http://203.0.113.80:8000/", "http://[2001:db8:113::80]:8000/"] {
            let answers = pages(rig, Station::Client, url, 16);
            assert_eq!((share(&answers, "s1"), share(&answers, "s2")), (12, 4), "{answers:?}");
        }
        rig.exec(Station::Client, &["ping", "-c", "1", "-W", "2", "203.0.113.80"]);
        rig.assert_firewalls_dropped_nothing();
    });
}

#[test]
fn a_client_among_the_servers_is_served_where_the_source_is_translated_too() {
    farm(|rig| {
        let answers = pages(rig, Station::Server(1), "http://203.0.113.81/", 4);
        assert_eq!((share(&answers, "s1"), share(&answers, "s2")), (2, 2), "{answers:?}");
    });
}

#[test]
fn a_server_in_maintenance_takes_nothing_and_the_other_serves_on() {
    farm(|rig| {
        let set = rig.fwlb(Side::Inner, &["set", "server", "web/s1", "maint", "--reason", "test"]);
        assert!(set.status.success(), "{}", crate::ground::said(&set));
        let answers = pages(rig, Station::Client, "http://203.0.113.80:8000/", 6);
        assert_eq!(share(&answers, "s2"), 6, "{answers:?}");
        assert_eq!(state(rig, "web", "s1"), "maint");

        assert!(rig.fwlb(Side::Inner, &["set", "server", "web/s1", "default"]).status.success());
        rig.within(Duration::from_secs(3), "s1 serves again", |rig| {
            page(rig, Station::Client, "http://203.0.113.80:8000/").as_deref() == Some("s1")
        });
        rig.assert_firewalls_dropped_nothing();
    });
}

#[test]
fn a_server_whose_program_dies_is_out_for_its_own_reason_and_nobody_notices() {
    farm(|rig| {
        // From here on the port of the page refuses connections, as if the web server had ended.
        let refuse =
            "table inet gone { chain in { type filter hook input priority 0; tcp dport 80 reject with tcp reset; }; }";
        rig.exec(Station::Server(1), &["nft", refuse]);
        rig.within(Duration::from_secs(4), "s1 is out of both services", |rig| {
            state(rig, "web", "s1") == "down" && state(rig, "both", "s1") == "down"
        });
        let services = rig.json(Side::Inner, &["show", "services", "--json"]);
        assert!(services.to_string().contains("connection refused"), "{services:#}");
        let answers = pages(rig, Station::Client, "http://203.0.113.80:8000/", 6);
        assert_eq!(share(&answers, "s2"), 6, "{answers:?}");

        rig.exec(Station::Server(1), &["nft", "delete table inet gone"]);
        rig.within(Duration::from_secs(4), "s1 serves again", |rig| {
            page(rig, Station::Client, "http://203.0.113.80:8000/").as_deref() == Some("s1")
        });
        rig.assert_firewalls_dropped_nothing();
    });
}
