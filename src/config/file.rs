//! What was typed: the TOML file by serde, every value with its span.
