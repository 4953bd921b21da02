//! Identifies the user at the other end of the control socket, as the kernel reports it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use tokio::net::UnixStream;

use crate::api::guard::User;

/// The login uid of a process that nobody's login started, such as a service: (uid_t) -1.
const NO_LOGIN: u32 = u32::MAX;

/// The user whose process connected (SO_PEERCRED, unix(7)). Nothing that this process sends can change it.
pub(super) fn peer_user(stream: &UnixStream) -> Option<User> {
    let peer = stream.peer_cred().ok()?;
    Some(user(peer.uid(), peer.pid(), Path::new("/proc"), Path::new("/etc/passwd")))
}

/// The user `uid` of the process `pid`, with names from the file `passwd`. A directory service is not asked for names:
/// an answer may take long, and a sandboxed process loads no libraries that could ask.
fn user(uid: u32, pid: Option<i32>, proc: &Path, passwd: &Path) -> User {
    let users = fs::read_to_string(passwd).unwrap_or_default();
    let name = |uid: u32| users.lines().find_map(|line| name_in(line, uid)).map(str::to_owned);
    let login = pid.and_then(|pid| login(uid, pid, proc)).filter(|login| *login != uid);
    User { uid, name: name(uid), login: login.map(|uid| name(uid).unwrap_or_else(|| format!("uid {uid}"))) }
}

/// Who logged in at the session of the process (proc_pid_loginuid(5)); `None` if that cannot be read. If the process id
/// belongs to another process by now, its owner differs.
fn login(uid: u32, pid: i32, proc: &Path) -> Option<u32> {
    let process = proc.join(pid.to_string());
    let login = fs::read_to_string(process.join("loginuid")).ok()?;
    let owner = fs::metadata(&process).ok()?.uid();
    login.trim().parse().ok().filter(|login| *login != NO_LOGIN && owner == uid)
}

/// The name in a line of passwd(5), if the line is that of `uid`.
fn name_in(line: &str, uid: u32) -> Option<&str> {
    let mut fields = line.split(':');
    let (name, number) = (fields.next()?, fields.nth(1)?);
    (number.parse() == Ok(uid) && !name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_named_as_the_machine_names_it_and_behind_sudo_the_login_is_told_too() {
        let directory = tempfile::tempdir().unwrap();
        let (proc, passwd) = (directory.path().join("proc"), directory.path().join("passwd"));
        fs::write(&passwd, "root:x:0:0:root:/root:/bin/sh\nanna:x:1000:1000::/home/anna:/bin/sh\n:x:7:7::/:\nbad\n")
            .unwrap();
        let owner = fs::metadata(directory.path()).unwrap().uid();
        let of = |login: Option<&str>, uid| {
            let _ = fs::remove_dir_all(&proc);
            fs::create_dir_all(proc.join("12")).unwrap();
            if let Some(login) = login {
                fs::write(proc.join("12/loginuid"), login).unwrap();
            }
            user(uid, Some(12), &proc, &passwd).to_string()
        };

        assert_eq!(user(0, None, &proc, &passwd).to_string(), "root (uid 0)");
        assert_eq!(user(7, None, &proc, &passwd).to_string(), "uid 7");
        assert_eq!(user(4711, None, &proc, Path::new("/nowhere")).to_string(), "uid 4711");
        assert_eq!(of(None, owner), user(owner, None, &proc, &passwd).to_string());
        assert_eq!(of(Some("4294967295"), owner), of(None, owner), "nobody logged in");
        let behind = of(Some("4711\n"), owner);
        assert!(behind.contains("login uid 4711"), "{behind}");
        assert!(!of(Some("1000"), owner + 1).contains("login"), "the number is another's process by now");
    }
}
