//! Explains what would happen if the firewall or the server that a flow takes failed: the flow is explained again with
//! a snapshot in which it did.

use crate::engine::Snapshot;
use crate::engine::explain::{ArrivalPoint, Explanation, expected_arrival_without, explain_once, live_session};
use crate::engine::forwarder::ends_by_failure;
use crate::engine::view::{ObjectKind, SessionAfterFailure, WhatIfView};
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
        question.explain(ObjectKind::Firewall, format!("{}/{}", group.name, of.name), group.on_failure, told)
    });
    let server = told.chosen.server.and_then(|(service, server)| {
        let (of, one) = snapshot.services.server(service, server)?;
        let after = without_server(snapshot, service, server);
        let question = WhatIf { after, sessions, flow, from, now };
        Some(question.explain(ObjectKind::Server, format!("{}/{}", of.name, one.name), of.on_failure, told))
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
    fn explain(&self, kind: ObjectKind, name: String, on_failure: OnFailure, before: &Explanation) -> WhatIfView {
        let Self { after, sessions, flow, from, now } = self;
        let (nobody, _) = SessionTable::new(1, 1, sessions.timeouts(), [0; 4]);
        let fresh = explain_once("", after, &nobody, flow, *from, *now).view;
        let live = before.view.session.as_ref().map(|_| explain_once("", after, sessions, flow, *from, *now).view);
        let on_failure = on_failure.for_flow(flow.protocol == protocol::TCP);
        let ends = live_session(sessions, flow)
            .is_some_and(|known| ends_by_failure(&known.key, &known.session, known.bound.as_ref(), after));
        let session = live.as_ref().map(|live| match (&live.drop, on_failure) {
            _ if ends => SessionAfterFailure::Reset,
            // Its client repeats what was never answered.
            (Some(_), OnFailure::Reset) => SessionAfterFailure::Moves,
            (Some(_), _) => SessionAfterFailure::Dropped,
            (None, OnFailure::Reselect) if kind == ObjectKind::Server => SessionAfterFailure::Moves,
            (None, _) if live.firewall == before.view.firewall && live.server == before.view.server => {
                SessionAfterFailure::Stays
            }
            (None, _) => SessionAfterFailure::Moves,
        });
        // For a session that stays, its own way is shown; otherwise that of a new session.
        let shown =
            live.filter(|live| live.drop.is_none() && session == Some(SessionAfterFailure::Stays)).unwrap_or(fresh);
        WhatIfView {
            kind: kind.into(),
            name,
            on_failure: on_failure.into(),
            session: session.map(Into::into),
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
