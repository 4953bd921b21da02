//! What happens to the sessions of a server that dies under load: one service for each `on-failure`.

use std::net::SocketAddr;
use std::time::Duration;

use super::farm::{Farm, NETS, Net, Plan, QUICK, farm, service};
use super::host::{Connection, Datagrams, End, Program, ask, datagrams};

const SOON: Duration = Duration::from_secs(1);
const POLICIES: [(&str, u8); 4] = [("reset", 80), ("reselect", 81), ("keep", 82), ("drop", 83)];

/// The connections of a service, kept open by the client in both families.
fn hold(farm: &Farm, vip: u8) -> Vec<Connection> {
    let open = |net: Net| (0..4).map(move |_| farm.connect(net.client(7), (net.vip(vip), 80)).expect("is served"));
    let mut held: Vec<_> = NETS.into_iter().flat_map(open).collect();
    for connection in &mut held {
        connection.echo(&[vip; 1000]).expect("is echoed");
    }
    held
}

fn of<'c>(held: &'c mut [Connection], server: &'c str) -> impl Iterator<Item = &'c mut Connection> {
    held.iter_mut().filter(move |connection| connection.server == server)
}

/// Each policy has a service with two servers, whose health is shown at port 8090.
fn farms(test: impl FnOnce(&mut Farm, &[Program; 2], &mut Vec<Option<Program>>)) {
    let one = |(policy, vip): (&str, u8)| {
        let check = format!("on-failure = \"{policy}\"\n[service.check]\nkind = \"tcp\"\nport = 8090\n{QUICK}");
        service(policy, vip, 80, &check, 2)
    };
    let udp = format!("protocol = \"udp\"\n[service.check]\nkind = \"tcp\"\nport = 8090\n{QUICK}");
    let text = POLICIES.map(one).concat() + &service("names", 84, 53, &udp, 2);
    farm(Plan::new(2, text), |farm| {
        let hosts = ["s1", "s2"];
        let programs = hosts.map(|name| Program::echo(&farm.namespace(name), name, 80));
        let mut health: Vec<_> = hosts.map(|name| Some(Program::silent(&farm.namespace(name), 8090))).into();
        farm.wait_all_up();
        test(farm, &programs, &mut health);
    });
}

#[test]
fn on_failure_is_obeyed_for_every_session_of_the_server_and_for_no_other() {
    farms(|farm, programs, health| {
        let engine = farm.engine();
        let [mut reset, mut reselect, mut keep, mut drop_] = POLICIES.map(|(_, vip)| hold(farm, vip));
        assert_eq!(programs[0].open(), 16, "half of the connections are at s1");

        health[0] = None;
        for (policy, _) in POLICIES {
            engine.wait(&format!("{policy}/s1"), "down");
        }

        for connection in of(&mut reset, "s1") {
            assert_eq!(connection.end_within(SOON), End::Reset, "the client is told, though it says nothing");
        }
        engine.wait_until(SOON, "the server is told too", |_| programs[0].open() == 12);
        for connection in of(&mut keep, "s1") {
            connection.echo(b"kept").expect("only its check is ill");
        }
        for connection in of(&mut reselect, "s1") {
            let ended = connection.echo(b"moved").expect_err("the other server knows of no such connection");
            assert_eq!(ended.kind(), std::io::ErrorKind::ConnectionReset);
        }
        let before = engine.counter("drop_server_failed");
        for connection in of(&mut drop_, "s1") {
            connection.say(b"into the void");
            assert_eq!(connection.end_within(Duration::from_millis(300)), End::Open, "nobody is told anything");
        }
        assert!(engine.counter("drop_server_failed") >= before + 4);
        for held in [&mut reset, &mut reselect, &mut keep, &mut drop_] {
            for connection in of(held, "s2") {
                connection.echo(b"untouched").expect("the other server's sessions live on");
            }
        }

        // A client that opens a new connection is served by the other server, whatever the policy.
        for (_, vip) in POLICIES {
            for net in NETS {
                assert_eq!(farm.answers(net.client(7), (net.vip(vip), 80), 2), ["s2"; 2]);
            }
        }
    });
}

#[test]
fn a_datagram_client_of_a_dead_server_is_answered_by_another_one() {
    farms(|farm, _, health| {
        let engine = farm.engine();
        let hosts = ["s1", "s2"];
        let _names: Vec<_> = hosts
            .iter()
            .map(|name| Datagrams::start(&farm.namespace(name), name, "[::]:53".parse().expect("an address")))
            .collect();
        for net in NETS {
            let to = SocketAddr::from((net.vip(84), 53));
            let clients: Vec<_> = (0..4).map(|_| datagrams(&farm.namespace("client"), net.client(7))).collect();
            let who = || -> Vec<String> {
                clients.iter().map(|client| ask(client, to, b"who?").expect("an answer").0).collect()
            };
            let first = who();
            assert_eq!(first.iter().filter(|name| *name == "s1").count(), 2, "{first:?}");
            assert_eq!(who(), first, "a flow stays");

            health[0] = None;
            engine.wait("names/s1", "down");
            assert_eq!(who(), ["s2"; 4], "{net:?}: the same sockets, another server");
            health[0] = Some(Program::silent(&farm.namespace("s1"), 8090));
            engine.wait("names/s1", "up");
            assert_eq!(who(), ["s2"; 4], "and they stay there");
        }
    });
}

#[test]
fn clients_of_a_server_whose_cable_is_pulled_are_told_within_the_time_that_check_prints() {
    farms(|farm, _, _| {
        let engine = farm.engine();
        let mut held = hold(farm, 80);
        let (start, withheld) = (tokio::time::Instant::now(), farm.withheld());
        farm.plug("s1", false);

        for connection in of(&mut held, "s1") {
            assert_eq!(connection.end_within(Duration::from_secs(3)), End::Reset);
        }
        // Two checks at 200 ms and the timeout of the second.
        const WITHIN: Duration = Duration::from_millis(1_200);
        let (told, withheld) = (start.elapsed(), withheld.so_far().min(WITHIN));
        assert!(told < WITHIN + withheld, "after {told:?}, of which {withheld:?} were withheld");
        for connection in of(&mut held, "s2") {
            connection.echo(b"untouched").expect("lives on");
        }
        engine.wait("reset/s1", "down");
        farm.plug("s1", true);
        engine.wait("reset/s1", "up");
    });
}
