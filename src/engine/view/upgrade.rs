//! Describes an engine that waits for the program that takes it over.

use serde::{Deserialize, Serialize};

/// `upgrade`: how the program is to be started that takes the engine over. It has half a minute to connect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct UpgradeView {
    /// Name of the engine.
    pub engine: String,
    /// Version of the running program.
    pub version: String,
    /// Process id of the running program.
    pub pid: u32,
    /// Path of the engine's own file.
    pub config: String,
    /// Whether the program was started with `--take`.
    pub takes_default_route: bool,
    /// Path of the socket at which it waits.
    pub socket: String,
}
