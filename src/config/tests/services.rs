//! Tests of `[[service]]`.

mod checks;
mod modes;
mod observe;

use super::*;

/// An engine that is only a server load balancer.
pub(super) const FARM: &str = r#"[engine]
name = "slb"

[[link]]
name = "clients"
device = "eth0"
addresses = ["198.51.100.1/24", "2001:db8:1::1/64"]

[[link]]
name = "servers"
device = "eth1"
addresses = ["10.10.20.1/24", "fd00:20::1/64"]

[[service]]
name = "web"
address = ["198.51.100.80", "2001:db8:1::80"]
protocol = "tcp"
port = 80

[service.check]
kind = "http"
path = "/healthz"

[[service.server]]
name = "s1"
address = ["10.10.20.11", "fd00:20::11"]
port = 8080

[[service.server]]
name = "s2"
address = ["10.10.20.12", "fd00:20::12"]
port = 8080
weight = 0
"#;

/// `FARM` with `from` (which must be there) replaced by `to`.
fn farm(from: &str, to: &str) -> String {
    assert!(FARM.contains(from), "{from:?} is not in the file");
    FARM.replacen(from, to, 1)
}

/// `FARM` with more keys of its service.
fn service(lines: &str) -> String {
    farm("port = 80\n", &format!("port = 80\n{lines}\n"))
}

/// `FARM` with this check.
fn check(lines: &str) -> String {
    farm("kind = \"http\"\npath = \"/healthz\"\n", &format!("{lines}\n"))
}

/// The only service of a text that must be valid.
#[track_caller]
fn only(text: &str) -> Service {
    let outcome = load_text(text);
    outcome.config.unwrap_or_else(|| panic!("{}", outcome.diagnostics)).services.remove(0)
}

#[test]
fn services_alone_make_an_engine() {
    let outcome = load_text(FARM);

    assert_eq!(outcome.diagnostics.to_string(), "");
    let config = outcome.config.unwrap();
    let service = &config.services[0];
    assert_eq!(service.addresses, ["198.51.100.80", "2001:db8:1::80"].map(|a| a.parse::<IpAddr>().unwrap()));
    assert_eq!((service.protocols.as_slice(), service.ports.as_slice()), (&[6][..], &[80..=80][..]));
    assert_eq!((service.scheduler, service.mode, service.sticky), (Scheduler::RoundRobin, ForwardingMode::Nat, None));
    assert_eq!(service.on_failure, OnFailure::Reset);
    assert_eq!(service.drain_timeout, Some(Duration::from_secs(300)));
    assert_eq!((service.snat.len(), service.admin), (0, AdminState::Ready));
    let http = ServiceCheckKind::Http { path: "/healthz".into(), host: None, status: vec![200..=200], body: None };
    assert_eq!(
        service.check,
        ServiceCheck {
            kind: http,
            port: None,
            interval: Duration::from_secs(2),
            timeout: Duration::from_secs(1),
            fall: 3,
            rise: 2,
            dead_interval: Duration::from_secs(2),
            down_after: None,
        }
    );
    assert_eq!(service.servers, [ServerId(0), ServerId(1)]);
    let second = &config.servers[1];
    assert_eq!((second.name.as_str(), second.service, second.port), ("s2", ServiceId(0), Some(8080)));
    assert_eq!((second.weight, second.backup, second.admin), (0, false, AdminState::Ready));
    assert_eq!(config.limits.sticky, 100_000);
}

