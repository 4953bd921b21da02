//! UDP flows: datagrams at a steady pace, whether they are answered or not.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::Ordering;

use tokio::time::Instant;

use super::{Flow, FlowEnd, LOST_MAX, message, millis};

/// Sends until the flow's time is over, then waits for late answers for the plan's timeout.
pub(super) async fn run(flow: Flow) {
    let mut report = flow.open_report();
    let any: SocketAddr = match flow.plan.to {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = match super::datagrams(any).await {
        Ok(socket) => socket,
        Err(error) => {
            report.end = FlowEnd::Failed(error.to_string());
            return flow.close_report(report).await;
        }
    };
    if let Err(error) = socket.connect(flow.plan.to).await {
        report.end = FlowEnd::Failed(error.to_string());
        return flow.close_report(report).await;
    }
    report.local = socket.local_addr().ok().map(|address| address.to_string());
    // The time of each unanswered request.
    let mut open: Vec<Option<u64>> = Vec::new();
    let mut buffer = vec![0; 65_536];
    let mut last = Instant::now();
    let mut ticks = tokio::time::interval(flow.plan.interval);
    let give_up = flow.stop() + flow.plan.timeout;
    loop {
        let sending = Instant::now() < flow.stop();
        if !sending && (report.answered == report.sent || Instant::now() >= give_up) {
            break;
        }
        tokio::select! {
            _ = ticks.tick(), if sending => {
                // An error is an ICMP error about an earlier datagram, or a route that is missing for a moment: this
                // datagram is lost.
                let _ = socket.send(&message(report.sent, flow.plan.size)).await;
                report.sent += 1;
                open.push(Some(flow.since_start()));
                flow.tally.sent.fetch_add(1, Ordering::Relaxed);
            }
            received = socket.recv(&mut buffer) => {
                let Ok(length) = received else { continue };
                let Some(number) = buffer[..length].first_chunk().map(|bytes| u64::from_be_bytes(*bytes)) else { continue };
                let whole = buffer[..length] == message(number, flow.plan.size);
                if whole && open.get_mut(number as usize).is_some_and(|request| request.take().is_some()) {
                    report.answered += 1;
                    flow.tally.answered.fetch_add(1, Ordering::Relaxed);
                    report.longest_stall_ms = report.longest_stall_ms.max(millis(last.elapsed()));
                    last = Instant::now();
                }
            }
            () = tokio::time::sleep_until(if sending { flow.stop() } else { give_up }) => {}
        }
    }
    if report.answered < report.sent {
        report.longest_stall_ms = report.longest_stall_ms.max(millis(last.elapsed().saturating_sub(flow.plan.timeout)));
    }
    report.lost_at_ms = open.into_iter().flatten().take(LOST_MAX).collect();
    flow.close_report(report).await;
}
