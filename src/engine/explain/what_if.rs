//! Explains what would happen if the firewall or the server that a flow takes failed: the flow is explained again with
//! a snapshot in which it did.

use crate::engine::Snapshot;
use crate::engine::explain::{ArrivalPoint, Explanation, expected_arrival_without, explain_once};
use crate::engine::view::WhatIfView;
use crate::flow::FlowKey;
use crate::id::{FirewallId, ServerId, ServiceId};
use crate::path::OnFailure;
use crate::session::SessionTable;
use crate::slb::{Service, Services};
use crate::time::Instant;
use crate::wire::frame::protocol;

/// One answer for the firewall and one for the server, as far as the flow takes them.
pub(super) fn what_if(
    told: &Explanation,
    snapshot: &Snapshot,
    sessions: &SessionTable,
    flow: &FlowKey,
    from: Option<ArrivalPoint>,
    now: Instant,
) -> Vec<WhatIfView> {
    // A flow that is dropped takes nothing that could fail.
    if told.view.drop.is_some() {
        return Vec::new();
    }
    let firewall = told.chosen.firewall.map(|id| {
        let after = without_firewall(snapshot, id);
        let of = &snapshot.firewalls[id.index()];
        let group = &snapshot.groups[of.group.index()];
        // A packet from that firewall would come from another one then, which the peer engine chooses.
        let from = if told.chosen.is_on_source_side { expected_arrival_without(flow, &after, id) } else { from };
        let question = WhatIf { after, sessions, flow, from, now };
        question.explain("firewall", format!("{}/{}", group.name, of.name), group.on_failure, told)
    });
    let server = told.chosen.server.and_then(|(service, server)| {
        let (of, one) = snapshot.services.server(service, server)?;
        let on_failure = of.on_failure.for_flow(flow.protocol == protocol::TCP);
        let after = without_server(snapshot, service, server);
        let question = WhatIf { after, sessions, flow, from, now };
        Some(question.explain("server", format!("{}/{}", of.name, one.name), on_failure, told))
    });
    firewall.into_iter().chain(server).collect()
}

struct WhatIf<'a> {
    after: Snapshot,
    sessions: &'a SessionTable,
    flow: &'a FlowKey,
    from: Option<ArrivalPoint>,
    now: Instant,
}

impl WhatIf<'_> {
    fn explain(&self, kind: &str, name: String, on_failure: OnFailure, before: &Explanation) -> WhatIfView {
        let Self { after, sessions, flow, from, now } = self;
        let (nobody, _) = SessionTable::new(1, 1, sessions.timeouts(), [0; 4]);
        let fresh = explain_once("", after, &nobody, flow, *from, *now).view;
        let live = before.view.session.as_ref().map(|_| explain_once("", after, sessions, flow, *from, *now).view);
        let on_failure_of_flow = on_failure.for_flow(flow.protocol == protocol::TCP);
        let session = live.as_ref().map(|live| match (&live.drop, on_failure_of_flow) {
            (Some(_), OnFailure::Reset) => "reset",
            (Some(_), _) => "dropped",
            (None, OnFailure::Reselect) if kind == "server" => "moves",
            (None, _) if live.firewall == before.view.firewall && live.server == before.view.server => "stays",
            (None, _) => "moves",
        });
        // For a session that stays, its own way is shown; otherwise that of a new session.
        let shown = live.filter(|live| live.drop.is_none() && session == Some("stays")).unwrap_or(fresh);
        WhatIfView {
            kind: kind.to_owned(),
            name,
            on_failure: on_failure.into(),
            session: session.map(str::to_owned),
            firewall: shown.firewall,
            server: shown.server,
            drop: shown.drop,
        }
    }
}

/// The snapshot after every path through the firewall has failed.
fn without_firewall(snapshot: &Snapshot, firewall: FirewallId) -> Snapshot {
    let mut after = snapshot.clone();
    let of = &snapshot.firewalls[firewall.index()];
    let bit = 1 << of.slot;
    for set in after.path_sets.iter_mut().filter(|set| set.group == of.group) {
        set.failure_counts[of.slot] += u32::from(set.up & bit != 0);
        set.up &= !bit;
        set.selectable &= !bit;
        set.starting &= !bit;
    }
    after
}

/// The snapshot after every check of the server has failed.
fn without_server(snapshot: &Snapshot, service: ServiceId, server: ServerId) -> Snapshot {
    let mut services: Vec<_> = snapshot.services.all().iter().map(|of| Service::clone(of)).collect();
    let of = services.iter_mut().find(|of| of.id == service);
    if let Some(one) = of.and_then(|of| of.servers.iter_mut().find(|one| one.id == server)) {
        one.up = [false, false];
        one.failure_counts = one.failure_counts.map(|falls| falls + 1);
    }
    Snapshot { services: Services::new(services), ..snapshot.clone() }
}