#[test]
fn every_key_means_what_it_says() {
    let text = FARM
        .replace(
            "protocol = \"tcp\"\nport = 80\n",
            "protocol = [\"tcp\", \"udp\"]\nport = [80, 0x1bb, \"8000-8099\"]\n",
        )
        .replace(
            "[service.check]\nkind = \"http\"\npath = \"/healthz\"\n",
            r#"scheduler = "hash"
hash-on = ["source-address", "destination-port"]
mode = "full-nat"
snat = ["10.10.20.240-10.10.20.243", "fd00:20::240"]
sticky = { by = "source", prefix = 24, timeout = "1h" }
on-failure = "keep"
drain-timeout = "never"
admin = "drain"

[service.check]
kind = "http"
port = 8081
host = "www.example.com"
expect-status = [204, "200-399"]
expect-body = "OK"
interval = "5s"
timeout = "3s"
fall = 1
rise = 4
dead-interval = "10s"
down-after = "30s"
"#,
        )
        .replace("weight = 0", "backup = true\nadmin = \"maint\"")
        + "[limits]\nsticky = 7\n";
    let config = load_text(&text).config.unwrap();
    let service = &config.services[0];
    assert_eq!(service.protocols, [6, 17]);
    assert_eq!(service.ports, [80..=80, 443..=443, 8000..=8099]);
    let hash_on = HashOn { source_address: true, destination_port: true, ..HashOn::default() };
    assert_eq!(service.scheduler, Scheduler::Hash(hash_on));
    assert_eq!(service.mode, ForwardingMode::FullNat);
    let snat = ["10.10.20.240", "10.10.20.241", "10.10.20.242", "10.10.20.243", "fd00:20::240"];
    assert_eq!(service.snat, snat.map(|a| a.parse::<IpAddr>().unwrap()));
    let sticky = StickyBy { prefix: 24, prefix6: 128, timeout: Duration::from_secs(3600) };
    assert_eq!(service.sticky, Some(sticky));
    assert_eq!(service.on_failure, OnFailure::Keep);
    assert_eq!((service.drain_timeout, service.admin), (None, AdminState::Drain));
    let check = &service.check;
    let ServiceCheckKind::Http { path, host, status, body } = &check.kind else { panic!("{check:?}") };
    assert_eq!((path.as_str(), host.as_deref(), body.as_deref()), ("/", Some("www.example.com"), Some("OK")));
    assert_eq!(*status, [204..=204, 200..=399]);
    assert_eq!((check.port, check.fall, check.rise), (Some(8081), 1, 4));
    let times = [check.interval, check.timeout, check.dead_interval].map(|time| time.as_secs());
    assert_eq!((times, check.down_after), ([5, 3, 10], Some(Duration::from_secs(30))));
    let second = &config.servers[1];
    assert_eq!((second.weight, second.backup, second.admin), (1, true, AdminState::Maint));
    assert_eq!(config.limits.sticky, 7);
}

#[test]
fn defaults_follow_the_protocol() {
    let bare = farm("[service.check]\nkind = \"http\"\npath = \"/healthz\"\n", "");
    assert_eq!(only(&bare).check.kind, ServiceCheckKind::Tcp);
    let udp = bare.replace("\"tcp\"", "\"udp\"");
    assert_eq!(only(&udp).check.kind, ServiceCheckKind::Icmp);
    assert_eq!(only(&bare.replace("\"tcp\"", "[\"udp\", \"tcp\"]")).check.kind, ServiceCheckKind::Tcp);
    let reset = udp.replace("port = 80\n", "port = 80\non-failure = \"reset\"\n");
    assert_eq!(only(&reset).on_failure.for_flow(false), OnFailure::Reselect, "only TCP can be reset");
    let hash = only(&service("scheduler = \"hash\""));
    assert_eq!(hash.scheduler, Scheduler::Hash(HashOn { source_address: true, ..HashOn::default() }));
    assert_eq!(only(&service("scheduler = \"least-connections\"")).scheduler, Scheduler::LeastConnections);
    let any = farm("port = 80\n", "port = \"any\"\n");
    assert_eq!(only(&any).ports, [1..=65_535]);
    assert_eq!(only(&service("sticky = { by = \"source\" }")).sticky.unwrap().timeout, Duration::from_secs(600));
}

