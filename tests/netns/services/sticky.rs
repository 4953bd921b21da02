//! Clients that return to the server that they had.

use std::thread::sleep;
use std::time::Duration;

use super::farm::{Farm, NETS, Plan, QUICK, farm, service};
use super::host::Program;

/// `short` forgets clients after two seconds, `wide` keeps neighbours together; both check their servers at port 8090.
fn sticky(test: impl FnOnce(&mut Farm, &mut Vec<Option<Program>>)) {
    let check = format!("[service.check]\nkind = \"tcp\"\nport = 8090\n{QUICK}");
    let text = [
        // Sessions are forgotten long before the clients are.
        "\n[timeouts]\ntcp-closing = \"200ms\"\n".to_owned(),
        service("short", 80, 80, &format!("sticky = {{ by = \"source\", timeout = \"2s\" }}\n{check}"), 3),
        service("wide", 81, 80, &format!("sticky = {{ by = \"source\", prefix = 28, prefix6 = 120 }}\n{check}"), 3),
    ];
    farm(Plan::new(3, text.concat()), |farm| {
        let hosts = ["s1", "s2", "s3"];
        let _programs = hosts.map(|name| Program::echo(&farm.namespace(name), name, 80));
        let mut health = hosts.map(|name| Some(Program::silent(&farm.namespace(name), 8090))).into();
        farm.wait_all_up();
        test(farm, &mut health);
    });
}

#[test]
fn a_client_comes_back_to_its_server_after_its_sessions_ended_until_the_time_is_over() {
    sticky(|farm, _| {
        let engine = farm.engine();
        let one = |net: super::farm::Net| farm.answers(net.client(7), (net.vip(80), 80), 1).remove(0);
        let first = NETS.map(one);
        for _ in 0..4 {
            assert_eq!(NETS.map(one), first, "it is no other server's turn while the client is known");
        }
        engine.wait_until(Duration::from_secs(4), "every session is forgotten", |engine| engine.sessions().is_empty());
        assert_eq!(NETS.map(one), first, "the client is remembered, not its sessions");

        // The time counts from the last connection.
        sleep(Duration::from_millis(3_200));
        let later = NETS.map(one);
        assert!(first.iter().zip(&later).all(|(before, after)| before != after), "{first:?}, then {later:?}");
    });
}

#[test]
fn a_client_of_a_dead_server_gets_another_once_and_keeps_it() {
    sticky(|farm, health| {
        let engine = farm.engine();
        for net in NETS {
            let one = || farm.answers(net.client(100), (net.vip(81), 80), 1).remove(0);
            let first = one();
            let number = usize::from(first.as_bytes()[1] - b'1');
            health[number] = None;
            engine.wait(&format!("wide/{first}"), "down");
            let second = one();
            assert_ne!(second, first);
            assert_eq!([one(), one()], [second.clone(), second.clone()]);

            health[number] = Some(Program::silent(&farm.namespace(&first), 8090));
            engine.wait(&format!("wide/{first}"), "up");
            assert_eq!([one(), one(), one()], [(); 3].map(|()| second.clone()), "{first} is back, the client stays");
        }
    });
}

#[test]
fn neighbours_of_one_prefix_share_a_server() {
    sticky(|farm, _| {
        for net in NETS {
            let at = |number| farm.answers(net.client(number), (net.vip(81), 80), 1).remove(0);
            let first = at(100);
            assert!((101..=109).all(|number| at(number) == first), "{net:?}: 100..=109 lie in one prefix");
            // The next prefixes get the next turns.
            let [second, third] = [at(if net == super::farm::Net::V4 { 112 } else { 7 }), at(130)];
            assert!(first != second || first != third, "{net:?}: {first}, {second}, {third}");
        }
    });
}
