//! The nodes of all clusters, each once, from what several engines say of them.
//!
//! A node knows most of itself. Of one whose engine is not asked, or does not answer, it counts what the node says that
//! heard it last.

use std::collections::{BTreeMap, BTreeSet};

use super::cluster;
use crate::cli::output::Tone;
use crate::ha::view::{HaView, NodeView};
use crate::ha::{NodeKind, Role};
use crate::named_enum::EnumOrUnknown;

/// What an engine says of its cluster.
#[derive(Debug, Clone, Copy)]
pub struct Told<'a> {
    /// Its words.
    pub view: &'a HaView,
    /// False if its engine has not answered since: it counts only where no other engine of its cluster answers.
    pub answers: bool,
}

/// A node as it is known.
#[derive(Debug)]
pub struct Node<'a> {
    /// Its name.
    pub name: &'a str,
    /// What it says itself.
    own: Option<&'a HaView>,
    /// What others say of it, each with all that it says; first the one that heard it last.
    heard_by: Vec<(&'a HaView, &'a NodeView)>,
}

/// The nodes of each cluster in the order of their names, one cluster after the other.
pub fn nodes<'a>(told: &[Told<'a>]) -> Vec<Node<'a>> {
    let answering: BTreeSet<_> = told.iter().filter(|one| one.answers).map(|one| one.view.cluster()).collect();
    let mut clusters: BTreeMap<String, BTreeMap<&str, Node<'a>>> = BTreeMap::new();
    for Told { view, answers } in told.iter().copied() {
        let name = view.cluster();
        if !answers && answering.contains(&name) {
            continue;
        }
        let known = clusters.entry(name).or_default();
        known.entry(&view.node).or_insert_with_key(|name| Node::new(name)).own = Some(view);
        for other in &view.nodes {
            let node = known.entry(&other.name).or_insert_with_key(|name| Node::new(name));
            node.heard_by.push((view, other));
        }
    }
    let mut nodes: Vec<_> = clusters.into_values().flat_map(BTreeMap::into_values).collect();
    for node in &mut nodes {
        node.heard_by.sort_by_key(|(_, seen)| age(seen).unwrap_or(u64::MAX));
    }
    nodes
}

/// Time since the node was heard on any path; `None` for one that is not heard.
fn age(seen: &NodeView) -> Option<u64> {
    seen.role.as_ref()?;
    seen.heard.iter().map(|heard| heard.age_ms).min()
}

impl<'a> Node<'a> {
    const fn new(name: &'a str) -> Self {
        Self { name, own: None, heard_by: Vec::new() }
    }

    /// Whoever heard it last.
    fn seen(&self) -> Option<&NodeView> {
        self.heard_by.first().map(|(_, seen)| *seen)
    }

    /// Its role; `None` if nobody hears it.
    pub fn role(&self) -> Option<&EnumOrUnknown<Role>> {
        match self.own {
            Some(own) => Some(&own.role),
            None => self.seen()?.role.as_ref(),
        }
    }

    /// Its role in words.
    pub fn role_text(&self) -> &str {
        self.role().map_or("not heard", EnumOrUnknown::name)
    }

    /// The tone of its role. A router of VRRP alone is not heard while another node is active.
    pub fn tone(&self) -> Tone {
        match self.role() {
            Some(role) => Tone::of_state(role.name()),
            None if self.is_router() => Tone::Dim,
            None => Tone::Bad,
        }
    }

    fn is_router(&self) -> bool {
        self.own.is_none() && self.seen().is_some_and(|seen| seen.kind == NodeKind::Vrrp)
    }

    /// Whether it has all copies of sessions that it needs; `None` if nobody knows.
    pub fn ready(&self) -> Option<bool> {
        match self.own {
            Some(own) => Some(own.ready),
            None if self.is_router() => None,
            None => self.seen().filter(|seen| seen.role.is_some()).map(|seen| seen.ready),
        }
    }

    /// Its priority, with what is taken from that of its file.
    pub fn priority(&self) -> String {
        match (self.own, self.seen()) {
            (Some(own), _) => cluster::own_priority(own),
            (None, Some(seen)) => cluster::priority(seen.priority, seen.base, seen.deductions),
            (None, None) => "-".to_owned(),
        }
    }

    /// The term that it knows, or in which it was last active.
    pub fn term(&self) -> u32 {
        self.own.map(|own| own.term).or_else(|| self.seen().map(|seen| seen.term)).unwrap_or(0)
    }

    /// The version of its program.
    pub fn version(&self) -> Option<&str> {
        match self.own {
            Some(own) => Some(&own.version),
            None => self.seen()?.version.as_deref(),
        }
    }

    /// How long it has had its role, as it says itself.
    pub fn since_ms(&self) -> Option<u64> {
        self.own.map(|own| own.since_ms)
    }

    /// The copies of sessions that it holds, of how many, and how far behind, as the active node says; else how many it
    /// says itself. `None` where there are none.
    pub fn copies(&self) -> Option<String> {
        let told = self.heard_by.iter().find_map(|(by, seen)| cluster::told_copies(by, seen));
        let own = self.own.map_or_else(|| self.seen().map_or(0, |seen| seen.sessions_held), |own| own.sessions_held);
        told.map(|(held, behind)| format!("{held}, {behind}")).or_else(|| (own > 0).then(|| own.to_string()))
    }

    /// Who hears it, when, and on which paths.
    pub fn heard(&self) -> String {
        let one = |(by, seen): &(&HaView, &NodeView)| match age(seen) {
            Some(age) => {
                let paths: Vec<_> = seen.heard.iter().map(|heard| heard.path.as_str()).collect();
                format!("{age} ms ago by {} on {}", by.node, paths.join(", "))
            }
            None if seen.kind == NodeKind::Vrrp => format!("not by {}, as a VRRP router that is not active", by.node),
            None => format!("not by {}", by.node),
        };
        match self.heard_by.is_empty() {
            true => "-".to_owned(),
            false => self.heard_by.iter().map(one).collect::<Vec<_>>().join("; "),
        }
    }

