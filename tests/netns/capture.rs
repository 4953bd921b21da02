//! `fwlb capture` on real packets, read by another program.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::Duration;

use fwlb::lab::{Side, Station};

use crate::ground::{FWLB, Rig, assert_all_answered, patient, said, sandwich};
use crate::services::sandwich::{farm, page};

/// A capture in the background, on every engine of the lab.
struct Capture {
    child: Child,
    file: PathBuf,
}

impl Capture {
    fn start(rig: &Rig, words: &[&str]) -> Self {
        let file = rig.lab.directory().join("capture.pcapng");
        let mut command = fwlb(rig);
        command.arg("capture").arg("-w").arg(&file).args(words);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("fwlb runs");
        // The file is created when every engine captures, and begins with the descriptions of the links.
        rig.within(Duration::from_secs(5), "the capture has begun", |_| {
            std::fs::metadata(&file).is_ok_and(|file| file.len() > 200)
        });
        Self { child, file }
    }

    /// Ends the capture as Ctrl-C does, and returns its output.
    fn stop(self) -> (PathBuf, String) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().expect("kill runs").success());
        self.wait()
    }

    fn wait(self) -> (PathBuf, String) {
        let output = self.child.wait_with_output().expect("fwlb ends");
        assert!(output.status.success(), "{}", said(&output));
        (self.file, String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// The command `fwlb` with the sockets of this lab only.
fn fwlb(rig: &Rig) -> Command {
    let mut command = Command::new(FWLB);
    command.env("FWLB_RUN_DIRECTORY", rig.lab.socket(Side::Outer).parent().expect("a directory"));
    command
}

/// The fields of every frame, as tshark reads them.
fn tshark(file: &Path, filter: &str, fields: &[&str]) -> Vec<Vec<String>> {
    let mut command = Command::new("tshark");
    command.arg("-r").arg(file).args(["-Y", filter, "-T", "fields"]);
    fields.iter().for_each(|field| _ = command.args(["-e", field]));
    let output = command.stdin(Stdio::null()).output().expect("tshark runs");
    rows(&output)
}

fn rows(output: &Output) -> Vec<Vec<String>> {
    assert!(output.status.success(), "{}", said(output));
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect()
}

#[test]
fn one_translated_session_is_captured_on_both_legs_of_both_engines_and_nothing_else_is() {
    farm(|rig| {
        let capture = Capture::start(rig, &["--flow", "tcp 198.51.100.7:41000 203.0.113.80:8000"]);

        // Another session between the same hosts.
        assert!(page(rig, Station::Client, "http://203.0.113.80:8000/").is_some());
        let words = ["curl", "-s", "-m", "2", "--local-port", "41000", "http://203.0.113.80:8000/"];
        let server = rig.exec(Station::Client, &words).split_whitespace().next().expect("a name").to_owned();
        assert!(page(rig, Station::Client, "http://203.0.113.80:8000/").is_some());
        sleep(Duration::from_millis(300));
        let (file, said) = capture.stop();

        let fields = ["frame.interface_name", "ip.src", "tcp.srcport", "ip.dst", "tcp.dstport", "tcp.flags.syn"];
        let frames = tshark(&file, "frame", &fields);
        let legs = |from: &str, to: &str| {
            let end = |row: &[String], at: usize| format!("{}:{}", row[at], row[at + 1]);
            frames.iter().filter(|row| end(row, 1) == from && end(row, 3) == to).count()
        };
        let (client, vip) = ("198.51.100.7:41000", "203.0.113.80:8000");
        let real = if server == "s1" { "203.0.113.11:80" } else { "203.0.113.12:80" };
        // The outer engine sees a packet to the service twice: on its way to the inner engine, and on its way back.
        let (inward, inside) = (legs(client, vip), legs(client, real));
        let (outward, answers) = (legs(vip, client), legs(real, client));
        assert!(inside >= 5 && answers >= 4, "{frames:#?}");
        assert_eq!((inward, outward), (3 * inside, 3 * answers), "{frames:#?}");
        assert_eq!(frames.len(), inward + inside + outward + answers, "nothing else: {frames:#?}");
        let mut links: Vec<_> = frames.iter().map(|row| row[0].as_str()).collect();
        links.sort_unstable();
        links.dedup();
        assert_eq!(links, ["inner/firewalls", "inner/servers", "outer/clients", "outer/firewalls"]);
        assert!(said.contains(&format!("{} frames of inner, outer; 0 lost", frames.len())), "{said}");

        // The path of the SYN, in order, with the verdict of each engine.
        let syn = tshark(&file, "tcp.flags.syn == 1 && tcp.flags.ack == 0", &["frame.interface_name", "frame.comment"]);
        let order: Vec<_> = syn.iter().map(|row| row[0].as_str()).collect();
        assert_eq!(order, ["outer/clients", "outer/firewalls", "inner/firewalls", "inner/servers"]);
        assert!(
            syn[0][1].starts_with("forward -> fw") && syn[0][1].contains("(new session, opening, hash)"),
            "{syn:?}"
        );
        assert!(syn[2][1].starts_with("forward from fw"), "{syn:?}");
        assert!(syn[3][1].contains(&format!("; service web, server {server}, tcp {client} {vip} inside")), "{syn:?}");
    });
}

#[test]
fn a_capture_is_piped_to_its_reader_and_filters_by_link_and_firewall() {
    sandwich(patient, |rig| {
        let socket = rig.lab.socket(Side::Outer);
        let line = format!(
            "{FWLB} -s {} capture -w - --link firewalls --firewall fw1 --count 20 | tshark -r - -T fields \
             -e frame.interface_name -e frame.comment -e frame.protocols",
            socket.display()
        );
        let output = Command::new("timeout").args(["20", "sh", "-c", &line]).stdin(Stdio::null()).output();
        let rows = rows(&output.expect("sh runs"));

        assert_eq!(rows.len(), 20, "{rows:?}");
        assert!(rows.iter().all(|row| row[0] == "outer/firewalls"), "{rows:?}");
        // Neighbour solicitations are ICMPv6, too, but carry no data.
        let probes = rows.iter().filter(|row| row[2].contains("icmp") && row[2].ends_with("data"));
        let comments: Vec<_> = probes.map(|row| row[1].as_str()).collect();
        assert!(comments.contains(&"sent by the engine -> fw1"), "{rows:?}");
        assert!(comments.contains(&"to the engine from fw1"), "{rows:?}");
        assert!(comments.iter().all(|comment| comment.contains("fw1")), "{rows:?}");
    });
}

#[test]
fn a_flood_that_is_captured_whole_is_forwarded_as_one_that_is_not() {
    sandwich(patient, |rig| {
        // A reader that reads nothing: the capture's queues become full and stay so.
        let socket = rig.lab.socket(Side::Outer);
        let mut stuck = Command::new(FWLB);
        stuck.arg("-s").arg(&socket).args(["capture", "-w", "-"]);
        let mut stuck = stuck.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("fwlb runs");
        sleep(Duration::from_millis(300));

        let words = "--flows 50 --interval-ms 20 --duration-ms 3000 --patience-ms 8000";
        let flows = rig.start(Station::Client, &format!("tcp 203.0.113.11 {words}"));
        let mut flood = rig.lab.command(Station::Client, "hping3");
        flood.args(["--udp", "-q", "-p", "9", "-d", "1000", "-i", "u100", "-c", "50000", "203.0.113.12"]);
        assert!(flood.stdout(Stdio::null()).stderr(Stdio::null()).status().expect("hping3 runs").success());
        assert_all_answered(&flows.flows());

        let counters = rig.lab.counters(Side::Outer).expect("answers while a capture is stuck");
        assert!(counters["received"] > 50_000, "{counters:?}");
        assert_eq!((counters["ring_dropped"], counters["drop_punt_queue_full"]), (0, 0), "{counters:?}");
        // A bridge that has forgotten a MAC address floods frames for it, so that frames for firewalls reach the
        // engine, too.
        assert_eq!(counters["dropped"], counters["drop_other_host"], "{counters:?}");
        stuck.kill().expect("is ours");
        stuck.wait().expect("ends");

        // A capture whose reader is gone leaves nothing behind, and there is room for the next.
        for _ in 0..6 {
            let capture = Capture::start(rig, &["--seconds", "1", "--link", "outer/clients"]);
            let (file, _) = capture.wait();
            assert_eq!(tshark(&file, "frame.interface_name != \"outer/clients\"", &["frame.number"]).len(), 0);
        }
        rig.assert_firewalls_dropped_nothing();
    });
}
