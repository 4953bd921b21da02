//! Gives up the privileges of the process, step by step.
//!
//! ```text
//!  start           as root, or with the capabilities that the service manager gave:
//!   │              locks links, binds the addresses of [api], creates directories for the user
//!   ▼ switch_user  as the user, with CAP_NET_RAW, CAP_NET_ADMIN, CAP_IPC_LOCK, CAP_SYS_NICE (and CAP_BPF for AF_XDP):
//!   │              opens devices and files, starts threads; each thread keeps only the capabilities that it needs
//!   ▼ enter_sandbox  under the seccomp filter; only the control thread can reopen devices that come back
//! ```

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;

use super::{EngineFile, RunError};
use crate::io::privileges::{self, ThreadPrivileges};
use crate::io::user::{self, User};
use crate::io::{group, seccomp};

/// The user that engines run as if no file names one.
const USER: &str = "fwlb";

/// The user that the process becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    name: String,
    user: User,
}

impl Identity {
    /// The user that the engines of one process run as; `None` if that is whoever started it.
    pub(super) fn of(files: &[EngineFile]) -> Result<Option<Self>, RunError> {
        let asked: BTreeSet<_> =
            files.iter().map(|file| (&file.config.engine.user, &file.config.engine.group)).collect();
        let refused = |name: &str, what: String| RunError::Identity { user: name.to_owned(), what };
        let mut asked = asked.into_iter();
        let Some((name, group)) = asked.next() else { return Ok(None) };
        if let Some((other, _)) = asked.next() {
            let other = other.as_deref().unwrap_or(USER);
            let what = "the engines of one process have one `user` and `group` in [engine]".to_owned();
            return Err(refused(other, what));
        }
        let found = |name: &str| user::find(name).map_err(|error| refused(name, error.to_string()));
        let (name, mut user) = match name {
            Some(name) => {
                let missing = || refused(name, "there is no such user; make it with useradd --system".to_owned());
                (name.as_str(), found(name)?.ok_or_else(missing)?)
            }
            None if !user::is_root() => return Ok(None),
            None => match found(USER)? {
                Some(user) => (USER, user),
                None => return Ok(None),
            },
        };
        if let Some(group) = group {
            let number = group::id(group).map_err(|error| refused(name, error.to_string()))?;
            let missing = || refused(name, format!("there is no group {group}; make it with groupadd --system"));
            user.gid = number.ok_or_else(missing)?;
        }
        if user::is_root() {
            return Ok((user.uid != 0).then(|| Self { name: name.to_owned(), user }));
        }
        if user::effective() == user.uid {
            return Ok(None);
        }
        Err(refused(name, "only root can become another user; remove `user` from [engine]".to_owned()))
    }

    /// Creates missing directories for the user, and refuses existing ones that he may not write to.
    pub(super) fn chown_directories(&self, files: &[EngineFile]) -> Result<(), RunError> {
        for file in files {
            let config = &file.config;
            let sessions = config.log.sessions.as_deref().and_then(Path::parent);
            let name = &config.engine.name;
            let directories = [
                (config.engine.control.parent(), "control", format!("/run/fwlb/{name}.sock")),
                (Some(config.engine.state.as_path()), "state", format!("/var/lib/fwlb/{name}")),
                (sessions, "sessions", format!("/var/log/fwlb/{name}.json")),
            ];
            for (directory, key, own) in directories {
                let Some(directory) = directory else { continue };
                let system = |what: &str| {
                    let (engine, what) = (config.engine.name.clone(), format!("{what} {}", directory.display()));
                    move |source| RunError::System { engine, what, source }
                };
                match fs::metadata(directory) {
                    Ok(found) if self.may_write(&found) => {}
                    Ok(_) => {
                        let what = format!(
                            "it may not write to {}: {}",
                            directory.display(),
                            self.ownership_hint(directory, key, &own)
                        );
                        return Err(RunError::Identity { user: self.name.clone(), what });
                    }
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {
                        fs::create_dir_all(directory).map_err(system("make the directory"))?;
                        chown(directory, Some(self.user.uid), Some(self.user.gid))
                            .map_err(system("give away the directory"))?;
                    }
                    Err(error) => return Err(system("look at the directory")(error)),
                }
            }
        }
        Ok(())
    }

    /// What to do about a directory that the user may not write to. Changing the owner is suggested only for a
    /// directory that this program makes itself; the owner of any other directory has his reasons.
    fn ownership_hint(&self, directory: &Path, key: &str, own: &str) -> String {
        let section = if key == "sessions" { "log" } else { "engine" };
        let made_here = match key {
            "state" => directory == Path::new(own),
            _ => Path::new(own).parent() == Some(directory),
        };
        match made_here {
            true => format!(
                "it belongs to somebody else, so stop what runs there, and chown {}: {}",
                self.name,
                directory.display()
            ),
            false => format!("write {key} = {own:?} in [{section}], or name a new directory, which is made for it"),
        }
    }

