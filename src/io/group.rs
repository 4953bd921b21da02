//! Finds groups of the operating system by name.

use std::ffi::CString;
use std::io;

/// Bytes of the longest entry that is read; a group with many members has a long one.
const ENTRY_MAX: usize = 1024 * 1024;

/// The number of the group called `name`, or `name` itself if it is a number; `None` if there is no such group.
pub fn id(name: &str) -> io::Result<Option<u32>> {
    if let Ok(number) = name.parse() {
        return Ok(Some(number));
    }
    let name = CString::new(name)?;
    let mut buffer: Vec<libc::c_char> = vec![0; 4096];
    loop {
        // SAFETY: all bytes zero is a valid `group`: null pointers and a number. The call writes it and the buffer,
        // whose length it is told, and sets `found` to null or to the entry; `name` ends with a zero byte and outlives
        // the call. JUSTIFICATION: the standard library has no way to ask for groups, and /etc/group alone misses those
        // of a directory.
        let (result, number) = unsafe {
            let mut entry: libc::group = std::mem::zeroed();
            let mut found = std::ptr::null_mut();
            let result = libc::getgrnam_r(name.as_ptr(), &mut entry, buffer.as_mut_ptr(), buffer.len(), &mut found);
            (result, (!found.is_null()).then_some(entry.gr_gid))
        };
        match result {
            0 => return Ok(number),
            libc::ERANGE if buffer.len() < ENTRY_MAX => buffer.resize(buffer.len() * 4, 0),
            // By getgrnam(3) these, too, mean that there is no such group.
            libc::ENOENT | libc::ESRCH => return Ok(None),
            error => return Err(io::Error::from_raw_os_error(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_found_by_name_and_by_number_and_an_unknown_one_is_not() {
        assert_eq!(id("root").unwrap(), Some(0));
        assert_eq!(id("4711").unwrap(), Some(4711));
        assert_eq!(id("no-such-group-here").unwrap(), None);
    }
}
