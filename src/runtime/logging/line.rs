//! One line of the log, and its forms as text and as JSON.

use std::fmt::{Debug, Write};

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level};

use super::CHANGE_TARGET;

/// Fields of a state change that its message already contains.
const FIELDS_IN_MESSAGE: [&str; 7] = ["kind", "subject", "from", "to", "reason", "by", "lasted_ms"];

/// One line of the log.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Line {
    /// RFC 3339 in UTC.
    pub(super) at: String,
    pub(super) level: Level,
    pub(super) message: String,
    fields: Vec<(&'static str, Value)>,
    is_change: bool,
}

impl Line {
    pub(super) fn of(event: &Event<'_>, at: String) -> Self {
        let metadata = event.metadata();
        let is_change = metadata.target() == CHANGE_TARGET;
        let mut line = Self { at, level: *metadata.level(), message: String::new(), fields: Vec::new(), is_change };
        event.record(&mut line);
        line
    }

    /// The value of a text field.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| *field == name).and_then(|(_, value)| value.as_str())
    }

    /// The line as text: `2026-01-02T03:04:05.678Z  WARN firewall perimeter/fw1: up -> down engine=outer reason="5
    /// probes in a row missed"`.
    pub(super) fn text(&self) -> String {
        format!("{} {:>5} {}", self.at, self.level, self.body())
    }

    /// The line as text without time and level.
    pub(super) fn body(&self) -> String {
        let mut text = self.message.clone();
        for (name, value) in &self.fields {
            if self.is_change && FIELDS_IN_MESSAGE.contains(name) {
                continue;
            }
            let _ = match value {
                // Quoted wherever a reader could mistake it, so that no value makes a line or a field of its own.
                Value::String(word) if !is_plain(word) => write!(text, " {name}={word:?}"),
                Value::String(word) => write!(text, " {name}={word}"),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                    write!(text, " {name}={value}")
                }
            };
        }
        text
    }

    /// The line as a JSON object with `at`, `level`, `message` and the fields.
    pub(super) fn json(&self) -> String {
        let level = self.level.as_str().to_ascii_lowercase();
        let head = [("at", self.at.clone()), ("level", level), ("message", self.message.clone())];
        let head = head.map(|(name, text)| (name.to_owned(), Value::from(text)));
        let fields = self.fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
        Value::Object(head.into_iter().chain(fields).collect::<Map<_, _>>()).to_string()
    }
}

fn is_plain(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'=' | b'\\'))
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let text = format!("{value:?}");
        match field.name() {
            "message" => self.message = text,
            name => self.fields.push((name, text.into())),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => value.clone_into(&mut self.message),
            name => self.fields.push((name, value.into())),
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.fields.push((field.name(), value.into()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.fields.push((field.name(), value.into()));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.fields.push((field.name(), value.into()));
    }
}

#[cfg(test)]
pub(in crate::runtime) mod tests {
    use std::sync::{Arc, Mutex};

    use tracing::Subscriber;
    use tracing_subscriber::Layer;
    use tracing_subscriber::layer::{Context, SubscriberExt};

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<Line>>>);

    impl<S: Subscriber> Layer<S> for Kept {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            self.0.lock().unwrap().push(Line::of(event, "2026-01-02T03:04:05.678Z".to_owned()));
        }
    }

    /// The lines that this thread logs while it runs `act`, as JSON and as text.
    pub(in crate::runtime) fn lines_of(act: impl FnOnce()) -> Vec<(Value, String)> {
        let kept = Kept::default();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(kept.clone()), act);
        let lines = kept.0.lock().unwrap();
        lines.iter().map(|line| (serde_json::from_str(&line.json()).unwrap(), line.text())).collect()
    }

    /// The line of a state change.
    pub(in crate::runtime::logging) fn change_line() -> Line {
        let fields = [("kind", "firewall"), ("subject", "perimeter/fw1"), ("engine", "outer")];
        Line {
            at: "2026-01-02T03:04:05.678Z".to_owned(),
            level: Level::WARN,
            message: "firewall perimeter/fw1: up -> down".to_owned(),
            fields: fields.map(|(name, value)| (name, value.into())).to_vec(),
            is_change: true,
        }
    }

    #[test]
    fn a_line_is_the_same_in_text_and_json_and_no_value_makes_another_line() {
        let hostile = "a\nb \"c\" level=error";
        let lines = lines_of(|| {
            tracing::warn!(engine = "outer", seq = 7, odd = hostile, ok = true, gone = None::<&str>, "it {}", 1)
        });

        let (json, text) = &lines[0];
        let expected = serde_json::json!({
            "at": "2026-01-02T03:04:05.678Z", "level": "warn", "message": "it 1",
            "engine": "outer", "seq": 7, "odd": hostile, "ok": true,
        });
        assert_eq!(*json, expected);
        assert_eq!(
            text,
            "2026-01-02T03:04:05.678Z  WARN it 1 engine=outer seq=7 odd=\"a\\nb \\\"c\\\" level=error\" ok=true"
        );
    }
}
