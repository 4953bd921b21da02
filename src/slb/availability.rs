//! The state of a service or server, as it is shown everywhere.

use crate::path::AdminState;

/// Whether a service or server serves clients, and if not, why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Availability {
    /// There is no verdict of its checks yet. It is shown as down.
    Starting,
    /// It serves.
    Up,
    /// Its checks failed.
    Down,
    /// It is draining: it keeps its sessions and takes no new ones.
    Drain,
    /// It is in maintenance.
    Maint,
}

named_enum! {
    /// The state of a virtual service or of a real server.
    pub enum ServiceState {
        /// It takes new sessions.
        Up = "up",
        /// It takes no sessions, or there is no verdict yet.
        Down = "down",
        /// It takes no new sessions.
        Drain = "drain",
        /// It is out of service.
        Maint = "maint",
    }
}

impl Availability {
    /// The state by what an operator ordered, whether it serves in any family, and whether a first check has not ended.
    /// An order goes before what the checks say.
    pub const fn of(admin: AdminState, is_up: bool, is_starting: bool) -> Self {
        match admin {
            AdminState::Maint => Self::Maint,
            AdminState::Drain => Self::Drain,
            AdminState::Ready if is_up => Self::Up,
            AdminState::Ready if is_starting => Self::Starting,
            AdminState::Ready => Self::Down,
        }
    }

    /// The state as operators see it.
    pub const fn shown(self) -> ServiceState {
        match self {
            Self::Up => ServiceState::Up,
            Self::Starting | Self::Down => ServiceState::Down,
            Self::Drain => ServiceState::Drain,
            Self::Maint => ServiceState::Maint,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_goes_before_what_the_checks_say() {
        let word = |admin, is_up, is_starting| Availability::of(admin, is_up, is_starting).shown().name();
        for is_up in [true, false] {
            assert_eq!(word(AdminState::Maint, is_up, false), "maint");
            assert_eq!(word(AdminState::Drain, is_up, false), "drain");
        }
        assert_eq!(word(AdminState::Ready, true, true), "up", "one family serves, the other is checked");
        assert_eq!(Availability::of(AdminState::Ready, false, true), Availability::Starting);
        assert_eq!(Availability::of(AdminState::Ready, false, false), Availability::Down);
        assert_eq!(Availability::Starting.shown(), ServiceState::Down);
    }
}
