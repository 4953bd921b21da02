//! Which server a client had: bounded, by source prefix, with a timeout of its own.
