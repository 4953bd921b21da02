//! Begins to hand the engine over to another program.

use super::EngineBackend;
use crate::api::{ApiError, calls};
use crate::engine::view::UpgradeView;

impl EngineBackend {
    /// Waits for the program that takes over, and says how that one is to be started.
    pub(super) fn upgrade(&self, call: &calls::Upgrade) -> Result<UpgradeView, ApiError> {
        let (config, engine) = (self.shared.config(), &self.shared.engine);
        if config.ha.is_some() {
            let what = format!(
                "engine {engine} is a node of a cluster, where no node hands over to itself: upgrade the standby node, say \
                 fwlb ha failover --wait 5s on the active one, and restart that"
            );
            return Err(ApiError::Conflict(what));
        }
        let engines = self.reloader.engine_count();
        if engines > 1 {
            let what = format!(
                "the process of engine {engine} runs {engines} engines, which no upgrade can tell apart: restart it, each \
                 engine in a process of its own"
            );
            return Err(ApiError::Conflict(what));
        }
        let socket = self.upgrades.listen(&config.engine.control).map_err(ApiError::Conflict)?;
        let (by, reason) = (call.by.as_deref().unwrap_or_default(), call.reason.as_deref().unwrap_or_default());
        tracing::info!(engine, by, reason, "waits for the program that takes over");
        let file = self.reloader.own_file(engine)?;
        Ok(UpgradeView {
            engine: engine.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            config: file.display().to_string(),
            takes_default_route: self.reloader.options().allow_default_route,
            socket: socket.display().to_string(),
        })
    }
}
