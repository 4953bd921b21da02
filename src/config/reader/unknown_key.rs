//! The error about a key that its section does not have: what was meant, or where the key belongs.

use toml::Spanned;
use toml::de::DeString;

use crate::config::diagnostic::Diagnostic;
use crate::config::schema::Schema;
use crate::config::synonyms;
use crate::config::value::did_you_mean;

/// The error about `key`, which `schema` does not have.
pub(super) fn refuse_key(key: &Spanned<DeString<'_>>, schema: &'static Schema, all: &[&'static Schema]) -> Diagnostic {
    let name = &**key.get_ref();
    let section = schema.section;
    if schema.reserved.contains(&name) {
        let message = format!("`{name}` of {section} is reserved for a later version");
        return Diagnostic::error(key.span(), message).hint("remove it");
    }
    let unknown = Diagnostic::error(key.span(), format!("unknown key `{name}` in {section}"));
    // TOML assigns a key to the header above it: a key of the group that stands below [group.check] becomes one of the
    // check.
    let mut owners = all.iter().filter(|other| other.section != section && other.key(name).is_some());
    let owner = owners.clone().find(|owner| is_parent(owner.section, section)).or_else(|| owners.next());
    if let Some(owner) = owner.filter(|owner| is_parent(owner.section, section)) {
        return unknown.hint(format!("`{name}` belongs to {}, move it above {section}", owner.section));
    }
    if let Some(meant) = synonyms::key(section, name) {
        return unknown.hint(meant);
    }
    match (did_you_mean(name, schema.names()), owner) {
        (Some(own), _) => unknown.hint(format!("did you mean `{own}`?")),
        (None, Some(owner)) => unknown.hint(format!("`{name}` belongs to {}", owner.section)),
        (None, None) if schema.keys.is_empty() => unknown,
        (None, None) => unknown.hint(format!("{section} has {}", schema.names().collect::<Vec<_>>().join(", "))),
    }
}

/// True if `child` is a subsection of `parent`, as `[group.check]` is of `[[group]]`.
fn is_parent(parent: &str, child: &str) -> bool {
    let bare = |section: &str| section.trim_matches(['[', ']']).to_owned();
    bare(child).rsplit_once('.').is_some_and(|(above, _)| above == bare(parent))
}
