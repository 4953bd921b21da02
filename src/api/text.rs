//! Values that stand as text in queries and bodies: their own error messages reach the caller unchanged.

use std::fmt;

use crate::api::ApiError;

/// Begins and ends a message of ours within the words that serde puts around it.
const BEGIN: char = '\u{2}';
const END: char = '\u{3}';

/// An error whose message is all that the caller is to read.
#[derive(Debug)]
pub(super) struct Verbatim(String);

impl fmt::Display for Verbatim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{BEGIN}{}{END}", self.0)
    }
}

impl From<ApiError> for Verbatim {
    fn from(error: ApiError) -> Self {
        Self(error.to_string())
    }
}

/// The message of an error of deserialization: ours alone if it holds one.
pub(super) fn message(text: String) -> String {
    let own = text.split_once(BEGIN).and_then(|(_, rest)| rest.rsplit_once(END));
    own.map(|(own, _)| own.to_owned()).unwrap_or(text)
}

/// Serializes optional values by their text.
pub(super) mod option {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    use super::Verbatim;

    pub(in crate::api) fn serialize<T: Display, S: Serializer>(value: &Option<T>, to: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => to.collect_str(value),
            None => to.serialize_none(),
        }
    }

    pub(in crate::api) fn deserialize<'de, T: FromStr<Err: Display>, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<T>, D::Error> {
        let parse = |text: String| text.parse().map_err(|error: T::Err| D::Error::custom(Verbatim(error.to_string())));
        Option::<String>::deserialize(from)?.map(parse).transpose()
    }
}

/// Serializes a flow as it is typed.
pub(super) mod flow {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    use super::Verbatim;
    use crate::api::flow_text;
    use crate::flow::FlowKey;

    pub(in crate::api) fn serialize<S: Serializer>(flow: &FlowKey, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&flow_text::format(flow))
    }

    pub(in crate::api) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<FlowKey, D::Error> {
        let text = String::deserialize(from)?;
        flow_text::parse(&text).map_err(|error| D::Error::custom(Verbatim(error.to_string())))
    }
}

/// Serializes a list of words with commas between them.
pub(super) mod words {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(in crate::api) fn serialize<S: Serializer>(words: &[String], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&words.join(","))
    }

    pub(in crate::api) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
        let text = String::deserialize(from)?;
        Ok(text.split(',').map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect())
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::api::LinkOrFirewall;

    #[test]
    fn an_error_of_a_value_is_told_without_what_serde_says_around_it() {
        #[derive(Debug, Deserialize)]
        struct Body {
            #[serde(default, with = "option")]
            from: Option<LinkOrFirewall>,
        }
        let refused = |json: &str| message(serde_json::from_str::<Body>(json).unwrap_err().to_string());
        assert_eq!(refused(r#"{"from": "a/b/c"}"#), "expected LINK or GROUP/FIREWALL, found \"a/b/c\"");
        assert_eq!(refused(r#"{"from": 7}"#), "invalid type: integer `7`, expected a string at line 1 column 10");
        let read: Body = serde_json::from_str("{}").unwrap();
        assert_eq!(read.from, None);
    }
}
