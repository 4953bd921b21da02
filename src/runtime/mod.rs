//! The only threads: pinned packet workers, the control thread around the controller, management.
