//! The expiry wheel: lazy, one per worker, bounded work per turn.
