//! TCP flows: one request at a time, each answered before the next.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::{Flow, FlowEnd, FlowReport, message, millis};
use std::sync::atomic::Ordering;

/// Keeps a flow busy until its time is over, and opens it again if the plan says so.
pub(super) async fn run(flow: Flow) {
    loop {
        let report = connection(&flow).await;
        let again = if report.end == FlowEnd::Finished { flow.plan.lifetime.is_some() } else { flow.plan.reopen };
        flow.close_report(report).await;
        if !again || Instant::now() >= flow.stop() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn connection(flow: &Flow) -> FlowReport {
    let mut report = flow.open_report();
    let begun = Instant::now();
    let mut stream = match timeout(flow.plan.timeout, TcpStream::connect(flow.plan.to)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return ended(report, end_of(&error), begun),
        Err(_) => return ended(report, FlowEnd::Hung, begun),
    };
    report.longest_stall_ms = millis(begun.elapsed());
    report.local = stream.local_addr().ok().map(|address| address.to_string());
    let _ = stream.set_nodelay(true);
    let mut answer = vec![0; message(0, flow.plan.size).len()];
    let until = flow.plan.lifetime.map_or(flow.stop(), |life| flow.stop().min(begun + life));
    // However long connecting took, one request is sent, because a flow without requests proves nothing.
    while Instant::now() < until || report.sent == 0 {
        let request = message(report.sent, flow.plan.size);
        let asked = Instant::now();
        report.sent += 1;
        flow.tally.sent.fetch_add(1, Ordering::Relaxed);
        let exchange = async {
            stream.write_all(&request).await?;
            stream.read_exact(&mut answer).await
        };
        match timeout(flow.plan.timeout, exchange).await {
            Ok(Ok(_)) if answer == request => {}
            Ok(Ok(_)) => {
                return ended(report, FlowEnd::Failed("the answer differs from the request".to_owned()), asked);
            }
            Ok(Err(error)) => return ended(report, end_of(&error), asked),
            Err(_) => return ended(report, FlowEnd::Hung, asked),
        }
        report.answered += 1;
        flow.tally.answered.fetch_add(1, Ordering::Relaxed);
        report.longest_stall_ms = report.longest_stall_ms.max(millis(asked.elapsed()));
        tokio::time::sleep_until((asked + flow.plan.interval).min(until)).await;
    }
    let asked = Instant::now();
    let goodbye = async {
        stream.shutdown().await?;
        stream.read(&mut answer).await
    };
    match timeout(flow.plan.timeout, goodbye).await {
        Ok(Ok(0)) => report,
        Ok(Ok(_)) => ended(report, FlowEnd::Failed("data after the last answer".to_owned()), asked),
        Ok(Err(error)) => ended(report, end_of(&error), asked),
        Err(_) => ended(report, FlowEnd::Hung, asked),
    }
}

fn ended(mut report: FlowReport, end: FlowEnd, asked: Instant) -> FlowReport {
    let waited = millis(asked.elapsed());
    report.longest_stall_ms = report.longest_stall_ms.max(waited);
    report.waited_ms = Some(waited);
    report.end = end;
    report
}

fn end_of(error: &io::Error) -> FlowEnd {
    match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof => FlowEnd::Reset,
        io::ErrorKind::ConnectionRefused => FlowEnd::Refused,
        io::ErrorKind::TimedOut => FlowEnd::Hung,
        _ => FlowEnd::Failed(error.to_string()),
    }
}
