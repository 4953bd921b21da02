//! Network namespaces that end with their thread, and hosts in them, for tests on real devices.

use std::process::Command;
use std::sync::mpsc;
use std::thread::JoinHandle;

/// Moves the calling thread into a new, empty network namespace with loopback up; threads and processes that it starts
/// live there too.
///
/// Returns false where that is not permitted and `FWLB_TEST_NO_ROOT=1` says that such tests may be left out.
///
/// # Panics
/// Without permission and without that variable: a test that cannot run has failed.
#[must_use]
pub(crate) fn namespace() -> bool {
    // SAFETY: takes an integer and concerns the calling thread alone. JUSTIFICATION: no safe form exists.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } == 0 {
        ip("link set lo up");
        return true;
    }
    let error = std::io::Error::last_os_error();
    let allowed = std::env::var_os("FWLB_TEST_NO_ROOT").is_some_and(|value| value == "1");
    assert!(allowed, "network namespaces need root ({error}); FWLB_TEST_NO_ROOT=1 leaves these tests out");
    false
}

/// Runs `ip` with these arguments in the calling thread's namespace.
pub(crate) fn ip(words: &str) {
    command("ip", words);
}

/// Runs a program with these arguments in the calling thread's namespace and returns its output.
pub(crate) fn command(program: &str, words: &str) -> String {
    let output = Command::new(program).args(words.split_whitespace()).output().expect("the program is installed");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {words}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

type Job = Box<dyn FnOnce() + Send>;

/// A thread in a network namespace of its own, which runs functions for the test.
pub(crate) struct Host {
    /// Thread id, which names the namespace in `ip link … netns ID`.
    pub id: i32,
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Host {
    /// A host without devices. The caller has called [`namespace`] with success.
    pub(crate) fn new() -> Self {
        let (jobs, todo) = mpsc::channel::<Job>();
        let (started, ready) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            assert!(namespace(), "the caller has one");
            started.send(rustix::thread::gettid().as_raw_pid()).expect("the maker waits");
            for job in todo {
                job();
            }
        });
        Self { id: ready.recv().expect("the thread started"), jobs: Some(jobs), thread: Some(thread) }
    }

    /// Runs `f` on the host and returns its result.
    pub(crate) fn run<R: Send + 'static>(&self, f: impl FnOnce() -> R + Send + 'static) -> R {
        let (done, answer) = mpsc::channel();
        let job: Job = Box::new(move || {
            let _ = done.send(f());
        });
        self.jobs.as_ref().expect("until dropped").send(job).expect("the host lives");
        answer.recv().expect("the job on the host panicked")
    }

    /// Runs `ip` with these arguments on the host.
    pub(crate) fn ip(&self, words: &str) {
        let words = words.to_owned();
        self.run(move || ip(&words));
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
