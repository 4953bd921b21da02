//! Collects every mistake of a text and shows each as file:line:column with the line, a caret and a hint.
//!
//! The first line of each has the form that compilers use, so that editors jump to it and `grep` finds it:
//!
//! ```text
//! outer.toml:13:10: error: `weight` must be 1..=256, found 0
//!    |
//! 13 | weight = 0
//!    |          ^
//!    = help: remove the line for weight 1, or set `admin = "drain"`
//! ```

use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

/// Whether a configuration with this mistake can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The configuration is refused.
    Error,
    /// The configuration can be used, but probably does not do what was meant.
    Warning,
}

/// One mistake in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// What was expected, and what was found instead.
    pub message: String,
    /// The place as a range of bytes of the text.
    pub span: Range<usize>,
    /// Other places that are involved, each with its own message, such as the first of two duplicates.
    pub related: Vec<(Range<usize>, String)>,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Diagnostic {
    /// An error at `span`.
    pub fn error(span: Range<usize>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Error, message: message.into(), span, related: Vec::new(), hint: None }
    }

    /// A warning at `span`.
    pub fn warning(span: Range<usize>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(span, message) }
    }

    /// Adds what to do about it.
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// Adds another place that is involved, with its own message.
    pub fn related(mut self, span: Range<usize>, message: impl Into<String>) -> Self {
        self.related.push((span, message.into()));
        self
    }
}

/// The mistakes found in one text. [`fmt::Display`] prints them without colours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostics {
    /// The name of the text in messages, as the user typed it.
    pub path: String,
    text: String,
    found: Vec<Diagnostic>,
}

impl Diagnostics {
    /// An empty list for `text`, which messages call `path`.
    pub fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned(), found: Vec::new() }
    }

    /// Adds a mistake.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        self.found.push(diagnostic);
    }

    /// Turns all warnings with this message into errors, and returns true if there are any.
    pub fn promote_warnings(&mut self, message: &str) -> bool {
        let mut any = false;
        for found in self.found.iter_mut().filter(|found| found.message == message) {
            found.severity = Severity::Error;
            any = true;
        }
        any
    }

    /// Sorts them by place, at the same place errors first, and removes repetitions.
    pub fn sort(&mut self) {
        self.found.sort_by(|a, b| (a.span.start, a.severity, &a.message).cmp(&(b.span.start, b.severity, &b.message)));
        self.found.dedup_by(|a, b| a.span == b.span && a.message == b.message);
    }

    /// All mistakes, in the order of the list.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.found.iter()
    }

    /// The text that they are about.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Number of errors.
    pub fn errors(&self) -> usize {
        self.found.iter().filter(|found| found.severity == Severity::Error).count()
    }

    /// Number of warnings.
    pub fn warnings(&self) -> usize {
        self.found.len() - self.errors()
    }

    /// Line and column of a byte of the text. Both count from 1, and columns count characters.
    pub fn line_column(&self, byte: usize) -> (usize, usize) {
        let byte = boundary(&self.text, byte);
        let start = self.text[..byte].rfind('\n').map_or(0, |newline| newline + 1);
        (self.text[..start].matches('\n').count() + 1, self.text[start..byte].chars().count() + 1)
    }

    /// All mistakes as text for a terminal, with ANSI colours if `colour` is set.
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let mut out = String::new();
        for found in &self.found {
            let (level, name) = match found.severity {
                Severity::Error => (Level::ERROR, Word { text: "error", colour, code: "1;31" }),
                Severity::Warning => (Level::WARNING, Word { text: "warning", colour, code: "1;33" }),
            };
            self.render_place(&mut out, &renderer, level, name, &found.span, &found.message, found.hint.as_deref());
            for (span, message) in &found.related {
                let note = Word { text: "note", colour, code: "1;36" };
                self.render_place(&mut out, &renderer, Level::NOTE, note, span, message, None);
            }
        }
        out
    }

    #[expect(clippy::too_many_arguments, reason = "one printed block has that many parts; it is called in one place")]
    fn render_place(
        &self,
        out: &mut String,
        renderer: &Renderer,
        level: Level<'_>,
        name: Word,
        span: &Range<usize>,
        message: &str,
        hint: Option<&str>,
    ) {
        let (line, column) = self.line_column(span.start);
        out.push_str(&format!("{}:{line}:{column}: {name}: {message}\n", self.path));

        // The renderer gets the first line only: a span of several lines is marked to the end of its first.
        let at = boundary(&self.text, span.start);
        let start = self.text[..at].rfind('\n').map_or(0, |newline| newline + 1);
        let end = self.text[start..].find('\n').map_or(self.text.len(), |newline| start + newline);
        let source = self.text[start..end].trim_end_matches('\r');
        let from = (at - start).min(source.len());
        let to = (boundary(&self.text, span.end).max(at) - start).min(source.len()).max(from);
        let snippet = Snippet::source(source).line_start(line).annotation(AnnotationKind::Primary.span(from..to));
        let mut group = Group::with_level(level).element(snippet);
        if let Some(hint) = hint {
            group = group.element(Level::HELP.message(hint));
        }
        out.push_str(&renderer.render(&[group]));
        out.push('\n');
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

/// A word that is coloured on a terminal. `code` is the ANSI colour.
#[derive(Clone, Copy)]
struct Word {
    text: &'static str,
    colour: bool,
    code: &'static str,
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.colour {
            true => write!(f, "\x1b[{}m{}\x1b[0m", self.code, self.text),
            false => f.write_str(self.text),
        }
    }
}

/// The nearest character boundary of `text` at or before `byte`.
fn boundary(text: &str, byte: usize) -> usize {
    text.floor_char_boundary(byte.min(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_mistake_is_shown_with_its_place_its_line_a_caret_and_a_hint() {
        let mut found = Diagnostics::new("outer.toml", "[engine]\nname = \"a b\"\n");
        found.push(Diagnostic::error(16..21, "not a name").hint("use letters"));

        assert_eq!(
            found.to_string(),
            "outer.toml:2:8: error: not a name\n  |\n2 | name = \"a b\"\n  |        ^^^^^\n  |\n  = help: use letters\n"
        );
    }

    #[test]
    fn a_duplicate_shows_both_places() {
        let mut found = Diagnostics::new("x", "a = 1\nb = 2\n");
        found.push(Diagnostic::error(6..7, "twice").related(0..1, "first here"));

        let text = found.to_string();

        assert!(text.contains("x:2:1: error: twice\n"), "{text}");
        assert!(text.contains("x:1:1: note: first here\n"), "{text}");
    }

    #[test]
    fn columns_count_characters_and_places_beyond_the_text_do_not_panic() {
        let found = Diagnostics::new("x", "ä = \"ö\"");
        assert_eq!(found.line_column(5), (1, 5));
        assert_eq!(found.line_column(1), (1, 1));

        let mut found = Diagnostics::new("x", "ä\r\n");
        found.push(Diagnostic::warning(1..900, "odd"));
        found.push(Diagnostic::warning(900..901, "beyond"));
        assert!(found.to_string().contains("x:2:1: warning: beyond"));
    }
}
