//! `fwlb set … drain --wait`: waits until the last session has ended.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::{Remaining, Target};
use crate::api::{SessionRequest, SessionSort};
use crate::cli::engines::{Engine, ask};
use crate::cli::output;
use crate::client::ClientError;

/// How often the progress of a drain is read.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// How long a peer may take to learn of the drain before a warning says that the drain never ends.
const PEER_NOTICE_TIMEOUT: Duration = Duration::from_secs(2);

/// Waits until no engine has sessions on it; returns whether that happened in time. On a terminal one line shows the
/// progress.
pub async fn wait(engines: &[Engine], target: &Target<'_>, title: &str, wait: Duration) -> anyhow::Result<bool> {
    let line = line();
    let begin = tokio::time::Instant::now();
    let deadline = begin + wait;
    let mut alone_since = None;
    loop {
        let left = remaining(engines, target).await?;
        let now = tokio::time::Instant::now();
        if left.sessions == 0 && !left.takes_new {
            line.finish_and_clear();
            if !output::is_json() {
                output::print(&format!("{title} has no sessions\n"))?;
            }
            return Ok(true);
        }
        alone_since = if left.takes_new { alone_since.or(Some(now)) } else { None };
        if alone_since.is_some_and(|since| now - since >= PEER_NOTICE_TIMEOUT || now >= deadline) {
            line.finish_and_clear();
            output::print_failure(&format!(
                "{title} still takes new flows, as no other firewall of its group does: this drain has no end; {} now\n\
                 put another firewall in service, or take this one out: fwlb {} maint --force",
                sessions(left.sessions),
                target.command(title)
            ));
            return Ok(false);
        }
        if now >= deadline {
            line.finish_and_clear();
            let after = output::duration_ms(millis(wait));
            output::print_failure(&format!(
                "{title} still has {} after {after}; they stay, and no new ones come",
                sessions(left.sessions)
            ));
            return Ok(false);
        }
        if !line.is_hidden() {
            let idle = longest_idle(engines, target).await;
            line.set_message(progress(title, left.sessions, idle, deadline - now));
        }
        tokio::time::sleep_until(deadline.min(now + POLL_INTERVAL)).await;
    }
}

/// `fw2: 412 sessions left, the longest idle for 1m2s; 14s to go`.
fn progress(title: &str, left: u64, idle: Option<u64>, to_go: Duration) -> String {
    let idle = idle.map(|idle| format!(", the longest idle for {}", output::duration_ms(idle))).unwrap_or_default();
    format!("{title}: {} left{idle}; {} to go", sessions(left), output::duration_ms(millis(to_go)))
}

fn sessions(count: u64) -> String {
    if count == 1 { "1 session".to_owned() } else { format!("{count} sessions") }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A line on standard error that is rewritten in place; nothing if standard error is no terminal.
fn line() -> ProgressBar {
    let line = ProgressBar::new_spinner();
    let style = ProgressStyle::with_template("{spinner} {wide_msg}").expect("the template is well-formed");
    line.set_style(style);
    line.enable_steady_tick(Duration::from_millis(120));
    line
}

/// The most sessions that one engine has on it: both sides of a firewall count the same ones.
async fn remaining(engines: &[Engine], target: &Target<'_>) -> Result<Remaining, ClientError> {
    let mut most = Remaining { sessions: 0, takes_new: false };
    for engine in engines {
        if let Some(left) = target.remaining(engine).await? {
            most.sessions = most.sessions.max(left.sessions);
            most.takes_new |= left.takes_new;
        }
    }
    Ok(most)
}

/// How long the session that has been idle longest has been idle.
async fn longest_idle(engines: &[Engine], target: &Target<'_>) -> Option<u64> {
    let mut longest = None;
    for engine in engines {
        let sort = Some(SessionSort::Idle);
        let quietest = SessionRequest { filter: target.filter(), sort, limit: Some(1), after: None };
        if let Ok((_, page)) = ask(engine, &quietest).await {
            longest = longest.max(page.rows.first().map(|session| session.idle_ms));
        }
    }
    longest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_how_many_are_left_how_quiet_they_are_and_how_long_it_may_take() {
        let (minute, quarter) = (Some(62_000), Duration::from_secs(14));
        assert_eq!(
            progress("fw2", 412, minute, quarter),
            "fw2: 412 sessions left, the longest idle for 1m2s; 14s to go"
        );
        assert_eq!(progress("web/s1", 1, None, quarter), "web/s1: 1 session left; 14s to go");
    }
}
