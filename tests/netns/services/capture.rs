//! The packets on a device, as `tcpdump` sees them: independent of the engine.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::farm::Farm;

/// How long tcpdump may take for what it has to do.
const PATIENCE: Duration = Duration::from_secs(10);

/// A running capture.
pub struct Capture {
    child: Child,
    /// What tcpdump says of itself, by line.
    errors: Receiver<String>,
    /// Read as they arrive: a full pipe stops tcpdump, and then the kernel drops packets that it should have captured.
    packets: JoinHandle<Vec<Packet>>,
}

/// How tcpdump counts packets that passed its filter.
struct Counts {
    /// It has printed these.
    captured: u64,
    /// The kernel has kept these for it, or had no room for them.
    received: u64,
    /// The kernel had no room for these.
    dropped: u64,
}

/// One packet.
#[derive(Debug, Clone)]
pub struct Packet {
    /// Time since 1970.
    pub at: Duration,
    /// `IP 10.10.20.1.600 > 10.10.20.11.80: Flags [S], seq ...`.
    pub text: String,
}

impl Packet {
    /// The TCP flags in tcpdump's letters: `S`, `S.`, `.`, `P.`, `F.`, `R`, ...
    pub fn flags(&self) -> &str {
        let after = self.text.split_once("Flags [").map(|(_, after)| after).unwrap_or_default();
        after.split(']').next().unwrap_or_default()
    }
}

impl Capture {
    /// Captures what `filter` (of pcap) matches on a host's device.
    pub fn start(farm: &Farm, host: &str, device: &str, filter: &str) -> Self {
        let mut command = farm.command(host, "tcpdump");
        // The headers are enough, and with a small snap length the buffer holds more packets.
        command.args(["-i", device, "-nn", "-tt", "-l", "--immediate-mode", "-s", "128", "-B", "8192", "-Z", "root"]);
        let mut child = command
            .args(filter.split_whitespace())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("tcpdump runs");
        // It says so when it listens.
        let (said, errors) = mpsc::channel();
        let lines = BufReader::new(child.stderr.take().expect("piped above")).lines();
        thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| said.send(line)));
        while !errors.recv_timeout(PATIENCE).expect("tcpdump listens").contains("listening on") {}
        let lines = BufReader::new(child.stdout.take().expect("piped above")).lines();
        let packets = thread::spawn(move || lines.map_while(Result::ok).filter_map(|line| packet(&line)).collect());
        Self { child, errors, packets }
    }

    /// Ends it when it has printed everything that has passed until here, and returns that.
    pub fn stop(self) -> Vec<Packet> {
        let end = self.counts().received;
        let start = tokio::time::Instant::now();
        let counts = loop {
            let counts = self.counts();
            if counts.captured + counts.dropped >= end {
                break counts;
            }
            assert!(start.elapsed() < PATIENCE, "tcpdump has printed {} of {end} packets", counts.captured);
            thread::sleep(Duration::from_millis(10));
        };
        assert_eq!(counts.dropped, 0, "the capture itself lost packets");
        self.signal("-INT");
        let Self { mut child, packets, .. } = self;
        let packets = packets.join().expect("the reader does not panic");
        let _ = child.wait();
        packets
    }

    /// Asks tcpdump, which answers SIGUSR1 by `12 packets captured, 13 packets received by filter, 0 packets dropped by
    /// kernel`.
    fn counts(&self) -> Counts {
        self.signal("-USR1");
        let is_answer = |line: &String| line.contains(" captured, ");
        let mut lines = std::iter::from_fn(|| self.errors.recv_timeout(PATIENCE).ok());
        let line = lines.find(is_answer).expect("tcpdump answers");
        let numbers: Vec<u64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let [captured, received, dropped, ..] = numbers[..] else { panic!("three counts, not {line}") };
        Counts { captured, received, dropped }
    }

    /// `ip netns exec` becomes the program that it runs.
    fn signal(&self, signal: &str) {
        let status = std::process::Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(status.expect("kill runs").success(), "tcpdump runs");
    }
}

fn packet(line: &str) -> Option<Packet> {
    let (at, text) = line.trim().split_once(' ')?;
    Some(Packet { at: Duration::from_secs_f64(at.parse().ok()?), text: text.to_owned() })
}
