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

    /// The word for it: `up`, `down`, `drain` or `maint`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Starting | Self::Down => "down",
            Self::Drain => "drain",
            Self::Maint => "maint",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_goes_before_what_the_checks_say() {
        let word = |admin, is_up, is_starting| Availability::of(admin, is_up, is_starting).name();
        for is_up in [true, false] {
            assert_eq!(word(AdminState::Maint, is_up, false), "maint");
            assert_eq!(word(AdminState::Drain, is_up, false), "drain");
        }
        assert_eq!(word(AdminState::Ready, true, true), "up", "one family serves, the other is checked");
        assert_eq!(word(AdminState::Ready, false, true), "down");
        assert_eq!(word(AdminState::Ready, false, false), "down");
    }
}
