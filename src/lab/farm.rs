//! The server farm of a lab: the virtual services of its inner engine.

use serde::{Deserialize, Serialize};

use super::LabError;

/// Name of the service with web pages.
pub const WEB: &str = "web";
/// Name of the service that echoes over TCP and UDP.
pub const ECHO: &str = "echo";
/// Port of the web pages.
pub const WEB_PORT: u16 = 80;
/// Path that the health checks request.
pub const HEALTH_PATH: &str = "/healthz";

/// Virtual services of both address families on [`Topology::vip`](super::Topology::vip), with the lab's servers and a
/// sorry server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabFarm {
    /// How packets reach the servers.
    pub mode: ServiceMode,
    /// Weights of the servers in order, 1..=256; servers beyond the list have weight 1.
    pub weights: Vec<u16>,
    /// The web server program.
    pub program: WebProgram,
}

/// How packets reach the servers, the `mode` of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServiceMode {
    /// The destination is translated.
    Nat,
    /// Source and destination are translated.
    FullNat,
    /// Only the MAC address is changed: the servers have the VIP on their loopback.
    Direct,
}

/// The web server program of the servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WebProgram {
    /// The nginx of this machine.
    Nginx,
    /// The lab's own small web server.
    BuiltIn,
}

impl Default for LabFarm {
    /// The first server has twice the weight of the others, so that weights are visible; nginx is used if it is
    /// installed.
    fn default() -> Self {
        Self { mode: ServiceMode::Nat, weights: vec![2], program: WebProgram::of_this_machine() }
    }
}

impl ServiceMode {
    /// The word in the configuration file.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Nat => "nat",
            Self::FullNat => "full-nat",
            Self::Direct => "direct",
        }
    }
}

impl WebProgram {
    /// nginx, if it is installed.
    pub fn of_this_machine() -> Self {
        let found = ["/usr/sbin/nginx", "/usr/bin/nginx", "/usr/local/sbin/nginx", "/usr/local/bin/nginx"];
        match found.iter().any(|path| std::path::Path::new(path).exists()) {
            true => Self::Nginx,
            false => Self::BuiltIn,
        }
    }

    /// The program's name in a table.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::BuiltIn => "built-in",
        }
    }

    /// The program's name in a sentence.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::BuiltIn => "the built-in web server",
        }
    }
}

impl LabFarm {
    /// The weight of server number `number`, counted from 1.
    pub fn weight(&self, number: u8) -> u16 {
        self.weights.get(usize::from(number).saturating_sub(1)).copied().unwrap_or(1)
    }

    /// Refuses a farm for which no configuration file can be written.
    ///
    /// # Errors
    /// The reason, in words.
    pub fn validate(&self, servers: u8) -> Result<(), LabError> {
        if self.weights.len() > usize::from(servers) {
            return Err(LabError::Topology(format!("{} weights for {servers} servers", self.weights.len())));
        }
        match self.weights.iter().find(|weight| !(1..=256).contains(*weight)) {
            Some(weight) => Err(LabError::Topology(format!("a server's weight is 1 to 256, not {weight}"))),
            None => Ok(()),
        }
    }
}
