//! Validates JSON against the schemas of an OpenAPI document. It knows the part of JSON Schema that the document uses,
//! and refuses a schema that uses more.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

/// The violations of `schema` by `value`. Keys that no schema has are violations, too.
pub fn faults(document: &Value, schema: &Value, value: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    Judge { document }.object_keys(schema, value, "", &mut faults);
    Judge { document }.judge(schema, value, "", &mut faults);
    faults
}

/// The target of a reference within the document.
pub fn resolve<'a>(document: &'a Value, reference: &str) -> Option<&'a Value> {
    document.pointer(reference.strip_prefix('#')?)
}

struct Judge<'a> {
    document: &'a Value,
}

impl Judge<'_> {
    fn judge(&self, schema: &Value, value: &Value, at: &str, faults: &mut Vec<String>) {
        let Some(schema) = schema.as_object() else {
            return faults.push(format!("{at}: not a schema: {schema}"));
        };
        for (keyword, rule) in schema {
            match keyword.as_str() {
                "$ref" => match rule.as_str().and_then(|name| resolve(self.document, name)) {
                    Some(schema) => self.judge(schema, value, at, faults),
                    None => faults.push(format!("{at}: {rule} leads nowhere")),
                },
                "type" if !types(rule).any(|kind| is(kind, value)) => {
                    faults.push(format!("{at}: {value} is no {rule}"))
                }
                "enum" if !list(rule).contains(value) => faults.push(format!("{at}: {value} is none of {rule}")),
                "minimum" if value.as_f64().is_some_and(|value| value < number(rule)) => {
                    faults.push(format!("{at}: {value} < {rule}"));
                }
                "maximum" if value.as_f64().is_some_and(|value| value > number(rule)) => {
                    faults.push(format!("{at}: {value} > {rule}"));
                }
                "required" => {
                    let missing = list(rule).iter().filter_map(Value::as_str).filter(|key| value.get(key).is_none());
                    faults.extend(missing.map(|key| format!("{at}: no {key}")));
                }
                "properties" | "additionalProperties" => {}
                "items" => {
                    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                        self.inner(rule, item, &format!("{at}/{index}"), faults);
                    }
                }
                "oneOf" => {
                    let tries = list(rule).iter().map(|schema| {
                        let mut faults = Vec::new();
                        self.inner(schema, value, at, &mut faults);
                        faults
                    });
                    let tries: Vec<_> = tries.collect();
                    if tries.iter().filter(|faults| faults.is_empty()).count() != 1 {
                        faults.push(format!("{at}: not one of: {tries:?}"));
                    }
                }
                "allOf" => list(rule).iter().for_each(|schema| self.judge(schema, value, at, faults)),
                "type" | "enum" | "minimum" | "maximum" => {}
                "description" | "format" | "default" | "propertyNames" => {}
                _ => faults.push(format!("{at}: a keyword that the judge does not know: {keyword}")),
            }
        }
        let none = Map::new();
        let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&none);
        for (key, value) in value.as_object().into_iter().flatten() {
            match (properties.get(key), schema.get("additionalProperties")) {
                (Some(rule), _) => self.inner(rule, value, &format!("{at}/{key}"), faults),
                (None, Some(Value::Bool(false))) => faults.push(format!("{at}: {key} is not allowed")),
                (None, Some(Value::Bool(true)) | None) => {}
                (None, Some(rule)) => self.inner(rule, value, &format!("{at}/{key}"), faults),
            }
        }
    }

    /// Checks a value within another one.
    fn inner(&self, schema: &Value, value: &Value, at: &str, faults: &mut Vec<String>) {
        self.object_keys(schema, value, at, faults);
        self.judge(schema, value, at, faults);
    }

    /// Checks that all keys of an object are described.
    fn object_keys(&self, schema: &Value, value: &Value, at: &str, faults: &mut Vec<String>) {
        let mut known = BTreeSet::new();
        if let (Some(object), false) = (value.as_object(), self.keys(schema, &mut known)) {
            faults
                .extend(object.keys().filter(|key| !known.contains(*key)).map(|key| format!("{at}: {key} is untold")));
        }
    }

    /// Collects the keys that `schema` describes; true if it allows any key.
    fn keys(&self, schema: &Value, known: &mut BTreeSet<String>) -> bool {
        known.extend(schema["properties"].as_object().into_iter().flatten().map(|(key, _)| key.clone()));
        let referred = schema["$ref"].as_str().and_then(|name| resolve(self.document, name));
        let parts = ["allOf", "oneOf"].into_iter().flat_map(|keyword| schema[keyword].as_array().into_iter().flatten());
        let any = parts.chain(referred).fold(false, |any, part| self.keys(part, known) | any);
        any || schema.get("additionalProperties").is_some_and(|rule| *rule != Value::Bool(false))
    }
}

fn number(rule: &Value) -> f64 {
    rule.as_f64().expect("a bound is a number")
}

fn list(rule: &Value) -> &[Value] {
    rule.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn types(rule: &Value) -> impl Iterator<Item = &str> {
    rule.as_str().into_iter().chain(list(rule).iter().filter_map(Value::as_str))
}

fn is(kind: &str, value: &Value) -> bool {
    match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => false,
    }
}
