//! Applies a reload on the control thread: the steps that may fail come first, so that a failure changes nothing.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use super::super::control::Control;
use super::super::logging;
use super::super::shared::ConfigText;
use super::super::worker::WorkerHandle;
use crate::config::{Config, InUse};
use crate::engine::change::{StateChange, Subject};
use crate::engine::view::EventKind;
use crate::io::lock::LinkLock;

/// A validated configuration that is to take effect.
pub(super) struct PendingConfig {
    pub(super) config: Config,
    pub(super) path: PathBuf,
    pub(super) text: String,
    /// Locks of the links that are new.
    pub(super) locks: Vec<(String, LinkLock)>,
    /// What the event says about it.
    pub(super) event_text: String,
}

impl Control {
    /// Opens new devices, applies the configuration and releases old devices. On failure, nothing has changed.
    pub(super) fn reload(&mut self, fresh: PendingConfig, in_use: Option<&InUse>, by: &str) -> Result<(), String> {
        let PendingConfig { config, path, text, locks, event_text: said } = fresh;
        let (before, known) = (self.shared.config().digest.clone(), Subject::declared(&self.shared.config()));
        let opened = self.devices.open_new(&config)?;
        let now = self.now();
        if let Err(error) = self.controller.apply(config, in_use, now) {
            self.devices.close_new(opened);
            return Err(error.to_string());
        }
        let config = Arc::new(self.controller.config().clone());
        self.shared.sessions.set_timeouts(config.timeouts);
        self.shared.ports.set_reuse_delay(config.timeouts.tcp_closing);
        self.shared.socket_counters.grow(config.links.len(), config.devices.len());
        logging::set_level(&self.shared.engine, &config.log);
        let digest = config.digest.clone();
        let subjects = Subject::declared(&config);
        let of = |some: &BTreeSet<Subject>, others: &BTreeSet<Subject>| some.difference(others).cloned().collect();
        self.shared.events().reloaded(&of(&known, &subjects), &of(&subjects, &known), now);
        self.shared.set_config(Arc::clone(&config), ConfigText { path, text, since: now });
        // The workers know the new links before these receive frames, and have left the old links before those are
        // closed.
        self.publish_now();
        let changes = self.devices.apply_config(&config, opened, locks, &mut self.senders);
        self.devices_changed(changes);
        self.workers.iter().for_each(WorkerHandle::wake);
        if let Err(error) = self.state.save_pending(self.state.set_pending(self.controller.overrides())) {
            let path = self.state.path().display().to_string();
            tracing::warn!(engine = self.shared.engine, path, %error, "overrides not kept");
        }
        let change = StateChange::to(EventKind::Config, Subject::Engine(self.shared.engine.clone()), digest);
        self.shared.event(change.from(before).because(said).by(by.to_owned()));
        Ok(())
    }
}
