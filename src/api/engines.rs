//! The engines that are served at one place, and the choice of those that a request is for.

use std::sync::Arc;

use serde::Serialize;
use serde_json::{Value, json};

use crate::api::metrics::Process;
use crate::api::{Answer, ApiError, Backend, Done, Listed, Routing, SESSION_WALK_TIMEOUT, calls};
use crate::engine::view::{HealthView, MeasuresView};
use crate::time::Duration;

/// How long a request waits for an engine, which answers within a second unless it is stuck or stopping.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// The engines behind one listener: one for a control socket, all of the process for a network address.
#[derive(Debug)]
pub struct Engines<B>(Vec<Arc<B>>);

impl<B: Backend> Engines<B> {
    /// These engines, which have different names.
    pub fn new(engines: Vec<Arc<B>>) -> Self {
        Self(engines)
    }

    /// Names of the engines.
    pub fn names(&self) -> Vec<&str> {
        self.0.iter().map(|engine| engine.engine()).collect()
    }

    /// All engines.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<B>> {
        self.0.iter()
    }

    /// The engine called `name`, or the only one.
    pub fn one(&self, name: Option<&str>) -> Result<&Arc<B>, ApiError> {
        match (name, self.0.as_slice()) {
            (Some(name), engines) => engines.iter().find(|engine| engine.engine() == name).ok_or_else(|| {
                ApiError::NotFound(format!("engine {name:?} is not here: this is {}", self.quoted_names()))
            }),
            (None, [only]) => Ok(only),
            (None, _) => {
                Err(ApiError::BadRequest(format!("say which engine with ?engine=, of {}", self.quoted_names())))
            }
        }
    }

    /// The engine called `name`, or all of them.
    pub fn selected(&self, name: Option<&str>) -> Result<Vec<Arc<B>>, ApiError> {
        match name {
            Some(_) => Ok(vec![Arc::clone(self.one(name)?)]),
            None => Ok(self.0.clone()),
        }
    }

    /// The JSON answer of the engine called `name` to `request`. Without a name, the rows of several engines name their
    /// engine.
    pub async fn ask<C: Listed>(&self, name: Option<&str>, call: C) -> Result<Value, ApiError> {
        let several = self.0.len() > 1 && name.is_none();
        match C::ROUTING {
            Routing::Each | Routing::EachByTime if several => {
                let (mut rows, mut known) = (Vec::new(), 0);
                let newest = call.newest();
                let mut unknown = None;
                for engine in &self.0 {
                    let answer = match send(engine, call.clone()).await {
                        // One of them knows the name, or none.
                        Err(error @ ApiError::NotFound(_)) => {
                            unknown = Some(error);
                            continue;
                        }
                        answer => answer?,
                    };
                    known += 1;
                    match value(&answer)? {
                        Value::Array(list) => {
                            rows.extend(list.into_iter().map(|row| with_engine_name(row, engine.engine())))
                        }
                        other => rows.push(with_engine_name(other, engine.engine())),
                    }
                }
                if let (Some(unknown), 0) = (unknown, known) {
                    return Err(unknown);
                }
                if C::ROUTING == Routing::EachByTime {
                    // One list over all engines in order of time: times in RFC 3339 and UTC sort as text.
                    rows.sort_by_key(|row| row["at"].as_str().unwrap_or_default().to_owned());
                    let excess = newest.map_or(0, |newest| rows.len().saturating_sub(newest));
                    rows.drain(..excess);
                }
                Ok(Value::Array(rows))
            }
            Routing::Knowing if several => self.ask_knowing(call).await,
            Routing::Each | Routing::EachByTime | Routing::Knowing | Routing::One => {
                value(&send(self.one(name)?, call).await?)
            }
        }
    }

    /// The measurements of the engine called `name`, or of all engines.
    pub async fn metrics(&self, name: Option<&str>) -> Result<Vec<MeasuresView>, ApiError> {
        let mut measures = Vec::new();
        for engine in &self.selected(name)? {
            measures.push(*ask(engine, calls::Metrics {}).await?);
        }
        Ok(measures)
    }

    /// The health of the engine called `name`, or of all engines.
    pub async fn health(&self, name: Option<&str>) -> Result<Vec<HealthView>, ApiError> {
        let asked = match name {
            Some(_) => std::slice::from_ref(self.one(name)?),
            None => &self.0,
        };
        let mut found = Vec::new();
        for engine in asked {
            found.push(ask(engine, calls::Health {}).await?);
        }
        Ok(found)
    }

    /// Measurements of the process that runs the engines.
    pub fn process(&self) -> Option<Process> {
        self.0.first().and_then(|engine| engine.process())
    }

    async fn ask_knowing(&self, call: impl Listed) -> Result<Value, ApiError> {
        let mut done: Vec<(&str, Done)> = Vec::new();
        let mut killed = Vec::new();
        let mut unknown = None;
        for engine in &self.0 {
            match send(engine, call.clone()).await {
                Ok(Answer::SetFirewall(what)) => done.push((engine.engine(), what)),
                Ok(Answer::Kill(of_engine)) => killed.extend(of_engine),
                Ok(answer) => return value(&answer),
                Err(error @ ApiError::NotFound(_)) => unknown = unknown.or(Some(error)),
                Err(error) => return Err(error),
            }
        }
        if !killed.is_empty() {
            return value(&killed);
        }
        match unknown {
            Some(error) if done.is_empty() => Err(error),
            Some(_) | None => value(&join_results(done)),
        }
    }

    fn quoted_names(&self) -> String {
        self.names().iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ")
    }
}

