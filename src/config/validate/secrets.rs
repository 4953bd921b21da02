//! Reads secrets that stand in a file of their own: `"file:/path"`.

use std::path::Path;

use crate::config::diagnostic::{Diagnostic, Diagnostics};
use crate::config::fact::HIDDEN;
use crate::config::reader::Located;
use crate::config::validate::ReadSecret;

/// The warning about a secret that `show config` hid. Such a file can be checked, but an engine cannot run with it.
pub const HIDDEN_SECRET: &str = "the secret is not in this file: `fwlb show config` hid it";

/// True if `show config` replaced the secret by a placeholder.
pub fn is_hidden(typed: &Located<String>) -> bool {
    typed.value == HIDDEN
}

/// The typed text, or the content of the file that it names, without the last newline. `hint` says what to do about a
/// path that cannot be read.
pub fn secret(
    typed: &Located<String>,
    read_secret: &mut ReadSecret<'_>,
    hint: impl Fn(&str) -> String,
    out: &mut Diagnostics,
) -> Option<String> {
    if is_hidden(typed) {
        out.push(
            Diagnostic::warning(typed.span.clone(), HIDDEN_SECRET)
                .hint("write it again, or \"file:/PATH\" of its file"),
        );
    }
    match typed.value.strip_prefix("file:") {
        None => Some(typed.value.clone()),
        Some(path) => {
            let text = content(path, typed, read_secret, hint, out)?;
            Some(text.strip_suffix('\n').map_or(text.as_str(), |text| text.trim_end_matches('\r')).to_owned())
        }
    }
}

/// The content of the file `path`, which `typed` names.
pub fn content(
    path: &str,
    typed: &Located<String>,
    read_secret: &mut ReadSecret<'_>,
    hint: impl Fn(&str) -> String,
    out: &mut Diagnostics,
) -> Option<String> {
    if !path.starts_with('/') {
        out.push(Diagnostic::error(typed.span.clone(), format!("not an absolute path: {path:?}")));
        return None;
    }
    match read_secret(Path::new(path)) {
        Ok(text) => Some(text),
        Err(why) => {
            let unread = Diagnostic::error(typed.span.clone(), format!("cannot read {path}: {why}"));
            out.push(unread.hint(hint(path)));
            None
        }
    }
}
