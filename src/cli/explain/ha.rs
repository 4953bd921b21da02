//! `fwlb explain ha`: who is active in the cluster and why.

use std::process::ExitCode;

use crate::api::calls;
use crate::cli::engines::{EngineSelection, ask, block_on};
use crate::cli::explain::draw::Page;
use crate::cli::output;
use crate::ha::explained::ExplainedHaView;

pub fn run(selection: &EngineSelection) -> anyhow::Result<ExitCode> {
    let engine = selection.engine()?;
    let (value, explained) = block_on(ask(&engine, &calls::ExplainHa {}))??;
    match selection.json {
        true => output::print_json(&value)?,
        false => output::print(&show(&explained))?,
    }
    Ok(if explained.active.is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The answer first, then each node with the rule that decides about it, then the whole in sentences.
fn show(explained: &ExplainedHaView) -> String {
    let active = explained.active.as_deref().unwrap_or("no node that is known");
    let mut page =
        Page::new(&format!("{}: {}, by the rule \"{}\"", explained.engine, explained.role, explained.rule.name()));
    page.line("active", active);
    page.line("if it dies", explained.next.as_deref().unwrap_or("nobody that is known takes over"));
    let rows: Vec<_> = explained
        .nodes
        .iter()
        .map(|node| {
            let role = node.role.as_ref().map_or("-", |role| role.name());
            let could = if node.could_take_over { "yes" } else { "no" };
            [&node.name, role, could, node.rule.name()].map(str::to_owned).to_vec()
        })
        .collect();
    page.table(&["NODE", "ROLE", "COULD TAKE OVER", "RULE"], &rows);
    page.story(&explained.story);
    page.text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_is_explained_answer_first() {
        let explained = serde_json::from_value(serde_json::json!({
            "engine": "outer-a", "role": "active", "active": "outer-a", "rule": "silence", "deductions": [],
            "moved": null, "next": "outer-b",
            "story": ["outer-a, this node, is active, in term 7.",
                "It has been active for 5 s: outer-b was silent for 97 ms, and nobody else was."],
            "nodes": [
                {"name": "outer-a", "role": "active", "could_take_over": false, "rule": "silence", "why": "x"},
                {"name": "outer-b", "role": null, "could_take_over": true, "rule": "score", "why": "x"},
            ],
        }));
        assert_eq!(
            show(&explained.unwrap()),
            "outer-a: active, by the rule \"silence\"\n\
             \x20 active     outer-a\n\
             \x20 if it dies outer-b\n\
             \n\
             NODE     ROLE    COULD TAKE OVER  RULE\n\
             outer-a  active  no               silence\n\
             outer-b  -       yes              score\n\
             \n\
             why\n\
             \x20 1. outer-a, this node, is active, in term 7.\n\
             \x20 2. It has been active for 5 s: outer-b was silent for 97 ms, and nobody else\n\
             \x20    was.\n"
        );
    }
}
