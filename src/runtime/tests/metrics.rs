//! Tests of `/metrics` of a running engine, scraped as by Prometheus.

use std::collections::BTreeMap;

use super::*;
use open_metrics::{Family, Labels};

#[path = "../../../tests/api/open_metrics.rs"]
mod open_metrics;

const API: &str = "\
[api]
listen = \"127.0.0.1:9600\"
[[api.token]]
name = \"ansible\"
role = \"operator\"
secret = \"a-secret-that-nobody-else-knows\"
";

/// Sends a request with these headers over TCP; returns the status and the body.
fn ask(head: &str) -> (String, String) {
    let mut stream = TcpStream::connect("127.0.0.1:9600").unwrap();
    write!(stream, "{head}\r\nHost: localhost:9600\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
    (head.split(' ').nth(1).unwrap().to_owned(), body.to_owned())
}

fn scrape() -> Vec<Family> {
    let (status, page) = ask("GET /metrics HTTP/1.0");
    assert_eq!(status, "200", "{page}");
    open_metrics::parse(&page).unwrap_or_else(|wrong| panic!("{wrong}\n{page}"))
}

/// All values that may only grow.
fn counters(families: &[Family]) -> BTreeMap<(String, Labels), f64> {
    let counting = families.iter().filter(|family| matches!(family.kind.as_str(), "counter" | "histogram"));
    let samples = counting.flat_map(|family| &family.samples);
    samples.map(|sample| ((sample.name.clone(), sample.labels.clone()), sample.value)).collect()
}

/// The sum of all samples called `name`.
fn sum(families: &[Family], name: &str) -> f64 {
    families.iter().flat_map(|family| &family.samples).filter(|one| one.name == name).map(|one| one.value).sum()
}

#[test]
fn a_scrape_is_open_metrics_its_counters_only_grow_and_it_waits_for_no_traffic() {
    if !namespace() {
        return;
    }
    let (a, b) = (Host::new(), Host::new());
    plug_in(&a, "ra0", 1);
    plug_in(&b, "rb0", 2);
    let directory = tempfile::tempdir().unwrap();
    let links = "\
[[link]]
name = \"a\"
device = \"ra0\"
addresses = [\"10.66.1.1/24\", \"fd66:1::1/64\"]
[[link]]
name = \"b\"
device = \"rb0\"
addresses = [\"10.66.2.1/24\", \"fd66:2::1/64\"]
[[service]]
name = \"all\"
address = \"10.66.1.80\"
protocol = \"udp\"
port = \"any\"
[service.check]
kind = \"none\"
[[service.server]]
name = \"s1\"
address = \"10.66.2.2\"
";
    let run = Run::start(vec![file(directory.path(), "router", &format!("{API}{links}"))]);
    eventually("forwarding", || pings(&a, "10.66.2.2"));

    let mut before = scrape();
    for _ in 0..3 {
        a.run(|| {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            for port in 1..=12_000u16 {
                let _ = socket.send_to(b"x", ("10.66.1.80", port));
            }
        });
        let after = scrape();
        let now = counters(&after);
        for (series, value) in counters(&before) {
            assert!(
                now.get(&series).is_some_and(|now| *now >= value),
                "{series:?} was {value}, is {:?}",
                now.get(&series)
            );
        }
        before = after;
    }

    let total = |name: &str| sum(&before, name);
    let fates: f64 =
        ["forwarded", "hairpinned", "punted", "dropped"].iter().map(|f| total(&format!("fwlb_{f}_total"))).sum();
    assert_eq!(total("fwlb_received_total"), fates, "of one instant");
    assert_eq!(total("fwlb_worker_received_total"), fates);
    assert_eq!(total("fwlb_worker_batch_frames_sum"), fates);
    assert_eq!(total("fwlb_drops_total"), total("fwlb_dropped_total"));
    assert!(total("fwlb_sessions") > 5_000.0, "{} sessions", total("fwlb_sessions"));
    assert!(total("fwlb_process_resident_memory_bytes") > 1e6 && total("fwlb_process_open_fds") > 5.0);
    assert!(total("fwlb_control_lag_seconds_count") > 0.0);

    // Other tests run at the same time, so the fastest of several scrapes shows the cost.
    let clock = Clock::new();
    let fastest = (0..10).map(|_| {
        let begun = clock.now();
        ask("GET /metrics HTTP/1.0");
        clock.now().since(begun)
    });
    let fastest = fastest.min().unwrap();
    assert!(fastest < Duration::from_millis(100), "a scrape takes {fastest:?}");
    run.stop();
}

#[test]
fn a_running_engine_is_read_on_loopback_and_changed_by_operators_alone() {
    if !namespace() {
        return;
    }
    ip("link add ra0 type veth peer name other");
    ip("link set ra0 up");
    let directory = tempfile::tempdir().unwrap();
    let link = "[[link]]\nname = \"a\"\ndevice = \"ra0\"\naddresses = [\"10.66.1.1/24\"]\n";
    let run = Run::start(vec![file(directory.path(), "router", &format!("{API}{link}"))]);

    let (status, config) = ask("GET /api/v1/config HTTP/1.0");
    let ping = "POST /api/v1/ping HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: 0";
    let (anonymous, _) = ask(ping);
    let (operator, _) = ask(&format!("{ping}\r\nAuthorization: Bearer a-secret-that-nobody-else-knows"));
    let (foreign, _) = ask("GET /api/v1/status HTTP/1.0\r\nOrigin: http://evil.example");

    assert!(status == "200" && config.contains("ansible") && !config.contains("nobody-else"), "{config}");
    assert_eq!((anonymous.as_str(), operator.as_str(), foreign.as_str()), ("401", "400", "403"));
    run.stop();
    assert!(TcpStream::connect("127.0.0.1:9600").is_err(), "the port is free again");
}
