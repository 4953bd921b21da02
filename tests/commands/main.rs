//! Tests the program against fake engines: the requests that it sends, what it prints, and its exit status.

mod configuration;
mod fake;
mod ground;
mod orders;
mod shape;
mod show;
mod tools;
