//! Every kind of check takes a server out for its own reason, reports that reason, and puts the server back.

use super::farm::{Engine, Farm, NETS, Net, Plan, QUICK, farm, server, service};
use super::host::Program;

/// One service for each kind of check, each with the one server `s1`.
fn each_kind(test: impl FnOnce(&mut Farm)) {
    let kind =
        |name: &str, vip, port, check: &str| service(name, vip, port, &format!("[service.check]\n{check}\n{QUICK}"), 1);
    let text = [
        kind("ping", 80, 8000, "kind = \"icmp\""),
        kind("tcp", 81, 8001, "kind = \"tcp\""),
        kind("half", 82, 8002, "kind = \"half-open\""),
        kind("status", 83, 8003, "kind = \"http\"\npath = \"/healthz\"\nexpect-status = \"200-299\""),
        kind("content", 84, 8004, "kind = \"http\"\nexpect-status = 200\nexpect-body = \"all is well\""),
        kind("other", 85, 8005, "kind = \"tcp\"\nport = 8006"),
    ];
    farm(Plan::new(1, text.concat()), test);
}

/// Asserts that the server of a service is down, for this reason in both families.
#[track_caller]
fn down_for(engine: &Engine, service: &str, reason: &str) {
    let name = format!("{service}/s1");
    engine.wait(&name, "down");
    engine.wait_until(std::time::Duration::from_secs(3), &format!("{name} is down for: {reason}"), |engine| {
        let view = engine.server(&name);
        let all = view.checks.iter().all(|check| check.reason.as_deref().is_some_and(|why| why.starts_with(reason)));
        let told = view.reason.unwrap_or_default();
        all && told.contains(&format!("ipv4: {reason}")) && told.contains(&format!("ipv6: {reason}"))
    });
}

/// Adds a rule to the host's filter, which drops or rejects.
fn filter(farm: &Farm, rule: &str) {
    farm.nft("s1", &format!("table inet gone {{ chain in {{ type filter hook input priority 0; {rule}; }}; }}"));
}

fn heal(farm: &Farm) {
    farm.nft("s1", "delete table inet gone");
}

#[test]
fn icmp_tcp_and_half_open_checks_fail_for_their_own_reasons_and_recover() {
    each_kind(|farm| {
        let engine = farm.engine();
        let host = farm.namespace("s1");
        down_for(&engine, "tcp", "connection refused");
        down_for(&engine, "half", "connection refused");
        down_for(&engine, "other", "connection refused");
        engine.wait("ping/s1", "up");

        let mut programs: Vec<_> = [8001, 8002, 8005].map(|port| Program::silent(&host, port)).into();
        engine.wait("tcp/s1", "up");
        engine.wait("half/s1", "up");
        assert_eq!(engine.state("other/s1"), "down", "the port of the service is not the one that is asked");
        programs.push(Program::silent(&host, 8006));
        engine.wait("other/s1", "up");
        assert_eq!(programs[1].accepted(), 0, "half an opening is none to the server's program");

        filter(farm, "icmp type echo-request drop; icmpv6 type echo-request drop");
        down_for(&engine, "ping", "no answer in 150ms");
        assert_eq!(engine.state("tcp/s1"), "up", "each check has a mind of its own");
        heal(farm);
        engine.wait("ping/s1", "up");

        filter(farm, "tcp dport { 8001, 8002, 8006 } drop");
        for service in ["tcp", "half", "other"] {
            down_for(&engine, service, "no SYN-ACK in 150ms");
        }
        heal(farm);
        for service in ["tcp", "half", "other"] {
            engine.wait(&format!("{service}/s1"), "up");
        }

        let shown = String::from_utf8(engine.fwlb("show services").stdout).expect("text");
        assert!(shown.contains("s1"), "{shown}");
        farm.plug("s1", false);
        for service in ["ping", "tcp", "half"] {
            engine.wait(&format!("{service}/s1"), "down");
        }
        farm.plug("s1", true);
        for service in ["ping", "tcp", "half"] {
            engine.wait(&format!("{service}/s1"), "up");
        }
    });
}

#[test]
fn http_checks_judge_the_status_and_the_body_and_never_one_for_the_other() {
    each_kind(|farm| {
        let engine = farm.engine();
        let host = farm.namespace("s1");
        let (_status, page) = Program::http(&host, 8003, "204 No Content", "");
        let (_content, report) = Program::http(&host, 8004, "200 OK", "report: all is well here");
        let say = |page: &super::host::Page, status: &str, body: &str| {
            *page.lock().expect("nobody panics with it") = (status.to_owned(), body.to_owned());
        };
        engine.wait("status/s1", "up");
        engine.wait("content/s1", "up");

        say(&page, "503 Service Unavailable", "");
        down_for(&engine, "status", "HTTP 503, expected 200-299");
        let shown = String::from_utf8(engine.fwlb("show services").stdout).expect("text");
        assert!(shown.contains("HTTP 503, expected 200-299"), "{shown}");
        say(&page, "200 OK", "");
        engine.wait("status/s1", "up");

        say(&report, "200 OK", "the database is gone");
        down_for(&engine, "content", "body lacks \"all is well\"");
        // An error page that happens to contain the expected words.
        say(&report, "500 Internal Server Error", "all is well, said nobody");
        down_for(&engine, "content", "HTTP 500, expected 200");
        say(&report, "200 OK", "all is well");
        engine.wait("content/s1", "up");

        let told = engine.fwlb("probe status/s1");
        let text = String::from_utf8_lossy(&told.stdout).into_owned();
        assert!(told.status.success() && text.contains("TCP SYN") && text.contains("TCP SYN, ACK"), "{text}");
    });
}

