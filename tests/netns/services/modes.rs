//! How packets reach a server and how its answers return: `nat`, `full-nat`, `direct`; with translated ports, port
//! ranges and clients in the servers' subnet.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use fwlb::engine::view::SessionView;

use super::capture::Capture;
use super::farm::{Arms, Farm, NETS, Net, Plan, QUICK, farm, server, service};
use super::host::{Connection, Datagrams, Program, ask, datagrams};

fn checked(kind: &str) -> String {
    format!("[service.check]\nkind = \"{kind}\"\n{QUICK}")
}

/// A VIP in the servers' subnet.
fn near_service(name: &str, vip: u8, more: &str, servers: u8) -> String {
    let text = service(name, vip, 80, more, servers);
    NETS.iter()
        .fold(text, |text, net| text.replace(&format!("\"{}\"", net.vip(vip)), &format!("\"{}\"", net.farm(vip))))
}

/// The session of a client as `show sessions` lists it: the two ends after translation.
#[track_caller]
fn translated(sessions: &[SessionView], client: SocketAddr) -> (String, [Option<String>; 2]) {
    let found = sessions.iter().find(|session| session.source == client.to_string());
    let found = found.unwrap_or_else(|| panic!("no session of {client}: {sessions:#?}"));
    (
        found.server.clone().expect("it is a service's"),
        [found.translated_source.clone(), found.translated_destination.clone()],
    )
}

#[test]
fn nat_changes_ports_keeps_ranges_and_lets_services_share_a_server() {
    let nat = checked("icmp");
    let text = [
        service("web", 80, 80, &nat, 0) + &server(1, "port = 8080") + &server(2, "port = 8081"),
        // The same server in another service, on another port of the same VIP, and twice with two ports.
        service("tls", 80, 443, &nat, 0)
            + &server(2, "port = 8443")
            + &server(2, "port = 8444").replace("\"s2\"", "\"s2b\""),
        service("range", 81, 8000, &nat, 1).replace("port = 8000", "port = \"8000-8002\""),
        service("all", 81, 1, &nat, 2).replace("port = 1\n", "port = \"any\"\n"),
        service("two", 82, 80, &nat, 1).replace(
            "address = [\"203.0.113.82\"",
            "address = [\"203.0.113.83\", \"2001:db8:113::83\", \"203.0.113.82\"",
        ),
    ];
    farm(Plan::new(2, text.concat()), |farm| {
        let engine = farm.engine();
        let at = |host: &str, port| Program::echo(&farm.namespace(host), &format!("{host}:{port}"), port);
        let _programs = [
            at("s1", 8080),
            at("s2", 8081),
            at("s2", 8443),
            at("s2", 8444),
            at("s1", 8001),
            at("s1", 9999),
            at("s2", 9999),
            at("s1", 80),
        ];
        farm.wait_all_up();
        for net in NETS {
            let client = net.client(7);
            let all = |vip, port, count| -> BTreeSet<String> {
                farm.answers(client, (net.vip(vip), port), count).into_iter().collect()
            };
            assert_eq!(all(80, 80, 4), ["s1:8080", "s2:8081"].map(String::from).into());
            assert_eq!(all(80, 443, 4), ["s2:8443", "s2:8444"].map(String::from).into());
            assert_eq!(all(81, 8001, 2), ["s1:8001"].map(String::from).into(), "the narrower range wins");
            assert_eq!(all(81, 9999, 4), ["s1:9999", "s2:9999"].map(String::from).into());
            assert_eq!(all(82, 80, 1), all(83, 80, 1), "two VIPs of one service");
            assert!(farm.connect(client, (net.vip(80), 81)).is_err_and(is_refused), "a port without a service");

            let connection = farm.connect(client, (net.vip(80), 80)).expect("is served");
            assert_eq!(connection.seen, connection.local, "the server sees the client itself");
            let (server, ends) = translated(&engine.sessions(), connection.local);
            let (host, port) = connection.server.split_once(':').expect("host and port");
            let number: u8 = host[1..].parse().expect("a number");
            let inside = SocketAddr::new(net.farm(10 + number), port.parse().expect("a port"));
            assert_eq!((server.as_str(), &ends), (host, &[None, Some(inside.to_string())]));

            // Packets that belong to no service pass unchanged: an engine with services is still a router.
            let past = farm.connect(client, (net.farm(11), 80)).expect("is routed");
            assert_eq!((past.server.as_str(), past.seen), ("s1:80", past.local));
            let explained = engine.fwlb(&format!("explain tcp {} {}", past.local, SocketAddr::new(net.vip(80), 443)));
            let told = String::from_utf8_lossy(&explained.stdout).into_owned();
            assert!(told.contains("tls") && told.contains("s2"), "{told}");
        }
    });
}