#[test]
fn a_destination_has_one_owner() {
    let second = |name: &str, rest: &str| {
        let server = "[[service.server]]\nname = \"s1\"\naddress = [\"10.10.20.11\", \"fd00:20::11\"]\nport = 1\n";
        format!("{FARM}\n[[service]]\nname = \"{name}\"\naddress = \"198.51.100.80\"\n{rest}\n{server}")
            .replace("address = [\"10.10.20.11\", \"fd00:20::11\"]\nport = 1", "address = \"10.10.20.11\"\nport = 1")
    };
    refused(
        &second("other", "protocol = [\"tcp\", \"udp\"]\nport = 80"),
        &["tcp port 80 of VIP 198.51.100.80 stands twice", "x.toml:39:8", "x.toml:18:8", "stands here first"],
    );
    refused(&second("web", "protocol = \"udp\"\nport = 80"), &["service \"web\" stands twice"]);
    for apart in
        ["protocol = \"udp\"\nport = 80", "protocol = \"tcp\"\nport = \"any\"", "protocol = \"tcp\"\nport = 81"]
    {
        assert_eq!(said(&second("other", apart)), "", "{apart}");
    }
    refused(&farm("port = 80\n", "port = [80, 80]\n"), &["tcp port 80 of VIP 198.51.100.80 stands twice"]);
    refused(
        &farm("port = 80\n", "port = [\"8000-8099\", \"8050-8149\"]\n"),
        &["tcp ports 8000-8099 and 8050-8149 of VIP 198.51.100.80 overlap, and neither is more specific"],
    );
    refused(&farm("\"2001:db8:1::80\"", "\"198.51.100.80\""), &["VIP 198.51.100.80 stands twice"]);
    refused(
        &farm("198.51.100.80", "198.51.100.1"),
        &["198.51.100.1 is the engine's own address on link \"clients\", here the VIP of service \"web\""],
    );
}

#[test]
fn ports_and_words_are_judged() {
    refused(&farm("port = 80\n", "port = 0\n"), &["`port` must be 1..=65535, a range such as", "found the number 0"]);
    refused(&farm("port = 80\n", "port = \"90-80\"\n"), &["the range \"90-80\" ends before it begins"]);
    refused(&farm("port = 80\n", "port = \"http\"\n"), &["or \"any\", found the string \"http\""]);
    refused(&farm("port = 80\n", "port = []\n"), &["`port` is an empty list"]);
    refused(&farm("port = 80\n", ""), &["[[service]] needs `port`"]);
    refused(
        &farm("protocol = \"tcp\"", "protocol = \"sctp\""),
        &["`protocol = \"sctp\"` is reserved", "use \"tcp\", \"udp\" or both"],
    );
    refused(
        &farm("protocol = \"tcp\"", "protocol = \"tpc\""),
        &["`protocol` must be \"tcp\" or \"udp\"", "did you mean \"tcp\"?"],
    );
    refused(&farm("protocol = \"tcp\"", "protocol = [\"tcp\", \"tcp\"]"), &["the same protocol stands twice"]);
    refused(&service("mode = \"dirct\""), &["did you mean \"direct\"?"]);
    refused(&service("mode = \"proxy\""), &["`mode = \"proxy\"` is reserved"]);
    refused(&service("scheduler = \"robin\""), &["`scheduler` must be"]);
    refused(&service("hash-on = \"source-port\""), &["`hash-on` is for `scheduler = \"hash\"`"]);
    refused(
        &service("scheduler = \"hash\"\nhash-on = \"source\""),
        &["`hash-on` must be \"source-address\"", "write hash-on = \"source-address\""],
    );
    refused(&service("sticky = { by = \"cookie\" }"), &["\"cookie\"` is reserved"]);
    refused(&service("sticky = { by = \"source\", prefix = 33 }"), &["`prefix` must be 0..=32, found 33"]);
    refused(&service("sticky = { prefix = 24 }"), &["needs `by`"]);
    refused(&service("sticky = true"), &["`sticky` must be a table, found true"]);
    refused(&service("limit = 5"), &["`limit` of [[service]] is reserved"]);
    refused(
        &check("kind = \"http\"\nmode = \"nat\""),
        &["`mode` belongs to [[service]], move it above [service.check]"],
    );
    refused(
        &check("kind = \"http\"\ndrain-timeout = \"5m\""),
        &["`drain-timeout` belongs to [[service]], move it above"],
    );
    warned(&service("drain-timeout = \"0s\""), &["a drain ends every session at once"]);
}

