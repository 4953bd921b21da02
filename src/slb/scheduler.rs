//! Choosing a server for a new session.

/// What survives snapshots and reloads: round-robin positions, active counts, sticky entries. See the room's page.
#[derive(Debug, Default)]
pub struct SchedulerState {}
