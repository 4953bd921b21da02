//! Finds users of the operating system by name.

use std::ffi::CString;
use std::io;

/// Bytes of the longest entry that is read.
const ENTRY_MAX: usize = 1024 * 1024;

/// A user and its primary group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Id of the primary group.
    pub gid: u32,
}

/// The user called `name`; `None` if there is none.
pub fn find(name: &str) -> io::Result<Option<User>> {
    let name = CString::new(name)?;
    let mut buffer: Vec<libc::c_char> = vec![0; 4096];
    loop {
        // SAFETY: all bytes zero is a valid `passwd`: null pointers and numbers. The call writes it and the buffer,
        // whose length it is told, and sets `found` to null or to the entry; `name` ends with a zero byte and outlives
        // the call. JUSTIFICATION: the standard library has no way to ask for users, and /etc/passwd alone misses those
        // of a directory.
        let (result, user) = unsafe {
            let mut entry: libc::passwd = std::mem::zeroed();
            let mut found = std::ptr::null_mut();
            let result = libc::getpwnam_r(name.as_ptr(), &mut entry, buffer.as_mut_ptr(), buffer.len(), &mut found);
            (result, (!found.is_null()).then_some(User { uid: entry.pw_uid, gid: entry.pw_gid }))
        };
        match result {
            0 => return Ok(user),
            libc::ERANGE if buffer.len() < ENTRY_MAX => buffer.resize(buffer.len() * 4, 0),
            // By getpwnam(3) these, too, mean that there is no such user.
            libc::ENOENT | libc::ESRCH => return Ok(None),
            error => return Err(io::Error::from_raw_os_error(error)),
        }
    }
}

/// Whether the process runs as root.
pub fn is_root() -> bool {
    effective() == 0
}

/// The effective user id of the process.
pub fn effective() -> u32 {
    rustix::process::geteuid().as_raw()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_name_and_an_unknown_one_is_not() {
        assert_eq!(find("root").unwrap(), Some(User { uid: 0, gid: 0 }));
        assert_eq!(find("no-such-user-here").unwrap(), None);
    }
}
