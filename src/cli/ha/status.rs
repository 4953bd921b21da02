//! `fwlb ha status`: the nodes of a cluster as the engines here see them.

use std::process::ExitCode;

use anyhow::bail;

use crate::api::calls;
use crate::cli::engines::{EngineSelection, ask_all, block_on};
use crate::cli::output;
use crate::cli::show::{self, cluster};
use crate::ha::view::{HaView, NodeView};
use crate::ha::{NodeKind, Role};

pub fn run(selection: &EngineSelection) -> anyhow::Result<ExitCode> {
    let engines = selection.engines()?;
    let (answers, failures) = block_on(ask_all(&engines, &calls::Ha {}))??;
    let views: Vec<&HaView> = answers.iter().flat_map(|(_, _, views)| views).collect();
    if views.is_empty() && failures.is_empty() {
        bail!("no engine here is a node of a cluster: none has [ha] in its file");
    }
    match selection.json {
        true => output::print_json(&show::merged(&answers, engines.len() > 1))?,
        false => output::print(&cluster::text(&answers))?,
    }
    failures.iter().for_each(output::print_client_error);
    let all_well = failures.is_empty() && views.into_iter().all(is_redundant);
    Ok(if all_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// True if a node is active and another one could take over. Of a VRRP router only the active one is heard.
fn is_redundant(view: &HaView) -> bool {
    let is_active = |node: &NodeView| node.role.as_ref().is_some_and(|role| *role == Role::Active);
    let is_ready = |node: &NodeView| {
        let is_standby = node.role.as_ref().is_some_and(|role| *role == Role::Standby);
        node.kind == NodeKind::Vrrp || (is_standby && node.ready)
    };
    let own_standby = view.role == Role::Standby && view.ready;
    (view.role == Role::Active && view.nodes.iter().any(is_ready)) || (own_standby && view.nodes.iter().any(is_active))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ha::view::sample;

    #[test]
    fn redundancy_is_an_active_node_and_one_that_could_take_over() {
        let mut view = sample();
        assert!(is_redundant(&view));
        view.nodes[0].ready = false;
        assert!(!is_redundant(&view), "it lacks copies");
        view.nodes[0].kind = NodeKind::Vrrp.into();
        assert!(is_redundant(&view), "a VRRP router that is not active says nothing");
        view.nodes[0].role = Some(Role::Active.into());
        view.role = Role::Standby.into();
        assert!(is_redundant(&view));
        view.nodes[0].role = None;
        assert!(!is_redundant(&view), "nobody is active");
    }
}
