//! Changes by an operator, and who serves when others cannot: drain, maintenance, sorry servers.

use std::thread::sleep;
use std::time::Duration;

use super::farm::{Farm, NETS, Plan, QUICK, farm, server, service};
use super::host::{Connection, End, Program};
use crate::ground::said;

const SOON: Duration = Duration::from_secs(3);

fn open(farm: &Farm, net: super::farm::Net) -> Connection {
    farm.connect(net.client(7), (net.vip(80), 80)).expect("is served")
}

#[test]
fn the_sorry_server_serves_while_every_other_is_down_and_no_longer() {
    let check = format!("[service.check]\nkind = \"tcp\"\nport = 8090\n{QUICK}");
    let text = service("web", 80, 80, &check, 2) + &server(3, "backup = true");
    farm(Plan::new(3, text), |farm| {
        let engine = farm.engine();
        let hosts = ["s1", "s2", "s3"];
        let _programs = hosts.map(|name| Program::echo(&farm.namespace(name), name, 80));
        let mut health: Vec<_> = hosts.map(|name| Some(Program::silent(&farm.namespace(name), 8090))).into();
        farm.wait_all_up();
        let answers = |count| NETS.map(|net| farm.answers(net.client(7), (net.vip(80), 80), count)).concat();
        assert!(!answers(4).contains(&"s3".to_owned()), "a backup serves nobody while others do");

        health[0] = None;
        engine.wait("web/s1", "down");
        assert_eq!(answers(2), ["s2"; 4], "one is left");
        health[1] = None;
        engine.wait("web/s2", "down");
        assert_eq!(answers(2), ["s3"; 4], "all others are down");
        assert_eq!(engine.service("web").state.name(), "up");
        let mut sorry = NETS.map(|net| open(farm, net));

        health[0] = Some(Program::silent(&farm.namespace("s1"), 8090));
        engine.wait("web/s1", "up");
        assert_eq!(answers(2), ["s1"; 4], "the first that is back has them all");
        for connection in &mut sorry {
            connection.echo(b"still here").expect("who was told sorry is told to the end");
        }

        drop(sorry);
        health[0] = None;
        health[2] = None;
        engine.wait("web/s1", "down");
        engine.wait("web/s3", "down");
        assert_eq!(engine.service("web").state.name(), "down");
        for net in NETS {
            let refused = farm.connect(net.client(7), (net.vip(80), 80)).expect_err("nobody is left");
            assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused, "{net:?}: told at once: {refused}");
        }
    });
}

/// The service `web`, whose drains end after two seconds.
fn web(test: impl FnOnce(&mut Farm)) {
    let text = service("web", 80, 80, &format!("drain-timeout = \"2s\"\n[service.check]\nkind = \"tcp\"\n{QUICK}"), 2);
    farm(Plan::new(2, text), |farm| {
        let _programs = ["s1", "s2"].map(|name| Program::echo(&farm.namespace(name), name, 80));
        farm.wait_all_up();
        test(farm);
    });
}

#[test]
fn a_drain_keeps_what_is_there_shows_it_and_ends_it_when_its_time_is_over() {
    web(|farm| {
        let engine = farm.engine();
        let mut connections: Vec<Connection> =
            NETS.iter().flat_map(|net| [open(farm, *net), open(farm, *net)]).collect();
        assert_eq!((engine.server("web/s1").sessions, engine.server("web/s2").sessions), (2, 2));

        engine.set("server web/s1 drain --reason upgrade");
        let view = engine.server("web/s1");
        assert_eq!((view.state.name(), view.sessions), ("drain", 2));
        let reason = view.reason.expect("it says why");
        assert!(reason.starts_with("set 20") && reason.ends_with(": \"upgrade\""), "{reason}");
        for net in NETS {
            assert_eq!(farm.answers(net.client(7), (net.vip(80), 80), 4), ["s2"; 4], "new ones go elsewhere");
        }
        for connection in &mut connections {
            connection.echo(b"drained").expect("what is there stays");
        }

        // One connection ends by itself, and the number that is left is visible.
        let first = connections.iter().position(|connection| connection.server == "s1").expect("two are at s1");
        drop(connections.remove(first));
        engine.wait_until(SOON, "one session is left", |engine| engine.server("web/s1").sessions == 1);

        for connection in connections.iter_mut().filter(|connection| connection.server == "s1") {
            assert_eq!(connection.end_within(SOON), End::Reset, "the time of the drain is over");
        }
        engine.wait_until(SOON, "nothing is left", |engine| engine.server("web/s1").sessions == 0);
        let reason = engine.server("web/s1").reason.expect("it says why");
        assert!(reason.ends_with(": \"upgrade\"; drain-timeout has passed"), "{reason}");
        for connection in connections.iter_mut().filter(|connection| connection.server == "s2") {
            connection.echo(b"untouched").expect("the other server's sessions live on");
        }
        engine.set("server web/s1 default");
        engine.wait("web/s1", "up");
    });
}

#[test]
fn maintenance_ends_what_is_there_at_once_and_a_service_may_be_taken_out_as_a_whole() {
    web(|farm| {
        let engine = farm.engine();
        let mut connections: Vec<Connection> =
            NETS.iter().flat_map(|net| [open(farm, *net), open(farm, *net)]).collect();

        engine.set("server web/s1 maint");
        for connection in &mut connections {
            match connection.server.as_str() {
                "s1" => assert_eq!(connection.end_within(Duration::from_secs(1)), End::Reset),
                _ => connection.echo(b"untouched").expect("the other server's sessions live on"),
            }
        }
        engine.set("server web/s1 default");

        engine.set("service web drain");
        for net in NETS {
            assert!(farm.connect(net.client(7), (net.vip(80), 80)).is_err(), "a draining service takes nobody");
        }
        connections.retain(|connection| connection.server == "s2");
        for connection in &mut connections {
            connection.echo(b"drained").expect("what is there stays");
        }
        engine.set("service web maint");
        for connection in &mut connections {
            assert_eq!(connection.end_within(Duration::from_secs(1)), End::Reset);
        }
        engine.set("service web default");
        sleep(Duration::from_millis(50));
        for net in NETS {
            farm.answers(net.client(7), (net.vip(80), 80), 2);
        }
    });
}

#[test]
fn killed_sessions_are_reset_at_both_ends_others_live_on_and_the_next_are_served() {
    web(|farm| {
        let engine = farm.engine();
        let mut connections: Vec<Connection> =
            NETS.iter().flat_map(|net| [open(farm, *net), open(farm, *net)]).collect();
        assert_eq!((engine.server("web/s1").sessions, engine.server("web/s2").sessions), (2, 2));

        let killed = engine.fwlb("kill --server web/s1 --reset --reason ticket --json");

        assert!(killed.status.success(), "{}", said(&killed));
        let told: serde_json::Value = serde_json::from_slice(&killed.stdout).expect("JSON");
        assert_eq!((&told[0]["killed"], &told[0]["resets"]), (&2.into(), &4.into()), "{told}");
        for connection in &mut connections {
            match connection.server.as_str() {
                "s1" => assert_eq!(connection.end_within(Duration::from_secs(1)), End::Reset),
                _ => connection.echo(b"untouched").expect("nobody ended this one"),
            }
        }
        assert_eq!((engine.server("web/s1").sessions, engine.counter("sessions_killed")), (0, 2));
        let events = String::from_utf8(engine.fwlb("show events").stdout).expect("text");
        assert!(events.contains("kill server web/s1: 2 ended (ticket) by "), "{events}");
        for net in NETS {
            farm.answers(net.client(7), (net.vip(80), 80), 2);
        }
    });
}
