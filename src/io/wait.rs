//! Sleeps until a frame is received, or until another thread ends the sleep.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;

use rustix::event::{EventfdFlags, eventfd};

use super::frame_io::Receiver;
use crate::time::Duration;

/// How long a thread that runs in real time pauses after a full batch of frames, so that forged ones cannot occupy a CPU.
pub const FLOOD_PAUSE: Duration = Duration::from_millis(2);

/// Ends a worker's sleep from another thread. Clones wake the same sleeper.
#[derive(Debug, Clone)]
pub struct Wake(Arc<File>);

/// Sleeps for one worker.
#[derive(Debug)]
pub struct Waiter {
    wake: Wake,
    polled: Vec<libc::pollfd>,
}

impl Wake {
    /// A wake-up that is not pending.
    pub fn new() -> io::Result<Self> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self(Arc::new(File::from(event))))
    }

    /// Ends the present sleep, or else the next one. Never blocks.
    pub fn notify(&self) {
        // It fails only when 2^64 - 2 calls are pending, and then the sleeper wakes up all the same.
        let _ = (&*self.0).write(&1u64.to_ne_bytes());
    }

    /// Forgets pending calls.
    fn clear(&self) {
        let _ = (&*self.0).read(&mut [0; 8]);
    }
}

impl Waiter {
    /// A sleep that `wake` ends.
    pub fn new(wake: Wake) -> Self {
        Self { wake, polled: Vec::new() }
    }

    /// Sleeps until one of `receivers` has a frame, [`Wake::notify`] is called, or `timeout` (rounded up to whole
    /// milliseconds) passes. Clears the errors that link changes leave on the sockets, which would end the next sleep
    /// at once.
    pub fn wait<'a>(&mut self, receivers: impl Iterator<Item = &'a Receiver> + Clone, timeout: Duration) {
        self.wait_beside(None, receivers, timeout);
    }

    /// As [`Self::wait`]; a datagram that waits in `socket` ends the sleep, too.
    pub fn wait_beside<'a>(
        &mut self,
        socket: Option<BorrowedFd<'_>>,
        receivers: impl Iterator<Item = &'a Receiver> + Clone,
        timeout: Duration,
    ) {
        let entry = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        self.polled.clear();
        self.polled.push(entry(self.wake.0.as_raw_fd()));
        // poll(2) ignores an entry with a negative descriptor.
        self.polled.push(entry(socket.map_or(-1, |socket| socket.as_raw_fd())));
        self.polled.extend(receivers.clone().flat_map(Receiver::descriptors).map(|descriptor| entry(*descriptor)));
        let timeout = timeout.as_nanos().div_ceil(1_000_000).try_into().unwrap_or(libc::c_int::MAX);
        // SAFETY: pointer and length describe `polled`, whose descriptors are open while `socket` and `receivers` are borrowed.
        // JUSTIFICATION: the standard library has no poll.
        let ready = unsafe { libc::poll(self.polled.as_mut_ptr(), self.polled.len() as libc::nfds_t, timeout) };
        if ready <= 0 {
            return;
        }
        if self.polled[0].revents != 0 {
            self.wake.clear();
        }
        let mut entries = self.polled[2..].iter();
        for receiver in receivers {
            let errors = libc::POLLERR | libc::POLLHUP | libc::POLLNVAL;
            // All entries of this receiver are consumed, so that the next receiver begins with its own.
            let mine = entries.by_ref().take(receiver.descriptors().len());
            if mine.fold(0, |events, entry| events | entry.revents) & errors != 0 {
                receiver.take_error();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::clock::Clock;

    #[test]
    fn a_call_before_the_sleep_ends_it_and_a_call_is_used_up() {
        let clock = Clock::new();
        let wake = Wake::new().unwrap();
        let mut waiter = Waiter::new(wake.clone());
        wake.notify();
        wake.notify();

        waiter.wait(std::iter::empty(), Duration::from_secs(20));
        assert!(clock.now().as_millis() < 10_000, "the pending call did not end the sleep");

        let before = clock.now();
        waiter.wait(std::iter::empty(), Duration::from_millis(20));
        assert!(clock.now().since(before) >= Duration::from_millis(20), "a used call ended another sleep");
    }

    #[test]
    fn a_call_from_another_thread_ends_the_sleep() {
        let clock = Clock::new();
        let wake = Wake::new().unwrap();
        let mut waiter = Waiter::new(wake.clone());
        let caller = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(10));
            wake.notify();
        });

        waiter.wait(std::iter::empty(), Duration::from_secs(20));

        assert!(clock.now().as_millis() < 10_000);
        caller.join().unwrap();
    }
}