#[test]
fn nginx_is_asked_for_its_health_page_and_taken_out_when_that_says_no() {
    let check = format!(
        "[service.check]\nkind = \"http\"\npath = \"/healthz\"\nhost = \"www.example.com\"\nexpect-body = \"OK\"\n\
         expect-status = 200\n{QUICK}"
    );
    farm(Plan::new(1, service("web", 80, 80, &check, 1)), |farm| {
        let engine = farm.engine();
        let healthy = farm.directory().join("healthy");
        std::fs::write(&healthy, "OK\n").expect("may be written");
        let sites = format!(
            "server {{ listen [::]:80 ipv6only=off default_server; return 404; }}
             server {{ listen [::]:80; server_name www.example.com; location = /healthz {{ alias {}; }} }}",
            healthy.display()
        );
        let _nginx = farm.nginx("s1", &sites);
        engine.wait("web/s1", "up");

        std::fs::remove_file(&healthy).expect("it is there");
        down_for(&engine, "web", "HTTP 404, expected 200");
        std::fs::write(&healthy, "OK\n").expect("may be written");
        engine.wait("web/s1", "up");
    });
}

#[test]
fn servers_behind_a_gateway_are_checked_and_served_through_it() {
    let beyond = |net: Net| match net {
        Net::V4 => "10.99.0.1",
        Net::V6 => "fd00:99::1",
    };
    let [gate4, gate6] = NETS.map(|net| net.farm(11));
    let mut text = service("far", 80, 80, &format!("[service.check]\nkind = \"tcp\"\n{QUICK}"), 0);
    text += "\n[[service.server]]\nname = \"far\"\naddress = [\"10.99.0.1\", \"fd00:99::1\"]\nport = 8080\n";
    text += &format!("\n[[route]]\nto = [\"10.99.0.0/24\", \"fd00:99::/64\"]\nvia = [\"{gate4}\", \"{gate6}\"]\n");
    farm(Plan::new(2, text), |farm| {
        let engine = farm.engine();
        // s1 is a router, and s2 is behind it.
        farm.exec("s1", "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
        for net in NETS {
            let (to, via) = (beyond(net), net.farm(12));
            farm.ip("s1", &[format!("route add {to} via {via}")]);
            farm.ip("s2", &[format!("address add {to} dev lo"), format!("route replace default via {}", net.farm(11))]);
        }
        down_for_one(&engine, "far/far", "connection refused");
        let _program = Program::echo(&farm.namespace("s2"), "far", 8080);
        engine.wait("far/far", "up");
        for net in NETS {
            assert_eq!(farm.answers(net.client(7), (net.vip(80), 80), 2), ["far", "far"]);
        }
    });
}

#[track_caller]
fn down_for_one(engine: &Engine, name: &str, reason: &str) {
    engine.wait_until(std::time::Duration::from_secs(5), &format!("{name}: {reason}"), |engine| {
        engine.server(name).checks.iter().all(|check| check.reason.as_deref() == Some(reason))
    });
}

#[test]
fn a_family_that_is_ill_is_out_by_itself() {
    let mut text = service("web", 80, 80, &format!("[service.check]\nkind = \"tcp\"\n{QUICK}"), 0);
    text += &(server(1, "") + &server(2, ""));
    farm(Plan::new(2, text), |farm| {
        let engine = farm.engine();
        let _programs = ["s1", "s2"].map(|name| Program::echo(&farm.namespace(name), name, 80));
        farm.wait_all_up();
        farm.nft(
            "s1",
            "table ip6 gone { chain in { type filter hook input priority 0; tcp dport 80 reject with tcp reset; }; }",
        );
        engine.wait_until(std::time::Duration::from_secs(3), "IPv6 of s1 is down", |engine| {
            engine.server("web/s1").checks[1].state.name() == "down"
        });
        assert_eq!(engine.state("web/s1"), "up", "it serves the other family");
        assert_eq!(farm.answers(Net::V6.client(7), (Net::V6.vip(80), 80), 4), ["s2"; 4]);
        let both = farm.answers(Net::V4.client(7), (Net::V4.vip(80), 80), 4);
        assert_eq!(both.iter().filter(|name| *name == "s1").count(), 2, "{both:?}");
    });
}