fn is_refused(error: std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::ConnectionRefused
}

#[test]
fn explain_foresees_what_happens_and_shows_what_has_happened() {
    farm(Plan::new(2, service("web", 80, 80, &checked("tcp"), 2)), |farm| {
        let engine = farm.engine();
        let _programs = ["s1", "s2"].map(|name| Program::echo(&farm.namespace(name), name, 80));
        farm.wait_all_up();
        let ask = |from: SocketAddr, to: SocketAddr| -> serde_json::Value {
            let answer = engine.fwlb(&format!("explain tcp {from} {to} --json"));
            serde_json::from_slice(&answer.stdout).expect("JSON")
        };
        for net in NETS {
            for _ in 0..4 {
                let vip = SocketAddr::new(net.vip(80), 80);
                let foreseen = ask(SocketAddr::new(net.client(7), 4000), vip);
                assert_eq!(foreseen["decided_by"], "service", "{foreseen}");
                let connection = farm.connect(net.client(7), (vip.ip(), 80)).expect("is served");
                assert_eq!(foreseen["server"], connection.server.as_str(), "asking costs nobody his turn");

                let known = ask(connection.local, vip);
                assert_eq!(known["decided_by"], "session", "{known}");
                assert_eq!(known["server"], connection.server.as_str());
                assert_eq!(translated(&engine.sessions(), connection.local).0, connection.server);
            }
        }
    });
}

#[test]
fn one_service_takes_streams_and_datagrams() {
    let both = format!("protocol = [\"tcp\", \"udp\"]\n{}", checked("icmp"));
    let full = format!("mode = \"full-nat\"\n{both}");
    let text = service("dns", 80, 53, &both, 2) + &service("full", 81, 53, &full, 2);
    farm(Plan::new(2, text), |farm| {
        let hosts = ["s1", "s2"];
        let _streams = hosts.map(|name| Program::echo(&farm.namespace(name), name, 53));
        // A socket for each family, because an answer has to leave from the address that was asked.
        let _names: Vec<_> = hosts
            .iter()
            .flat_map(|name| {
                let number: u8 = name[1..].parse().expect("a number");
                NETS.map(|net| Datagrams::start(&farm.namespace(name), name, (net.farm(10 + number), 53).into()))
            })
            .collect();
        farm.wait_all_up();
        for net in NETS {
            for vip in [80, 81] {
                let to = SocketAddr::from((net.vip(vip), 53));
                assert_eq!(
                    farm.answers(net.client(7), (to.ip(), 53), 4).iter().filter(|name| *name == "s1").count(),
                    2
                );
                let mut asked = BTreeSet::new();
                for size in [0, 1, 512, 1400, 4000, 9000] {
                    let socket = datagrams(&farm.namespace("client"), net.client(7));
                    let local = socket.local_addr().expect("it is bound");
                    let said: Vec<u8> = (0..size).map(|byte| byte as u8).collect();
                    let answer = ask(&socket, to, &said);
                    let (name, seen, heard) = answer.unwrap_or_else(|error| panic!("{to}, {size} bytes: {error}"));
                    assert!(heard == said, "{to}, {size} bytes come back as they were sent");
                    match vip {
                        80 => assert_eq!(seen, local, "the server sees the client itself"),
                        _ => assert_eq!(seen.ip(), net.farm(1), "the engine stands for the client"),
                    }
                    asked.insert(name);
                }
                assert_eq!(asked.len(), 2, "both servers were asked");
            }
        }
    });
}

