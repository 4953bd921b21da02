//! The packets on a device, as `tcpdump` sees them: independent of the engine.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::farm::Farm;

/// A running capture.
pub struct Capture {
    child: Child,
    /// Read as they arrive: a full pipe stops tcpdump, and then the kernel drops packets that it should have captured.
    packets: JoinHandle<Vec<Packet>>,
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
        // tcpdump reports when it has begun to capture.
        let mut errors = BufReader::new(child.stderr.take().expect("piped above"));
        let mut line = String::new();
        while !line.contains("listening on") {
            line.clear();
            assert!(errors.read_line(&mut line).expect("tcpdump says something") > 0, "tcpdump ended");
        }
        thread::spawn(move || std::io::copy(&mut errors, &mut std::io::sink()));
        let lines = BufReader::new(child.stdout.take().expect("piped above")).lines();
        let packets = thread::spawn(move || lines.map_while(Result::ok).filter_map(|line| packet(&line)).collect());
        Self { child, packets }
    }

    /// Ends the capture, and returns all packets.
    pub fn stop(mut self) -> Vec<Packet> {
        // The last packets are still on their way through tcpdump.
        thread::sleep(Duration::from_millis(100));
        // `ip netns exec` replaces itself with the program that it runs.
        let _ = std::process::Command::new("kill").args(["-INT", &self.child.id().to_string()]).status();
        let packets = self.packets.join().expect("the reader does not panic");
        let _ = self.child.wait();
        packets
    }
}

fn packet(line: &str) -> Option<Packet> {
    let (at, text) = line.trim().split_once(' ')?;
    Some(Packet { at: Duration::from_secs_f64(at.parse().ok()?), text: text.to_owned() })
}
