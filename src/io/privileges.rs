//! Whether the process may still open a device: the one place that decides it. A process that has dropped its privileges
//! forwards on, and a reload that needs a new device is refused with the reason.

use std::fmt;

use caps::{CapSet, Capability};

/// What opening a device takes: raw sockets on it, and keeping the kernel's stack off it.
const NEEDED: [Capability; 2] = [Capability::CAP_NET_RAW, Capability::CAP_NET_ADMIN];

/// What the calling thread lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotPrivileged(Vec<Capability>);

impl fmt::Display for NotPrivileged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        write!(f, "the engine has no {} any more, which opening a device takes", names.join(" and "))
    }
}

impl std::error::Error for NotPrivileged {}

/// Whether the calling thread may open a device.
pub fn may_open_devices() -> Result<(), NotPrivileged> {
    let has = |capability: &Capability| caps::has_cap(None, CapSet::Effective, *capability).unwrap_or(false);
    let missing: Vec<Capability> = NEEDED.into_iter().filter(|capability| !has(capability)).collect();
    if missing.is_empty() { Ok(()) } else { Err(NotPrivileged(missing)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_without_the_capability_is_told_which_it_lacks() {
        // Capabilities are a thread's own: the other tests keep theirs.
        let thread = std::thread::spawn(|| {
            caps::drop(None, CapSet::Effective, Capability::CAP_NET_RAW).expect("giving up needs no permission");
            may_open_devices()
        });
        let refusal = thread.join().expect("the thread ends").expect_err("it gave the capability up").to_string();
        assert!(refusal.contains("CAP_NET_RAW"), "{refusal}");
    }
}
