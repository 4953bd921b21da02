//! The only system calls, and the only home of `unsafe`, `libc` and `pnet`. Decides nothing.
#![allow(unsafe_code, reason = "the one room for it; every block says why it is sound and why it is needed")]
