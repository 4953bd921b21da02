//! The reference of the API in the documentation, made from the OpenAPI document.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use serde_json::Value;

use crate::openapi::document;

const PATH: &str = "docs/json.md";
const HEAD: &str = "# The API and its JSON

This page is made from the OpenAPI document that every engine serves (`GET /api/v1/openapi.json`).
[`interface.md`](interface.md#5-the-api) says how to reach it, who may ask, and what the answers have in common.

";

/// The description of the one schema that has alternatives.
const ERROR: &str =
    "Why a call was refused: an object with `error`, which is one of these words, and `message`, a sentence.\n";

/// A text as the cell of a table.
fn cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

/// The description of a call, a parameter or a key; of one that may be null, the description of its value.
fn said(of: &Value) -> String {
    let own = of["description"].as_str().or(of["summary"].as_str());
    let of_value = || of["oneOf"].as_array()?.iter().find_map(|one| one["description"].as_str());
    cell(own.or_else(of_value).unwrap_or_default())
}

/// The type of a schema's values: `integer`, `string or null`, a link to an object.
fn kind(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next()) {
        return format!("[{name}](#{})", name.to_lowercase());
    }
    for (several, word) in [("oneOf", " or "), ("anyOf", " or "), ("allOf", " and ")] {
        if let Some(list) = schema[several].as_array() {
            let mut kinds: Vec<_> = list.iter().map(kind).collect();
            kinds.sort_by_key(|kind| kind == "null");
            return kinds.join(word);
        }
    }
    if let Some(words) = schema["enum"].as_array() {
        let words: Vec<_> = words.iter().map(|word| format!("`{}`", word.as_str().unwrap_or("null"))).collect();
        return words.join(", ");
    }
    let one = |name: &str| match name {
        "array" => format!("list of {}", kind(&schema["items"])),
        "object" if schema["additionalProperties"].is_object() => {
            format!("object of {}", kind(&schema["additionalProperties"]))
        }
        "object" if schema["properties"].is_object() => {
            let keys: Vec<_> = schema["properties"].as_object().into_iter().flatten().map(|(key, _)| key).collect();
            format!("an object with {}", keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", "))
        }
        name => name.to_owned(),
    };
    match &schema["type"] {
        Value::String(name) => one(name),
        Value::Array(names) => names.iter().filter_map(Value::as_str).map(one).collect::<Vec<_>>().join(" or "),
        _ => "any value".to_owned(),
    }
}

fn calls(document: &Value, out: &mut String) {
    out.push_str(
        "## Calls\n\nCalls marked with \"operator\" need an operator; everything else may be read by a viewer.\n",
    );
    for (path, item) in document["paths"].as_object().expect("there are paths") {
        for (verb, call) in item.as_object().expect("there are verbs") {
            let operator = call["security"].is_array();
            let _ = write!(out, "\n### {} {path}\n\n{}", verb.to_uppercase(), said(call));
            out.push_str(if operator { " (operator).\n" } else { ".\n" });
            let parameters: Vec<_> = call["parameters"].as_array().into_iter().flatten().collect();
            if !parameters.is_empty() {
                out.push_str("\n| query | type | what |\n| --- | --- | --- |\n");
                for parameter in parameters {
                    let (name, schema) = (parameter["name"].as_str().expect("it has a name"), &parameter["schema"]);
                    let _ = writeln!(out, "| `{name}` | {} | {} |", cell(&kind(schema)), said(parameter));
                }
            }
            out.push('\n');
            for (_, content) in call["requestBody"]["content"].as_object().into_iter().flatten() {
                let _ = writeln!(out, "- Body: {}", kind(&content["schema"]));
            }
            let answer = &call["responses"]["200"];
            for (media, content) in answer["content"].as_object().into_iter().flatten() {
                let _ = match (media.as_str(), &content["schema"]) {
                    ("application/json", schema) => writeln!(out, "- Answer: {}", kind(schema)),
                    (media, _) => writeln!(out, "- Answer: `{media}`"),
                };
            }
            for (name, header) in answer["headers"].as_object().into_iter().flatten() {
                let _ = writeln!(out, "- Header `{name}`: {}", said(header));
            }
            let refusals = call["responses"].as_object().into_iter().flatten();
            let refusals: Vec<_> =
                refusals.map(|(status, _)| status.as_str()).filter(|status| *status != "200").collect();
            let _ = writeln!(out, "- Errors: {}", refusals.join(", "));
        }
    }
}

fn objects(document: &Value, out: &mut String) {
    out.push_str("\n## Objects\n");
    let schemas = document["components"]["schemas"].as_object().expect("there are schemas");
    let schemas: BTreeMap<_, _> = schemas.iter().collect();
    for (name, schema) in schemas {
        let about = if schema["oneOf"].is_array() { ERROR.to_owned() } else { said(schema) };
        let _ = write!(out, "\n### {name}\n\n{about}\n");
        match schema["properties"].as_object() {
            Some(properties) => {
                out.push_str("\n| key | type | what |\n| --- | --- | --- |\n");
                for (key, property) in properties {
                    let _ = writeln!(out, "| `{key}` | {} | {} |", cell(&kind(property)), said(property));
                }
            }
            None if schema["oneOf"].is_array() => {
                for one in schema["oneOf"].as_array().into_iter().flatten() {
                    let _ = writeln!(out, "- {}: {}", kind(&one["properties"]["error"]), said(one));
                }
            }
            None => {
                let _ = writeln!(out, "\nIt is {}.", kind(schema));
            }
        }
    }
}

/// `FWLB_WRITE_DOCS=1` writes the page.
#[tokio::test]
async fn the_documentation_describes_every_call_and_every_key() {
    let document = document().await;
    let mut page = HEAD.to_owned();
    calls(&document, &mut page);
    objects(&document, &mut page);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PATH);
    if std::env::var_os("FWLB_WRITE_DOCS").is_some() {
        std::fs::write(&path, page).unwrap();
        return;
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == page, "run the tests of the API with FWLB_WRITE_DOCS=1 and commit {PATH}");
}

#[test]
fn kinds_are_told_as_a_reader_needs_them() {
    use serde_json::json;
    for (schema, told) in [
        (json!({"type": "integer"}), "integer"),
        (json!({"type": ["string", "null"]}), "string or null"),
        (
            json!({"type": "array", "items": {"$ref": "#/components/schemas/CheckView"}}),
            "list of [CheckView](#checkview)",
        ),
        (json!({"oneOf": [{"type": "null"}, {"$ref": "#/components/schemas/Admin"}]}), "[Admin](#admin) or null"),
        (json!({"type": "string", "enum": ["up", "down"]}), "`up`, `down`"),
        (json!({"type": "object", "additionalProperties": {"type": "integer"}}), "object of integer"),
        (json!({"type": "object", "properties": {"engine": {}}}), "an object with `engine`"),
        (json!({}), "any value"),
    ] {
        assert_eq!(kind(&schema), told, "{schema}");
    }
}