    /// Makes the process run as the user. The calling thread keeps the capabilities for opening devices, by AF_XDP or
    /// not.
    pub(super) fn switch_user(&self, xdp: bool) -> Result<(), RunError> {
        privileges::become_user(self.user, xdp)
            .map_err(|error| RunError::Identity { user: self.name.clone(), what: error.to_string() })
    }

    fn may_write(&self, directory: &fs::Metadata) -> bool {
        let mode = directory.mode();
        match (directory.uid() == self.user.uid, directory.gid() == self.user.gid) {
            (true, _) => mode & 0o300 == 0o300,
            (false, true) => mode & 0o030 == 0o030,
            (false, false) => mode & 0o003 == 0o003,
        }
    }
}

/// Gives up the capabilities of the calling thread that `duty` does not need. A failure is logged and has no other
/// effect.
pub(super) fn drop_capabilities(duty: ThreadPrivileges) {
    if let Err(error) = privileges::limit_thread(duty) {
        tracing::warn!(%error, "a thread keeps its capabilities");
    }
}

/// Ends the start of the process: the calling thread gives up all capabilities, and all threads the system calls that a
/// running engine does not need. `xdp` says whether any engine opens devices by AF_XDP.
pub(super) fn enter_sandbox(sandbox: bool, xdp: bool) {
    drop_capabilities(ThreadPrivileges::None);
    if let Err(error) = privileges::set_no_new_privs() {
        tracing::warn!(%error, "the process may gain privileges");
    }
    if !sandbox {
        return tracing::warn!("system calls are not filtered: sandbox = false in [engine]");
    }
    if let Err(error) = seccomp::install_filter(xdp) {
        tracing::warn!(%error, "system calls are not filtered");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn file(name: &str, engine: &str) -> EngineFile {
        let text = format!("[engine]\nname = \"{name}\"\n{engine}\n[[link]]\nname = \"a\"\ndevice = \"eth0\"\n");
        let config = config::testing::config(&text);
        EngineFile { path: "test.toml".into(), text, config }
    }

    #[test]
    fn the_user_is_the_files_and_one_for_all_engines() {
        if !user::is_root() {
            return;
        }
        let nobody = user::find("nobody").unwrap().unwrap();

        let found = Identity::of(&[file("a", "user = \"nobody\"")]).unwrap();
        assert_eq!(found, Some(Identity { name: "nobody".into(), user: nobody }));
        let found = Identity::of(&[file("a", "user = \"nobody\"\ngroup = \"adm\"")]).unwrap().unwrap();
        assert_eq!(found.user.gid, group::id("adm").unwrap().unwrap());
        assert_eq!(Identity::of(&[file("a", "user = \"root\"")]).unwrap(), None);

        let refusal = |files: &[EngineFile]| Identity::of(files).unwrap_err().to_string();
        assert!(refusal(&[file("a", "user = \"nobody\""), file("b", "")]).contains("one `user`"));
        assert!(refusal(&[file("a", "user = \"no-such-user\"")]).contains("useradd"));
        assert!(refusal(&[file("a", "user = \"nobody\"\ngroup = \"no-such-group\"")]).contains("groupadd"));
    }

    #[test]
    fn missing_directories_are_given_to_the_user_and_those_of_others_are_refused() {
        if !user::is_root() {
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().display();
        let engine = format!("user = \"nobody\"\ncontrol = \"{root}/run/a.sock\"\nstate = \"{root}/state\"");
        let files = [file("a", &engine)];
        let identity = Identity::of(&files).unwrap().unwrap();

        identity.chown_directories(&files).unwrap();
        identity.chown_directories(&files).expect("they are his");
        let owner = |name: &str| fs::metadata(directory.path().join(name)).unwrap().uid();
        assert_eq!((owner("run"), owner("state")), (identity.user.uid, identity.user.uid));

        chown(directory.path().join("state"), Some(0), Some(0)).unwrap();
        let refusal = identity.chown_directories(&files).unwrap_err().to_string();
        assert!(refusal.contains("nobody") && refusal.contains("write state = \"/var/lib/fwlb/a\""), "{refusal}");
        assert!(!refusal.contains("chown"), "it is nobody's business who owns that: {refusal}");
    }

    #[test]
    fn only_a_directory_that_the_program_makes_itself_is_ever_given_away_and_never_what_is_in_it() {
        let user = user::find("nobody").unwrap().unwrap();
        let identity = Identity { name: "nobody".into(), user };
        let control = |directory: &str| identity.ownership_hint(Path::new(directory), "control", "/run/fwlb/a.sock");

        for system in ["/run", "/", "/var/lib", "/etc"] {
            assert_eq!(
                control(system),
                "write control = \"/run/fwlb/a.sock\" in [engine], or name a new directory, which is made for it"
            );
        }
        assert!(control("/run/fwlb").ends_with("chown nobody: /run/fwlb"), "{}", control("/run/fwlb"));
        let state = identity.ownership_hint(Path::new("/var/lib/fwlb"), "state", "/var/lib/fwlb/a");
        assert!(state.contains("write state = ") && !state.contains("chown"), "{state}");
    }
}
