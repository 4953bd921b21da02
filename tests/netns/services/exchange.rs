//! The packets of checks, as captured on the server's link.

use std::thread::sleep;
use std::time::Duration;

use super::capture::{Capture, Packet};
use super::farm::{Engine, NETS, Net, Plan, QUICK, farm, service};
use super::host::Program;

/// The packets of each connection of a check, in order: flags, preceded by `>` if sent by the engine and by `<` if sent
/// by the server.
fn connections(packets: &[Packet], port: u16) -> Vec<Vec<String>> {
    let mut connections: Vec<(String, Vec<String>)> = Vec::new();
    for packet in packets {
        let words: Vec<&str> = packet.text.split_whitespace().collect();
        let (from, to) = (words[1], words[3].trim_end_matches(':'));
        let arrow = if to.ends_with(&format!(".{port}")) { '>' } else { '<' };
        let end = if arrow == '>' { from } else { to };
        let step = format!("{arrow}{}", packet.flags());
        match connections.iter_mut().find(|(known, _)| known == end) {
            Some((_, steps)) => steps.push(step),
            None => connections.push((end.to_owned(), vec![step])),
        }
    }
    connections.into_iter().map(|(_, steps)| steps).collect()
}

/// Asserts a connection every 200 ms, by the packets' own times, because starting and ending a capture takes time too.
#[track_caller]
fn assert_paced(packets: &[Packet]) {
    let begun: Vec<_> = packets.iter().filter(|packet| packet.flags() == "S").map(|packet| packet.at).collect();
    assert!(begun.len() >= 4, "{} connections in 1.3 s", begun.len());
    let mean = begun[begun.len() - 1].saturating_sub(begun[0]) / (begun.len() as u32 - 1);
    assert!((150..=300).contains(&mean.as_millis()), "every {mean:?}, not every 200 ms");
}

/// Asserts that every connection consists of these packets. The first and the last one may be cut off by the capture,
/// and it may have missed a packet of one more.
#[track_caller]
fn assert_each_says(words: &[&str], seen: &[Vec<String>], net: Net) {
    let is_part = |steps: &Vec<String>| {
        let mut words = words.iter();
        steps.iter().all(|step| words.any(|word| word == step))
    };
    assert!(seen.iter().all(is_part), "{net:?}: something else than {words:?}: {seen:?}");
    let whole = seen.iter().filter(|steps| *steps == words).count();
    assert!(whole >= 3 && whole + 3 >= seen.len(), "{net:?}: {whole} times {words:?}: {seen:?}");
}

#[test]
fn a_tcp_check_is_a_whole_connection_and_a_half_open_one_is_never_acknowledged() {
    let text = [
        service("tcp", 80, 8001, &format!("[service.check]\nkind = \"tcp\"\n{QUICK}"), 1),
        service("half", 81, 8002, &format!("[service.check]\nkind = \"half-open\"\n{QUICK}"), 1),
    ];
    farm(Plan::new(1, text.concat()), |farm| {
        let host = farm.namespace("s1");
        let _programs = [8001, 8002].map(|port| Program::silent(&host, port));
        farm.wait_all_up();
        for net in NETS {
            let of = |port| format!("host {} and tcp port {port}", net.farm(1));
            let [whole, half] = [8001, 8002].map(|port| (port, Capture::start(farm, "s1", "eth0", &of(port))));
            sleep(Duration::from_millis(1_300));

            let packets = whole.1.stop();
            assert_paced(&packets);
            let mut seen = connections(&packets, whole.0);
            for steps in &mut seen {
                // The server's acknowledgement and its FIN may be sent on two CPUs and overtake each other: the later
                // one is answered by a reset, when the connection has ended on both sides.
                if steps.iter().any(|step| step == "<.") && steps.last().is_some_and(|step| step == ">R") {
                    steps.pop();
                }
                steps.retain(|step| step != "<.");
            }
            assert_each_says(&[">S", "<S.", ">.", ">F.", "<F.", ">."], &seen, net);
            let packets = half.1.stop();
            assert_paced(&packets);
            assert_each_says(&[">S", "<S.", ">R"], &connections(&packets, half.0), net);
        }
    });
}

fn intervals(packets: &[Packet]) -> Vec<u64> {
    packets.windows(2).map(|pair| (pair[1].at.saturating_sub(pair[0].at)).as_millis() as u64).collect()
}

#[test]
fn a_dead_server_is_asked_at_its_own_pace_and_a_silent_one_is_down_when_its_time_is_over() {
    let paced = format!("[service.check]\nkind = \"tcp\"\n{QUICK}\ndead-interval = \"700ms\"");
    let patient = "[service.check]\nkind = \"tcp\"\ninterval = \"200ms\"\ntimeout = \"150ms\"\nfall = 100\nrise = 1\n\
                   down-after = \"1200ms\"";
    let text = [service("paced", 80, 8001, &paced, 1), service("patient", 81, 8002, patient, 1)];
    farm(Plan::new(1, text.concat()), |farm| {
        let engine = farm.engine();
        let host = farm.namespace("s1");
        let mut programs: Vec<_> = [8001, 8002].map(|port| Program::silent(&host, port)).into();
        farm.wait_all_up();
        let asks = |engine: &Engine, state: &str| {
            engine.wait("paced/s1", state);
            let filter = format!("src host {} and tcp dst port 8001 and tcp[tcpflags] == tcp-syn", Net::V4.farm(1));
            let capture = Capture::start(farm, "s1", "eth0", &filter);
            sleep(Duration::from_millis(2_400));
            intervals(&capture.stop())
        };
        let near = |interval: &u64, wanted: u64| interval.abs_diff(wanted) < 80;

        let alive = asks(&engine, "up");
        assert!(alive.len() >= 9 && alive.iter().all(|interval| near(interval, 200)), "{alive:?} ms");
        programs.clear();
        let silent = engine.wait("patient/s1", "down");
        assert!((900..1_700).contains(&silent.as_millis()), "down-after is 1.2 s, it took {silent:?}");
        let dead = asks(&engine, "down");
        assert!(dead.len() >= 2 && dead.iter().all(|interval| near(interval, 700)), "{dead:?} ms");
    });
}