#[test]
fn servers_are_judged() {
    refused(&farm("name = \"s2\"", "name = \"s1\""), &["server \"s1\" stands twice", "stands here first"]);
    refused(&farm("10.10.20.12", "10.10.20.11"), &["server address 10.10.20.11 port 8080 stands twice", "`weight`"]);
    refused(&farm("weight = 0", "weight = 257"), &["`weight` must be 0..=256, found 257"]);
    refused(&farm("10.10.20.12", "10.10.20.1"), &["10.10.20.1 is the engine's own address on link \"servers\""]);
    refused(&farm("10.10.20.12", "198.51.100.80"), &["198.51.100.80 is the VIP of service \"web\", here"]);
    warned(&farm("10.10.20.12", "192.0.2.12"), &["no link and no route leads to 192.0.2.12"]);
    let without = FARM[..FARM.find("[[service.server]]").unwrap()].to_owned();
    refused(&without, &["service \"web\" has no servers"]);
    let backups = FARM.replace("port = 8080", "port = 8080\nbackup = true");
    warned(&backups, &["every server of the service is a backup"]);
}

#[test]
fn a_vip_without_servers_of_its_family_is_told() {
    let v4 = FARM.replace(", \"fd00:20::11\"", "").replace(", \"fd00:20::12\"", "");
    refused(&v4, &["no server has an IPv6 address: VIP 2001:db8:1::80 would serve nobody"]);
    let half = FARM.replace(", \"fd00:20::12\"", "");
    warned(&half, &["server s2 has no IPv6 address: it takes no share of VIP 2001:db8:1::80"]);
    warned(&farm(", \"2001:db8:1::80\"", ""), &["fd00:20::11 serves nobody: the service has no IPv6 VIP"]);
}

#[test]
fn clients_among_the_servers_are_told_the_way_out() {
    let words = ["clients in the servers' subnet 10.10.20.0/24 get no answer", "\"full-nat\" or \"direct\""];
    let same = farm("198.51.100.80", "10.10.20.80");
    warned(&same, &words);
    assert_eq!(said(&same.replace("port = 80\n", "port = 80\nmode = \"full-nat\"\n")), "");
    let direct = same.replace("port = 80\n", "port = 80\nmode = \"direct\"\n").replace("port = 8080\n", "");
    assert_eq!(said(&direct), "");
    let link = FARM.find("[[link]]\nname = \"clients\"").unwrap()..FARM.find("[[link]]\nname = \"servers\"").unwrap();
    let mut one_arm = FARM.to_owned();
    one_arm.replace_range(link, "");
    warned(&one_arm, &words);
}

#[test]
fn thousands_of_servers_fit_one_service() {
    let servers: String = (0..4128u32)
        .map(|n| {
            format!("[[service.server]]\nname = \"m{n}\"\naddress = \"10.10.{}.{}\"\n", 100 + n / 200, 1 + n % 200)
        })
        .collect();
    let text = farm(", \"2001:db8:1::80\"", "").replace(", \"fd00:20::11\"", "").replace(", \"fd00:20::12\"", "");
    let text = text.replace("10.10.20.1/24", "10.10.20.1/16") + &servers;
    let outcome = load_text(&text);
    assert_eq!(outcome.diagnostics.to_string(), "");
    assert_eq!(outcome.config.unwrap().services[0].servers.len(), 4130);
}

