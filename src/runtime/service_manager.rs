//! Notifications to the service manager, if there is one (sd_notify(3)).

use sd_notify::NotifyState;

/// Sends one notification.
pub(super) fn notify(state: NotifyState<'_>) {
    notify_all(&[state]);
}

/// Sends several notifications at once.
pub(super) fn notify_all(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the service manager does not listen");
    }
}