#[test]
fn full_nat_on_one_arm_takes_source_addresses_of_its_own_for_many_clients() {
    let snat = NETS.map(|net| format!("\"{}-{}\"", net.farm(240), net.farm(241))).join(", ");
    let full = format!("mode = \"full-nat\"\nsnat = [{snat}]\n{}", checked("tcp"));
    let text = service("web", 80, 80, &full, 0) + &server(1, "port = 8080") + &server(2, "port = 8080");
    let plan = Plan { arms: Arms::One, ..Plan::new(2, text + &near_service("near", 81, &full, 2)) };
    farm(plan, |farm| {
        let engine = farm.engine();
        let _programs = ["s1", "s2"].map(|name| Program::echo(&farm.namespace(name), name, 8080));
        let _near = ["s1", "s2"].map(|name| Program::echo(&farm.namespace(name), name, 80));
        farm.wait_all_up();
        for net in NETS {
            let mut used: BTreeSet<IpAddr> = BTreeSet::new();
            let mut held: Vec<Connection> = (100..=139)
                .flat_map(|number| [(number, net.vip(80)), (number, net.farm(81))])
                .map(|(number, vip)| farm.connect(net.client(number), (vip, 80)).expect("is served"))
                .collect();
            let mut tuples = BTreeSet::new();
            let sessions = engine.sessions();
            for connection in &mut held {
                connection.echo(b"through").expect("is echoed");
                used.insert(connection.seen.ip());
                assert!(connection.seen.port() >= 1024);
                let (server, [source, destination]) = translated(&sessions, connection.local);
                assert_eq!(server, connection.server);
                assert_eq!(source, Some(connection.seen.to_string()), "the server sees what is shown");
                assert!(tuples.insert((source, destination)), "no two clients look alike to a server");
            }
            assert_eq!(used, [240, 241].map(|number| net.farm(number)).into(), "both addresses are used");
            drop(held);

            // A host in the servers' subnet, and a server itself.
            for host in ["s1", "s2"] {
                let number: u8 = host[1..].parse().expect("a number");
                let names: BTreeSet<String> = (0..4)
                    .map(|_| {
                        let to = SocketAddr::new(net.farm(81), 80);
                        let mut hairpin =
                            Connection::open(&farm.namespace(host), net.farm(10 + number), to).expect("is served");
                        hairpin.echo(b"there and back").expect("is echoed");
                        hairpin.server.clone()
                    })
                    .collect();
                assert_eq!(names.len(), 2, "{host} is served by both servers, itself too");
            }
        }
        assert_eq!(engine.counter("dropped"), engine.counter("drop_other_host"), "nothing but a switch's floods");
    });
}

/// What a server of `direct` needs: the VIP, which it must not announce.
fn take_vip(farm: &Farm, host: &str, vips: &[IpAddr]) {
    farm.exec(host, "sysctl -qw net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2");
    let add = |vip: &IpAddr| match vip {
        IpAddr::V4(vip) => format!("address add {vip}/32 dev lo"),
        IpAddr::V6(vip) => format!("address add {vip}/128 dev lo nodad"),
    };
    farm.ip(host, &vips.iter().map(add).collect::<Vec<_>>());
}

