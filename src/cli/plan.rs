//! `fwlb plan`: what a reload would do.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::api::calls;
use crate::cli::engines::{EngineSelection, ask, block_on};
use crate::cli::output;
use crate::cli::reload::absolute;
use crate::engine::view::{MoveView, NewFlowsView, PlanView, SessionFate};
use crate::ha::Role;
use crate::named_enum::EnumOrUnknown;

/// Show what a reload would do: the differences, and which live sessions would move
///
/// Nothing changes. The exit status is 0 if a reload would take the file, 1 if it would not.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration file; default: the engine's own
    #[arg(value_name = "CONFIG")]
    config: Option<PathBuf>,
}

pub fn run(args: &Args, selection: &EngineSelection) -> anyhow::Result<ExitCode> {
    let config = args.config.as_deref().map(absolute).transpose()?;
    ask_and_show(selection, &calls::Plan { config, back: None })
}

/// Asks for a plan and prints it.
pub fn ask_and_show(selection: &EngineSelection, call: &calls::Plan) -> anyhow::Result<ExitCode> {
    let engine = selection.engine()?;
    let (value, plan) = block_on(ask(&engine, call))??;
    output::print_error(&plan.diagnostics);
    if selection.json {
        output::print_json(&value)?;
    } else {
        output::print(&show(&plan))?;
    }
    Ok(if plan.possible { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The plan in words.
pub fn show(plan: &PlanView) -> String {
    let mut text = String::new();
    for difference in &plan.differences {
        let _ = writeln!(text, "{difference}");
    }
    if !plan.possible {
        let _ = writeln!(text, "a reload would refuse this: restart engine {} for it", plan.engine);
        return text;
    }
    if !plan.changes {
        let _ = writeln!(text, "nothing would change: engine {} runs with this already", plan.engine);
        return text;
    }
    if let Some(role) = plan.role.as_ref().filter(|role| **role != Role::Active) {
        let other = plan.active_node.as_ref().map_or_else(
            || "no active one is heard".to_owned(),
            |node| format!("{node} is active, and its sessions are not among these"),
        );
        let _ = writeln!(text, "this node is {role}: {other}");
    }
    let _ = match plan.moved {
        0 => writeln!(text, "sessions: all {} stay where they are", plan.sessions),
        moved => writeln!(text, "sessions: {moved} of {} do not stay where they are", plan.sessions),
    };
    plan.moves.iter().for_each(|way| text.push_str(&show_move(way)));
    if plan.healthy_moved > 0 {
        let _ = writeln!(
            text,
            "  {} of them would leave a firewall that is well: report this, it is a defect",
            plan.healthy_moved
        );
    }
    plan.new_flows.iter().for_each(|group| text.push_str(&show_new_flows(group)));
    text
}

fn show_move(way: &MoveView) -> String {
    let MoveView { kind, from, to, fate, sessions } = way;
    let to = to.as_ref().map_or_else(String::new, |to| format!(" to {to}"));
    format!(
        "  {sessions} of {kind} {from}: {fate}{to}\n",
        fate = if *sessions == 1 { fate.name() } else { plural(fate) }
    )
}

/// The effect on a session, in the plural form.
fn plural(fate: &EnumOrUnknown<SessionFate>) -> &str {
    match fate.known() {
        Some(SessionFate::Moves) => "move",
        Some(SessionFate::IsReset) => "are reset",
        Some(SessionFate::IsDropped) => "are dropped",
        Some(SessionFate::WaitsForPath) => "wait for a path",
        None => fate.name(),
    }
}

fn show_new_flows(group: &NewFlowsView) -> String {
    let NewFlowsView { group, moved_percent, sample: _, firewalls } = group;
    let mut text = format!("new flows of group {group}: {moved_percent:.1} % would go to another firewall\n");
    if *moved_percent > 0.0 {
        for share in firewalls {
            let _ = writeln!(text, "  {}: {:.1} % -> {:.1} %", share.name, share.before_percent, share.after_percent);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Difference;
    use crate::engine::view::{MemberShare, ObjectKind};

    fn plan() -> PlanView {
        PlanView {
            engine: "outer".into(),
            config: "/etc/fwlb/outer.toml".into(),
            changes: true,
            differences: vec![
                Difference {
                    subject: "firewall perimeter/fw1".into(),
                    key: Some("weight".into()),
                    from: Some("1".into()),
                    to: Some("3".into()),
                },
                Difference { subject: "firewall perimeter/fw2".into(), key: None, from: Some(String::new()), to: None },
            ],
            diagnostics: String::new(),
            possible: true,
            sessions: 100,
            moved: 41,
            healthy_moved: 0,
            moves: vec![MoveView {
                kind: ObjectKind::Firewall.into(),
                from: "perimeter/fw2".into(),
                to: Some("perimeter/fw1".into()),
                fate: SessionFate::Moves.into(),
                sessions: 41,
            }],
            new_flows: vec![NewFlowsView {
                group: "perimeter".into(),
                moved_percent: 41.25,
                sample: 10_000,
                firewalls: vec![MemberShare { name: "fw1".into(), before_percent: 58.75, after_percent: 100.0 }],
            }],
            role: None,
            active_node: None,
        }
    }

    #[test]
    fn a_plan_reads_as_a_change_of_a_network() {
        let expected = "\
firewall perimeter/fw1: weight 1 -> 3
firewall perimeter/fw2: removed
sessions: 41 of 100 do not stay where they are
  41 of firewall perimeter/fw2: move to perimeter/fw1
new flows of group perimeter: 41.2 % would go to another firewall
  fw1: 58.8 % -> 100.0 %
";
        assert_eq!(show(&plan()), expected);
    }

    #[test]
    fn of_a_node_that_is_not_active_it_is_said_whose_sessions_are_missing() {
        let standby = PlanView { role: Some(Role::Standby.into()), active_node: Some("outer-a".to_owned()), ..plan() };
        let text = show(&standby);
        let told = "this node is standby: outer-a is active, and its sessions are not among these\nsessions: 41 of 100";
        assert!(text.contains(told), "{text}");
        let text = show(&PlanView { active_node: None, ..standby });
        assert!(text.contains("this node is standby: no active one is heard\n"), "{text}");
        assert_eq!(show(&PlanView { role: Some(Role::Active.into()), ..plan() }), show(&plan()));
    }

    #[test]
    fn a_file_that_takes_a_restart_promises_nothing_about_sessions() {
        let text = show(&PlanView { possible: false, ..plan() });
        assert!(text.ends_with("a reload would refuse this: restart engine outer for it\n"), "{text}");
        assert!(!text.contains("sessions"), "{text}");
    }
}
