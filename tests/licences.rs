//! Holds the licences and sources of all dependencies against `deny.toml`, without `cargo deny` and without a network.

use std::path::Path;
use std::process::Command;

use serde::Deserialize;
use spdx::{Expression, ParseMode};

/// The parts of `deny.toml` that are judged here.
#[derive(Deserialize)]
struct Policy {
    licenses: Licenses,
    sources: Sources,
}

#[derive(Deserialize)]
struct Licenses {
    allow: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Sources {
    allow_registry: Vec<String>,
    allow_git: Vec<String>,
}

/// The parts of `cargo metadata` that are judged here.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    /// An SPDX expression.
    license: Option<String>,
    /// Null: a directory of this repository.
    source: Option<String>,
}

impl Policy {
    /// Why the package may not be used; `None` if it may.
    fn objection(&self, package: &Package) -> Option<String> {
        let registries = self.sources.allow_registry.iter().map(|registry| format!("registry+{registry}"));
        match &package.source {
            Some(source) if !registries.into_iter().any(|registry| registry == *source) => {
                return Some(format!("comes from {source}"));
            }
            None if package.name != env!("CARGO_PKG_NAME") => return Some("comes from a directory".to_owned()),
            Some(_) | None => {}
        }
        let Some(license) = &package.license else { return Some("names no licence".to_owned()) };
        match Expression::parse_mode(license, ParseMode::LAX) {
            Err(error) => Some(format!("has a licence that is no SPDX expression: {error}")),
            Ok(expression) => {
                let is_allowed = |licence: &spdx::LicenseReq| self.licenses.allow.contains(&licence.to_string());
                (!expression.evaluate(is_allowed)).then(|| format!("is under {license}"))
            }
        }
    }
}

fn policy() -> Policy {
    let text = std::fs::read_to_string(root().join("deny.toml")).expect("deny.toml is readable");
    toml::from_str(&text).expect("deny.toml is valid")
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The platform of this machine, as `rustc` names it. Crates of other platforms need not have been downloaded.
fn platform() -> String {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let told = Command::new(rustc).arg("-vV").output().expect("rustc runs");
    let told = String::from_utf8(told.stdout).expect("rustc writes UTF-8");
    told.lines().find_map(|line| line.strip_prefix("host: ")).expect("rustc names its host").to_owned()
}

fn metadata() -> Metadata {
    let told = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--locked", "--offline", "--filter-platform", &platform()])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    serde_json::from_slice(&told.stdout).expect("cargo writes JSON")
}

#[test]
fn every_dependency_has_a_licence_and_a_source_that_are_allowed() {
    let (policy, packages) = (policy(), metadata().packages);
    assert!(packages.len() > 50, "{}", packages.len());
    let objections = packages.iter().filter_map(|package| {
        policy.objection(package).map(|objection| format!("{} {} {objection}", package.name, package.version))
    });
    let objections: Vec<_> = objections.collect();
    assert!(objections.is_empty(), "deny.toml does not allow:\n{}", objections.join("\n"));
}

#[test]
fn what_is_not_allowed_is_found() {
    let policy = policy();
    assert!(policy.sources.allow_git.is_empty());
    let registry = format!("registry+{}", policy.sources.allow_registry[0]);
    let package = |license: Option<&str>, source: &str| Package {
        name: "other".to_owned(),
        version: "1.0.0".to_owned(),
        license: license.map(str::to_owned),
        source: Some(source.to_owned()),
    };
    for good in ["MIT", "MIT/Apache-2.0", "GPL-3.0-only OR MIT", "(MIT OR Apache-2.0) AND Unicode-3.0"] {
        assert_eq!(policy.objection(&package(Some(good), &registry)), None, "{good}");
    }
    for bad in ["GPL-3.0-only", "MIT AND GPL-2.0-or-later", "Apache-2.0 WITH LLVM-exception", "no licence"] {
        assert!(policy.objection(&package(Some(bad), &registry)).is_some(), "{bad}");
    }
    assert_eq!(policy.objection(&package(None, &registry)).as_deref(), Some("names no licence"));
    let forge = policy.objection(&package(Some("MIT"), "git+https://example.org/other")).unwrap();
    assert_eq!(forge, "comes from git+https://example.org/other");
    let local = Package { source: None, ..package(Some("MIT"), &registry) };
    assert_eq!(policy.objection(&local).as_deref(), Some("comes from a directory"));
}