#[test]
fn direct_servers_answer_past_the_engine_from_the_vip() {
    let direct = format!("mode = \"direct\"\n{}", checked("tcp"));
    let text = service("far", 80, 80, &direct, 2) + &near_service("near", 81, &direct, 2);
    let plan = Plan { arms: Arms::One, ..Plan::new(3, text) };
    farm(plan, |farm| {
        let engine = farm.engine();
        let vips: Vec<IpAddr> = NETS.iter().flat_map(|net| [net.vip(80), net.farm(81)]).collect();
        let _programs = ["s1", "s2"].map(|name| Program::echo(&farm.namespace(name), name, 80));
        engine.wait("far/s1", "down");
        take_vip(farm, "s1", &vips);
        engine.wait("far/s1", "up");
        engine.wait("near/s1", "up");
        assert_eq!(engine.state("far/s2"), "down", "a server without the VIP is down: the check asks the VIP");
        take_vip(farm, "s2", &vips);
        farm.wait_all_up();

        for net in NETS {
            for vip in [net.vip(80), net.farm(81)] {
                let answers = Capture::start(farm, "lb", "farm", &format!("src host {vip} and tcp port 80"));
                let names = farm.answers(net.client(7), (vip, 80), 4);
                assert_eq!(names.iter().filter(|name| *name == "s1").count(), 2, "{names:?}");

                let mut connection = farm.connect(net.client(7), (vip, 80)).expect("is served");
                connection.echo(&[7; 100_000]).expect("is echoed");
                assert_eq!(connection.seen, connection.local, "the server sees the client itself");
                let session = |state: &str| {
                    engine.wait_until(std::time::Duration::from_secs(2), state, |engine| {
                        let sessions = engine.sessions();
                        let local = connection.local.to_string();
                        let found = sessions.iter().find(|session| session.source == local).expect("is known");
                        assert_eq!(found.translated_destination, None, "nothing of it is translated");
                        found.state.name() == state && found.server.as_ref() == Some(&connection.server)
                    });
                };
                session("established");
                let local = connection.local;
                drop(connection);
                engine.wait_until(std::time::Duration::from_secs(2), "half of a farewell is one", |engine| {
                    let sessions = engine.sessions();
                    sessions
                        .iter()
                        .any(|session| session.source == local.to_string() && session.state.name() == "closing")
                });

                // A host in the servers' subnet.
                let to = SocketAddr::new(vip, 80);
                let mut near = Connection::open(&farm.namespace("s3"), net.farm(13), to).expect("is served");
                near.echo(b"next door").expect("is echoed");

                // Only the engine's own checks use the VIP from here.
                let seen: Vec<_> = answers.stop().into_iter().filter(|p| !is_check(&p.text, net)).collect();
                assert!(seen.is_empty(), "no answer to a client passes the engine: {seen:?}");
            }
        }
    });
}

/// An answer to the engine's own address.
fn is_check(text: &str, net: Net) -> bool {
    text.contains(&format!("> {}.", net.farm(1)))
}

#[test]
fn the_pitfall_of_nat_in_one_subnet_is_warned_of_and_has_its_remedies() {
    let text = near_service("web", 80, &checked("tcp"), 2);
    let plan = Plan { arms: Arms::One, ..Plan::new(3, text) };
    farm(plan, |farm| {
        let _programs = ["s1", "s2"].map(|name| Program::echo(&farm.namespace(name), name, 80));
        farm.wait_all_up();
        let warning = farm.check();
        assert!(warning.contains("get no answer in `nat` mode"), "{warning}");
        assert!(warning.contains("full-nat") && warning.contains("direct"), "the remedies have names: {warning}");

        // Each attempt takes its time to fail, so that they are made at the same time.
        let served = |farm: &Farm| {
            std::thread::scope(|scope| {
                let near = NETS.map(|net| {
                    let to = SocketAddr::new(net.farm(80), 80);
                    scope.spawn(move || Connection::open(&farm.namespace("s3"), net.farm(13), to).is_ok())
                });
                let far = NETS.map(|net| scope.spawn(move || farm.connect(net.client(7), (net.farm(80), 80)).is_ok()));
                [near, far].map(|attempts| attempts.map(|attempt| attempt.join().expect("does not panic")))
            })
        };
        assert_eq!(served(farm), [[false; 2]; 2], "the servers answer directly, from an address that nobody asked");

        // Remedy: the engine becomes the servers' gateway. Within one subnet no gateway is used.
        for host in ["s1", "s2"] {
            farm.ip(host, &NETS.map(|net| format!("route replace default via {}", net.farm(1))));
        }
        assert_eq!(served(farm), [[false; 2], [true; 2]]);

        farm.restart(near_service("web", 80, &format!("mode = \"full-nat\"\n{}", checked("tcp")), 2));
        farm.wait_all_up();
        assert!(!farm.check().contains("warning"), "{}", farm.check());
        for net in NETS {
            let to = SocketAddr::new(net.farm(80), 80);
            Connection::open(&farm.namespace("s3"), net.farm(13), to).expect("the other remedy works next door too");
        }
    });
}
