//! `fwlb ha failover`: another node becomes active.

use std::process::ExitCode;
use std::time::Duration;

use crate::api::calls;
use crate::cli::engines::{Engine, EngineSelection, ask, block_on, whoami};
use crate::cli::output;
use crate::ha::Role;
use crate::ha::view::HaView;

/// Give the active role to another node; to be said to the active one
///
/// It is refused if no other node could take over, or if the node is not ready.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The node that is to be active; default: a ready one first, then the one with the fewest deductions, then
    /// the one of the highest priority
    #[arg(long, value_name = "NODE")]
    to: Option<String>,
    /// Wait until another node is active, at most this long
    #[arg(long, value_name = "TIME", value_parser = output::parse_duration)]
    wait: Option<Duration>,
    /// Also to a node that is not ready: sessions of which it has no copy break
    #[arg(long)]
    force: bool,
    /// Why: one line; it is shown with the change of role
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// How often the roles are looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

pub fn run(args: &Args, selection: &EngineSelection) -> anyhow::Result<ExitCode> {
    let engine = selection.engine()?;
    let Args { to, wait, force, reason } = args;
    let call = calls::HaFailover { to: to.clone(), reason: reason.clone(), by: Some(whoami()), force: *force };
    let taken: anyhow::Result<bool> = block_on(async {
        let (value, done) = ask(&engine, &call).await?;
        output::print_done(&value, &done)?;
        match wait {
            None => Ok(true),
            Some(wait) => wait_for_takeover(&engine, *wait).await,
        }
    })?;
    taken.map(|taken| if taken { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Waits until another node is active; false if none is in time.
async fn wait_for_takeover(engine: &Engine, wait: Duration) -> anyhow::Result<bool> {
    let begin = tokio::time::Instant::now();
    loop {
        let (_, views) = ask(engine, &calls::Ha {}).await?;
        let view = views.first();
        if let Some(node) = view.and_then(successor) {
            if !output::is_json() {
                output::print(&format!("{node} is active after {}\n", in_words(begin.elapsed())))?;
            }
            return Ok(true);
        }
        if begin.elapsed() >= wait {
            output::print_failure(&no_successor(&engine.name, wait, view));
            return Ok(false);
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// Says that no other node became active in time, and what became of this one: its reason tells why the role came back.
fn no_successor(engine: &str, wait: Duration, view: Option<&HaView>) -> String {
    let what = match view {
        Some(view) => format!("{engine} is {}: {}", view.role, view.reason),
        None => format!("{engine} has no role any more"),
    };
    format!("no other node is active after {}; {what}", in_words(wait))
}

fn in_words(duration: Duration) -> String {
    output::duration_ms(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

/// The other node that is active, once this one is not.
fn successor(view: &HaView) -> Option<&str> {
    let is_active = |role: &crate::named_enum::EnumOrUnknown<Role>| *role == Role::Active;
    let gave_away = view.role != Role::Active && view.role != Role::Leaving;
    let other = view.nodes.iter().find(|node| node.role.as_ref().is_some_and(is_active))?;
    gave_away.then_some(other.name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ha::view::sample;

    #[test]
    fn the_successor_is_the_other_active_node_once_this_one_gave_the_role_away() {
        let mut view = sample();
        view.nodes[0].role = Some(Role::Active.into());
        assert_eq!(successor(&view), None, "both are active for a moment");
        view.role = Role::Leaving.into();
        assert_eq!(successor(&view), None);
        view.role = Role::Standby.into();
        assert_eq!(successor(&view), Some("outer-b"));
        view.nodes[0].role = None;
        assert_eq!(successor(&view), None);
    }

    #[test]
    fn a_role_that_did_not_move_is_told_with_its_reason() {
        let wait = Duration::from_millis(1500);
        assert_eq!(
            no_successor("outer-a", wait, Some(&sample())),
            "no other node is active after 1.5s; outer-a is active: outer-b was silent for 97 ms"
        );
        assert_eq!(
            no_successor("outer-a", wait, None),
            "no other node is active after 1.5s; outer-a has no role any more"
        );
    }
}