/// Joins the answers of several engines to one change. An object that one of them reports as held by another engine is
/// left out if the change went to that engine too.
fn join_results(done: Vec<(&str, Done)>) -> Done {
    let asked: Vec<&str> = done.iter().map(|(engine, _)| *engine).collect();
    let mut all = Done::default();
    let mut words = Vec::new();
    for (engine, one) in done {
        words.push(format!("{engine}: {}", one.done));
        let held = one.held_elsewhere.into_iter().filter(|order| !asked.contains(&order.engine.as_str()));
        for order in held.filter(|order| !all.held_elsewhere.contains(order)).collect::<Vec<_>>() {
            all.held_elsewhere.push(order);
        }
        let new = one.warnings.into_iter().filter(|warning| !all.warnings.contains(warning));
        let new = new.collect::<Vec<_>>();
        all.warnings.extend(new);
    }
    Done { done: words.join("; "), ..all }
}

/// The answer of one engine to a call.
pub(super) async fn ask<B: Backend, C: Listed>(engine: &Arc<B>, call: C) -> Result<C::Answer, ApiError> {
    let other = || ApiError::Unavailable(format!("engine {} answered another call than {}", engine.engine(), C::PATH));
    C::unpack(send(engine, call).await?).ok_or_else(other)
}

/// Sends a call to one engine, and limits the time of its answer, for what handles all answers alike.
async fn send<B: Backend, C: Listed>(engine: &Arc<B>, call: C) -> Result<Answer, ApiError> {
    let timeout = if C::WALKS_OVER_SESSIONS { SESSION_WALK_TIMEOUT } else { ANSWER_TIMEOUT };
    let late = |_| ApiError::Unavailable(format!("the engine did not answer within {} s", timeout.as_secs()));
    tokio::time::timeout(timeout, Arc::clone(engine).ask(call.into())).await.map_err(late)?
}

fn value(answer: &impl Serialize) -> Result<Value, ApiError> {
    serde_json::to_value(answer).map_err(|error| ApiError::Unavailable(format!("the answer is no JSON: {error}")))
}

/// Adds the name of the engine to a row.
fn with_engine_name(mut row: Value, engine: &str) -> Value {
    if let Some(object) = row.as_object_mut() {
        object.entry("engine").or_insert_with(|| json!(engine));
    }
    row
}
