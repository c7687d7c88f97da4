//! What the program is made of: licences, bans and sources as `deny.toml` has them, checked against Cargo's own answer.
//!
//! `cargo deny` reads the same file and knows more; this needs no further program and no network. It does not
//! know advisories. And what a build in a container is given.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::collections::BTreeSet;
use std::process::Command;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Package {
    name: String,
    version: String,
    /// Empty for packages of the registry: Cargo names any other place.
    place: String,
    licence: String,
}

/// Every package of the workspace on this platform, tests and build scripts included.
fn packages() -> BTreeSet<Package> {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--offline",
            "--locked",
            "--workspace",
            "--prefix",
            "none",
            "--no-dedupe",
        ])
        .args(["--format", "{p}|{l}"])
        .current_dir(ROOT)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text.lines().filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let (package, licence) = line.rsplit_once('|').unwrap();
            let package = package.replace(" (proc-macro)", "");
            let mut words = package.splitn(3, ' ').map(str::to_owned);
            Package {
                name: words.next().unwrap(),
                version: words.next().unwrap(),
                place: words.next().unwrap_or_default(),
                licence: licence.to_owned(),
            }
        })
        .collect()
}

fn deny() -> toml::Table {
    let text = std::fs::read_to_string(format!("{ROOT}/deny.toml")).unwrap();
    toml::from_str(&text).unwrap()
}

fn strings(value: &toml::Value) -> Vec<String> {
    let values = value.as_array().unwrap().iter();
    values.map(|value| value.as_str().unwrap().to_owned()).collect()
}

/// Whether some choice that the expression leaves consists of allowed licences only.
fn is_allowed(expression: &str, allowed: &[String]) -> bool {
    // Parentheses bind alternatives in what Cargo's packages write, as in "(MIT OR Apache-2.0) AND Unicode-3.0".
    let parts = expression.replace('/', " OR ");
    let mut depth = 0;
    let mut flat = String::new();
    for character in parts.chars() {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            ' ' if depth > 0 => flat.push('_'),
            other => flat.push(other),
        }
    }
    flat.split(" OR ").any(|choice| {
        choice.split(" AND ").all(|licence| {
            let licence = licence.trim();
            if licence.contains("_OR_") {
                return licence
                    .split("_OR_")
                    .any(|licence| allowed.iter().any(|known| known == licence));
            }
            allowed.iter().any(|known| known == licence)
        })
    })
}

#[test]
fn licences_are_allowed_packages_are_not_banned_and_come_from_the_registry() {
    let deny = deny();
    let allowed = strings(&deny["licenses"]["allow"]);
    let banned: Vec<_> = deny["bans"]["deny"].as_array().unwrap().clone();
    let packages = packages();
    assert!(packages.len() > 200, "only {} packages", packages.len());
    for package in &packages {
        let Package {
            name, version, place, ..
        } = package;
        assert!(
            is_allowed(&package.licence, &allowed),
            "{name}: {}",
            package.licence
        );
        for ban in &banned {
            let ban = ban["crate"].as_str().unwrap();
            let is_banned = match ban.split_once('@') {
                Some((banned, major)) => name == banned && version.starts_with(&format!("v{major}.")),
                None => name == ban,
            };
            assert!(!is_banned, "{name} {version} is banned");
        }
        // Anything but the registry and this folder has its address here.
        assert!(!place.contains("://"), "{name} comes from {place}");
    }
}

#[test]
fn a_build_in_a_container_is_given_every_package_of_the_workspace() {
    let read = |name: &str| std::fs::read_to_string(format!("{ROOT}/{name}")).unwrap();
    let workspace: toml::Table = toml::from_str(&read("Cargo.toml")).unwrap();
    let ignored = read(".dockerignore");
    for member in strings(&workspace["workspace"]["members"]) {
        let folder = member.split('/').next().unwrap();
        let is_given = ignored.lines().any(|line| line.strip_prefix('!') == Some(folder));
        assert!(is_given, ".dockerignore leaves out {folder}");
    }
}

#[test]
fn the_check_of_licences_can_fail() {
    let allowed = ["MIT", "Apache-2.0", "Unicode-3.0"].map(str::to_owned);
    for good in [
        "MIT",
        "GPL-3.0 OR MIT",
        "MIT/GPL-2.0",
        "(MIT OR GPL-3.0) AND Unicode-3.0",
        "MIT AND Apache-2.0",
    ] {
        assert!(is_allowed(good, &allowed), "{good}");
    }
    for bad in [
        "",
        "GPL-3.0",
        "MIT AND GPL-3.0",
        "(GPL-3.0 OR AGPL-3.0) AND MIT",
        "MITX",
    ] {
        assert!(!is_allowed(bad, &allowed), "{bad:?}");
    }
}