#[test]
fn a_service_that_takes_no_sessions_is_told() {
    let servers = |first: &str, second: &str| {
        FARM.replace("weight = 0\n", &format!("{second}\n"))
            .replace("name = \"s1\"\n", &format!("name = \"s1\"\n{first}\n"))
    };
    for (first, second, told) in [
        ("weight = 0", "weight = 0", Some("every weight is 0")),
        ("admin = \"maint\"", "admin = \"maint\"", Some("every server is in maint")),
        ("admin = \"drain\"", "weight = 0", Some("each server has weight 0 or is taken out")),
        // A backup serves while the others are down, but not while they only take no sessions.
        ("weight = 0", "backup = true", Some("every weight is 0")),
        ("admin = \"maint\"", "backup = true", None),
        ("admin = \"maint\"", "backup = true\nadmin = \"maint\"", Some("every server is in maint")),
        ("admin = \"maint\"", "", None),
        ("weight = 0", "", None),
    ] {
        let text = servers(first, second);
        match told {
            Some(words) => warned(&text, &[words, "the service takes no new sessions"]),
            None => assert_eq!(said(&text), "", "{first} {second}"),
        }
    }
    let out = servers("weight = 0", "weight = 0").replace("port = 80\n", "port = 80\nadmin = \"maint\"\n");
    assert_eq!(said(&out), "", "the whole service is taken out");
    warned(&servers("backup = true", "backup = true"), &["every server of the service is a backup"]);
}

#[test]
fn a_more_specific_port_of_another_service_is_told() {
    let other = FARM[FARM.find("[[service]]").unwrap()..]
        .replace("\"web\"", "\"range\"")
        .replace("port = 80\n", "port = \"80-90\"\n");
    let config =
        load_text(&format!("{FARM}{other}").replace("kind = \"http\"\npath", "port = 1\nkind = \"http\"\npath"))
            .config
            .unwrap();
    let told = requirements(&config);
    let words = "tcp port 80 of 198.51.100.80 is not its own but that of service web, which is more specific";
    assert_eq!(told.matches(words).count(), 1, "{told}");
}

#[test]
fn words_of_the_trade_are_answered_with_the_line_to_write() {
    for (text, told) in [
        (service("mode = \"dsr\""), "write mode = \"direct\""),
        (service("mode = \"Masquerade\""), "write mode = \"nat\""),
        (service("vip = \"203.0.113.80\""), "write address = \"203.0.113.80\""),
        (service("balance = \"roundrobin\""), "write scheduler ="),
        (service("scheduler = \"wrr\""), "write scheduler = \"round-robin\""),
        (service("scheduler = \"roundrobin\""), "write scheduler = \"round-robin\""),
        (service("scheduler = \"leastconn\""), "write scheduler = \"least-connections\""),
        (service("scheduler = \"source\""), "write scheduler = \"hash\""),
        (service("hash-on = \"source\""), "write hash-on = \"source-address\""),
        (service("persistence_timeout = 600"), "write sticky = {"),
        (service("sorry_server = \"10.0.0.1\""), "[[service.server]] with backup = true"),
        (farm("\"tcp\"", "\"both\""), "write protocol = [\"tcp\", \"udp\"]"),
        (check("type = \"tcp\""), "write kind = \"tcp\""),
        (check("kind = \"HTTP_GET\""), "write kind = \"http\""),
        (check("protocol = \"tcp\""), "`protocol` belongs to [[service]], move it above"),
        (farm("[\"10.10.20.11\", \"fd00:20::11\"]", "\"10.10.20.11:8080\""), "and a line port = 8080"),
        (format!("{FARM}[vrrp]\nid = 5\n"), "VRRP is for a later version"),
        (format!("{FARM}[limits]\nsessions = \"1M\"\n"), "write sessions = 1_000_000"),
        (format!("{FARM}[limits]\nsessions = 1e6\n"), "write sessions = 1_000_000"),
        (format!("{FARM}[frontend]\n"), "write [[service]]"),
    ] {
        refused(&text, &[told]);
    }
}
