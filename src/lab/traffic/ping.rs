//! ICMP flows by the program `ping`, because raw sockets belong to `io`.

use std::process::Stdio;
use std::sync::atomic::Ordering;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::time::Instant;

use super::{Flow, FlowEnd, millis};

/// Pings until the flow's time is over.
pub(super) async fn run(flow: Flow) {
    let mut report = flow.open_report();
    let count = (flow.plan.duration.as_millis() / flow.plan.interval.as_millis().max(1)).max(1);
    let spawned = Command::new("ping")
        .args(["-n", "-i", &flow.plan.interval.as_secs_f64().to_string()])
        .args(["-c", &count.to_string(), "-s", &flow.plan.size.to_string(), "-W", "1"])
        .arg(flow.plan.to.ip().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => {
            report.end = FlowEnd::Failed(format!("cannot run ping (package iputils-ping): {error}"));
            return flow.close_report(report).await;
        }
    };
    let mut lines = BufReader::new(child.stdout.take().expect("piped above")).lines();
    let mut last = Instant::now();
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some(sent) = transmitted(&line) {
            report.sent = sent;
        }
        if is_answer(&line) {
            report.answered += 1;
            report.longest_stall_ms = report.longest_stall_ms.max(millis(last.elapsed()));
            last = Instant::now();
            flow.tally.sent.fetch_add(1, Ordering::Relaxed);
            flow.tally.answered.fetch_add(1, Ordering::Relaxed);
        }
    }
    let _ = child.wait().await;
    if report.sent == 0 {
        report.end = FlowEnd::Failed("ping ended without its summary".to_owned());
    }
    flow.close_report(report).await;
}

/// Whether the line reports an answer (`64 bytes from 203.0.113.11: icmp_seq=3 ttl=60 time=0.1 ms`), and neither a
/// duplicate nor an error.
fn is_answer(line: &str) -> bool {
    line.contains(" bytes from ") && line.contains(" time=") && !line.contains("DUP!")
}

/// Parses the 20 of `20 packets transmitted, 19 received, …`.
fn transmitted(line: &str) -> Option<u64> {
    line.split_once(" packets transmitted,")?.0.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pings_own_words_are_understood() {
        assert!(is_answer("64 bytes from 203.0.113.11: icmp_seq=3 ttl=60 time=0.1 ms"));
        assert!(!is_answer("64 bytes from 203.0.113.11: icmp_seq=3 ttl=60 time=0.1 ms (DUP!)"));
        assert!(!is_answer("From 10.1.0.1 icmp_seq=1 Destination Host Unreachable"));
        assert_eq!(transmitted("20 packets transmitted, 19 received, 5% packet loss, time 1923ms"), Some(20));
        assert_eq!(transmitted("rtt min/avg/max/mdev = 0.1/0.1/0.1/0.0 ms"), None);
    }
}
