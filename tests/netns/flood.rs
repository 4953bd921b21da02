//! A flood of half-open sessions, far more than the table holds.

use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

use fwlb::lab::{Side, Station};

use crate::ground::{assert_all_answered, sandwich};

/// Room in the table: as much as a flood fills in half a second, on a machine that has time for it.
const SESSIONS: u64 = 4_000;

#[test]
fn a_syn_flood_breaks_no_established_session_and_lets_new_ones_in() {
    sandwich(
        |base| base.with("limits", "sessions", SESSIONS as i64),
        |rig| {
            let words = "--flows 50 --interval-ms 100 --duration-ms 12000 --patience-ms 8000";
            let established: Vec<_> = rig
                .topology()
                .server(1)
                .both()
                .map(|to| rig.start(Station::Client, &format!("tcp {to} {words}")))
                .into();
            sleep(Duration::from_millis(1_500));

            // About 10,000 SYNs a second from random sources, each of which the server answers by a reset. Two
            // unoptimised engines, their firewalls and the flood itself manage as much on two cores.
            let mut flood = rig.lab.command(Station::Client, "hping3");
            flood.args(["-S", "-q", "-p", "80", "--rand-source", "-i", "u90", "-c", "1000000", "203.0.113.12"]);
            let mut flood = flood.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("hping3 runs");
            rig.within(Duration::from_secs(15), "the flood is larger than the table", |rig| {
                rig.counter(Side::Outer, "sessions_created") > SESSIONS + SESSIONS / 10
            });
            let new = rig.flows(
                Station::Client,
                "tcp 203.0.113.11 --flows 50 --interval-ms 200 --duration-ms 2000 --patience-ms 8000",
            );
            let sessions = rig.json(Side::Outer, &["show", "status", "--json"])["sessions"].as_u64().expect("a number");
            let _ = flood.kill();
            flood.wait().expect("hping3 ends");

            assert!(sessions <= SESSIONS, "{sessions} sessions in a table of {SESSIONS}");
            assert!(rig.counter(Side::Outer, "sessions_evicted") > 0);
            assert_all_answered(&new);
            for traffic in established {
                assert_all_answered(&traffic.flows());
            }
            for firewall in 1..=2 {
                let drops = rig.lab.firewall_totals(firewall).unwrap();
                assert_eq!((drops.invalid, drops.new_not_syn), (0, 0), "fw{firewall}: {drops:?}");
            }
        },
    );
}
