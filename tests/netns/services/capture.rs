//! What passes a device, as `tcpdump` sees it: the wire itself is asked, not the engine.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Stdio};
use std::thread;
use std::time::Duration;

use super::farm::Farm;

/// A capture that runs.
pub struct Capture {
    child: Child,
    lines: BufReader<ChildStdout>,
}

/// One packet.
#[derive(Debug, Clone)]
pub struct Packet {
    /// Since the epoch.
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
        command.args(["-i", device, "-nn", "-tt", "-l", "--immediate-mode", "-B", "8192", "-Z", "root"]);
        let mut child = command
            .args(filter.split_whitespace())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("tcpdump runs");
        // It says so when it listens.
        let mut errors = BufReader::new(child.stderr.take().expect("piped above"));
        let mut line = String::new();
        while !line.contains("listening on") {
            line.clear();
            assert!(errors.read_line(&mut line).expect("tcpdump says something") > 0, "tcpdump ended");
        }
        thread::spawn(move || std::io::copy(&mut errors, &mut std::io::sink()));
        let lines = BufReader::new(child.stdout.take().expect("piped above"));
        Self { child, lines }
    }

    /// Ends it; everything that was seen.
    pub fn stop(mut self) -> Vec<Packet> {
        // What passed a moment ago is on its way through tcpdump.
        thread::sleep(Duration::from_millis(100));
        // `ip netns exec` becomes the program that it runs.
        let _ = std::process::Command::new("kill").args(["-INT", &self.child.id().to_string()]).status();
        let mut packets = Vec::new();
        let mut line = String::new();
        while self.lines.read_line(&mut line).is_ok_and(|length| length > 0) {
            if let Some((at, text)) = line.trim().split_once(' ')
                && let Ok(at) = at.parse::<f64>()
            {
                packets.push(Packet { at: Duration::from_secs_f64(at), text: text.to_owned() });
            }
            line.clear();
        }
        let _ = self.child.wait();
        packets
    }
}