    /// What is wrong with it; of a node with nothing wrong, why it has its role.
    pub fn words(&self) -> (String, Tone) {
        let faults: Vec<_> = self.own.into_iter().flat_map(|own| own.faults.iter().cloned()).collect();
        let is_at_fault = !faults.is_empty();
        let deductions = self.own.into_iter().flat_map(|own| &own.deductions);
        let deductions =
            deductions.map(|one| format!("- {}, {} {}: {}", one.points, one.kind, one.subject, one.detail));
        let differing = self.heard_by.iter().filter(|(_, seen)| !seen.config.is_empty());
        let differing = differing
            .map(|(by, seen)| format!("its file differs from that of {}: {}", by.node, seen.config.join(", ")));
        let wrong: Vec<_> = faults.into_iter().chain(deductions).chain(differing).collect();
        match (wrong.is_empty(), self.own) {
            (true, Some(own)) => (own.reason.clone(), Tone::Plain),
            (true, None) => (String::new(), Tone::Plain),
            (false, _) => (wrong.join("; "), if is_at_fault { Tone::Bad } else { Tone::Warn }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ha::view::sample;

    /// What the standby of [`sample`] says.
    fn standby() -> HaView {
        let mut view = sample();
        let active = view.clone();
        let other = &mut view.nodes[0];
        (view.engine, view.node) = (other.name.clone(), other.name.clone());
        (view.role, view.priority, view.base) = (Role::Standby.into(), other.priority, other.base);
        (view.deductions, view.reason) = (Vec::new(), "outer-a is active".to_owned());
        (other.name, other.role, other.deductions) = (active.node, Some(active.role), 5);
        (other.priority, other.base) = (active.priority, active.base);
        (view.sessions_held, other.sessions_held, other.full_passes) = (other.sessions_held, 0, 0);
        view
    }

    fn rows(told: &[Told<'_>]) -> Vec<String> {
        let row = |node: &Node<'_>| format!("{} {} {} {}", node.name, node.role_text(), node.priority(), node.heard());
        nodes(told).iter().map(row).collect()
    }

    #[test]
    fn a_node_is_listed_once_with_its_own_words_and_who_hears_it() {
        let (active, standby) = (sample(), standby());
        let told = [&standby, &active].map(|view| Told { view, answers: true });

        assert_eq!(
            rows(&told),
            [
                "outer-a active 195 = 200 - 5 12 ms ago by outer-b on internet, sync",
                "outer-b standby 190 12 ms ago by outer-a on internet, sync",
            ]
        );
        let known = nodes(&told);
        assert_eq!(known[0].words().0, "- 5, group perimeter: 1 of 6 by weight: firewalls are down");
        assert_eq!(known[1].words(), ("outer-a is active".to_owned(), Tone::Plain));
        assert_eq!((known[1].ready(), known[1].version()), (Some(true), Some("0.1.0")));
        let copies: Vec<_> = known.iter().map(Node::copies).collect();
        let told = "31204 of 31204, 1 ms behind, all are being told: 1 %".to_owned();
        assert_eq!(copies, [None, Some(told)]);
        let alone = nodes(&[Told { view: &standby, answers: true }]);
        assert_eq!(alone[1].copies(), Some("31204".to_owned()), "a standby counts what it holds itself");
    }

    #[test]
    fn a_node_whose_engine_is_silent_is_what_the_others_hear_of_it() {
        let (mut active, mut standby) = (sample(), standby());
        // The standby took over; what the former active node said last is not true any more.
        standby.role = Role::Active.into();
        standby.nodes[0].role = None;
        standby.nodes[0].heard.clear();
        let told = [Told { view: &active, answers: false }, Told { view: &standby, answers: true }];
        assert_eq!(rows(&told), ["outer-a not heard 195 = 200 - 5 not by outer-b", "outer-b active 190 -"]);
        assert_eq!((nodes(&told)[0].tone(), nodes(&told)[0].ready()), (Tone::Bad, None));

        // Without anybody else the last picture stays.
        active.nodes[0].kind = NodeKind::Vrrp.into();
        active.nodes[0].role = None;
        let told = [Told { view: &active, answers: false }];
        assert_eq!(
            rows(&told),
            [
                "outer-a active 195 = 200 - 5 -",
                "outer-b not heard 190 not by outer-a, as a VRRP router that is not active"
            ]
        );
        assert_eq!(nodes(&told)[1].tone(), Tone::Dim);
    }

    #[test]
    fn clusters_do_not_mix_and_faults_come_before_everything_else() {
        let (outer, mut inner) = (sample(), sample());
        (inner.node, inner.nodes[0].name) = ("inner-a".to_owned(), "inner-b".to_owned());
        inner.faults = vec!["it is in maintenance".to_owned()];
        inner.nodes[0].config = vec!["route".to_owned()];
        let told = [&outer, &inner].map(|view| Told { view, answers: true });

        let known = nodes(&told);

        let names: Vec<_> = known.iter().map(|node| node.name).collect();
        assert_eq!(names, ["inner-a", "inner-b", "outer-a", "outer-b"]);
        let (words, tone) = known[0].words();
        assert!(words.starts_with("it is in maintenance; - 5, group"), "{words}");
        assert_eq!(tone, Tone::Bad);
        assert_eq!(known[1].words(), ("its file differs from that of inner-a: route".to_owned(), Tone::Warn));
    }
}
