//! Asks the engine behind the firewalls what it does with a flow.

use serde::Serialize;
use serde_json::Value;

use crate::api::{calls, flow_text};
use crate::cli::engines::{Engine, EngineSelection, ask, block_on};
use crate::engine::view::{CandidateState, ExplainView};
use crate::flow::FlowKey;

/// The other engine's answer, to be compared with the first one's.
#[derive(Debug, Serialize)]
pub struct Peer {
    /// Its name; null if it is unknown.
    pub engine: Option<String>,
    /// Whether it runs on this host and was asked; otherwise the choice by hash is given, which is the same on both
    /// sides.
    pub asked: bool,
    /// The firewall that it takes.
    pub firewall: Option<String>,
    /// Whether both take the same firewall; null where no firewall is on the path.
    pub agrees: Option<bool>,
    /// Its whole answer.
    pub explained: Option<Value>,
    /// A summary in one line.
    pub summary: String,
}

/// The peer's answer for a flow that `engine` explained (`None`: a file).
pub fn of(
    explained: &ExplainView,
    flow: &FlowKey,
    engine: Option<&Engine>,
    selection: &EngineSelection,
) -> anyhow::Result<Peer> {
    let Some(own) = &explained.firewall else {
        let summary = "no firewall is on its way, so there is nothing to agree on".to_owned();
        return Ok(Peer { engine: None, asked: false, firewall: None, agrees: None, explained: None, summary });
    };
    let names = engine.map(|engine| block_on(peers(engine))).transpose()?.unwrap_or_default();
    let beside = match engine {
        Some(engine) => selection.sibling_engines(engine)?,
        None => Vec::new(),
    };
    let name = names.first().cloned().or_else(|| explained.peer.clone());
    let here = beside.into_iter().find(|one| names.contains(&one.name));
    let Some(here) = here else { return Ok(by_hash(explained, own, name)) };
    let call = calls::Explain { flow: as_seen_there(explained, flow), from: None };
    let (value, there) = block_on(ask(&here, &call))??;
    let agrees = there.firewall.as_ref() == Some(own);
    let (one, other) = (&explained.engine, &there.engine);
    let summary = match &there.firewall {
        Some(firewall) if agrees => format!("AGREE: {one} and {other} both take {firewall}"),
        Some(firewall) => format!("DISAGREE: {one} takes {own}, {other} takes {firewall}"),
        None => format!("DISAGREE: {one} takes {own}, {other} none (it says: {})", there.decided_by),
    };
    let (engine, firewall) = (Some(here.name), there.firewall);
    Ok(Peer { engine, asked: true, firewall, agrees: Some(agrees), explained: Some(value), summary })
}

/// The names of the engine's peers.
async fn peers(engine: &Engine) -> Vec<String> {
    match ask(engine, &calls::Peers {}).await {
        Ok((_, peers)) => peers.into_iter().filter_map(|peer| peer.peer_engine).collect(),
        // Without names nobody is found, which is said.
        Err(_) => Vec::new(),
    }
}

/// The flow as the firewalls, and so the peer, see it: after translation if the service is before the firewalls.
fn as_seen_there(explained: &ExplainView, flow: &FlowKey) -> FlowKey {
    let is_from_firewall = explained.from.contains('/');
    let leaving = explained.translation.as_deref().and_then(|text| flow_text::parse(text).ok());
    leaving.filter(|leaving| !is_from_firewall && leaving.protocol == flow.protocol).unwrap_or(*flow)
}

/// The choice of a peer that cannot be asked, if it knows no more than the hash.
fn by_hash(explained: &ExplainView, own: &str, name: Option<String>) -> Peer {
    let best = explained.candidates.iter().find(|one| one.state == CandidateState::Up).map(|one| one.name.clone());
    let who = name.clone().unwrap_or_else(|| "the peer".to_owned());
    let agrees = best.as_ref().map(|best| best == own);
    let summary = match &best {
        Some(best) if best == own => format!("AGREE: {who} does not run here; by the hash it takes {best} too"),
        Some(best) => format!(
            "{who} does not run here: {own} stands by a session, by the hash it would take {best} until it learns that"
        ),
        None => format!("{who} does not run here, and no firewall is up to choose"),
    };
    // A pin of a session is learned on the other side too, so that the hash is no proof of disagreement.
    Peer {
        engine: name,
        asked: false,
        firewall: best,
        agrees: agrees.filter(|agrees| *agrees),
        explained: None,
        summary,
    }
}
