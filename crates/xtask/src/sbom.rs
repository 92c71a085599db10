//! `scripts/sbom.sh`: what the programs are made of, for whoever must know which of them a vulnerability concerns.

use crate::command::{Environment, output};
use crate::workspace;
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

/// The programs of an image.
const PROGRAMS: [&str; 5] = ["interaction-server", "sync-consumer", "consistency-checker", "syncctl", "standalone"];

/// Writes the list of everything that is compiled into the programs of an image, as CycloneDX 1.5 in JSON: names, versions, licences,
/// checksums of crates, and what needs what.
///
/// It is made of Cargo.lock, for Linux on x86-64, and says nothing of the machine or of the day, so the same sources have the same
/// list. The system
/// packages of the image are those of its base, debian:bookworm-slim: nothing is installed there.
#[derive(clap::Args)]
pub(crate) struct Sbom {
    /// Where to; target/sbom.cdx.json if not given.
    #[arg(long)]
    output: Option<PathBuf>,
}

pub(crate) fn write(arguments: &Sbom) -> Result<bool> {
    let root = workspace::root();
    let mut ask = Environment::default().cargo(["metadata", "--locked", "--format-version", "1"]);
    ask.args(["--features", "distributed", "--filter-platform", "x86_64-unknown-linux-gnu"]).current_dir(&root);
    let metadata: Value = serde_json::from_str(&output(&mut ask)?).context("cargo metadata")?;
    let lock = fs::read_to_string(root.join("Cargo.lock")).context("Cargo.lock")?;
    let list = list(&metadata, &checksums(&lock))?;
    let file = arguments.output.clone().unwrap_or_else(|| workspace::target().join("sbom.cdx.json"));
    if let Some(directory) = file.parent() {
        fs::create_dir_all(directory)?;
    }
    fs::write(&file, serde_json::to_string_pretty(&list)? + "\n").with_context(|| file.display().to_string())?;
    let components = list["components"].as_array().map_or(0, Vec::len);
    println!("{}: {components} crates", file.display());
    Ok(true)
}

/// Checksums of crates by name and version.
fn checksums(lock: &str) -> BTreeMap<(String, String), String> {
    let value = |package: &str, key: &str| {
        let line = package.lines().find_map(|line| line.strip_prefix(&format!("{key} = ")))?;
        Some(line.trim_matches('"').to_owned())
    };
    let packages = lock.split("[[package]]").skip(1);
    packages.filter_map(|p| Some(((value(p, "name")?, value(p, "version")?), value(p, "checksum")?))).collect()
}

fn list(metadata: &Value, checksums: &BTreeMap<(String, String), String>) -> Result<Value> {
    let packages: BTreeMap<&str, &Value> =
        array(&metadata["packages"]).map(|package| (text(&package["id"]), package)).collect();
    let nodes: BTreeMap<&str, &Value> =
        array(&metadata["resolve"]["nodes"]).map(|node| (text(&node["id"]), node)).collect();
    let mut waiting: Vec<&str> = Vec::new();
    for program in PROGRAMS {
        let found = packages.iter().find(|(_, package)| package["name"] == program && package["source"].is_null());
        waiting.push(found.map(|(id, _)| *id).with_context(|| format!("there is no package {program}"))?);
    }
    let mut reached = BTreeMap::new();
    while let Some(id) = waiting.pop() {
        if reached.contains_key(id) {
            continue;
        }
        let needs: BTreeSet<&str> = nodes
            .get(id)
            .into_iter()
            .flat_map(|node| array(&node["deps"]))
            .filter(is_shipped)
            .map(|need| text(&need["pkg"]))
            .collect();
        waiting.extend(&needs);
        reached.insert(id, needs);
    }
    let reference = |id: &str| {
        let package = packages.get(id).with_context(|| format!("nothing is known of {id}"))?;
        Ok::<_, anyhow::Error>(format!("pkg:cargo/{}@{}", text(&package["name"]), text(&package["version"])))
    };
    let (mut components, mut dependencies) = (BTreeMap::new(), BTreeMap::new());
    for (id, needs) in &reached {
        let (package, purl) = (packages[id], reference(id)?);
        let (name, version) = (text(&package["name"]), text(&package["version"]));
        let mut component =
            json!({ "type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl });
        if PROGRAMS.contains(&name) {
            component["type"] = json!("application");
        }
        if let Some(licence) = package["license"].as_str() {
            // In crates of before a slash meant OR.
            component["licenses"] = json!([{ "expression": licence.replace('/', " OR ") }]);
        }
        if let Some(checksum) = checksums.get(&(name.to_owned(), version.to_owned())) {
            component["hashes"] = json!([{ "alg": "SHA-256", "content": checksum }]);
        }
        let needs = needs.iter().map(|need| reference(need)).collect::<Result<BTreeSet<_>>>()?;
        components.insert(purl.clone(), component);
        dependencies.insert(purl.clone(), json!({ "ref": purl, "dependsOn": needs }));
    }
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": { "component": { "type": "application", "name": "interaction-sync" } },
        "components": components.into_values().collect::<Vec<_>>(),
        "dependencies": dependencies.into_values().collect::<Vec<_>>(),
    }))
}

/// Whether what needs it has it in itself: not what only tests or build scripts use.
fn is_shipped(need: &&Value) -> bool {
    array(&need["dep_kinds"]).any(|kind| kind["kind"].is_null())
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shipped_is_listed_and_what_only_tests_need_is_not() -> Result<()> {
        let program = |name: &str| json!({ "id": name, "name": name, "version": "1.0.0", "source": null, "license": "MIT/Apache-2.0" });
        let other = |name: &str| json!({ "id": name, "name": name, "version": "2.0.0", "source": "registry" });
        let need = |name: &str, kind: Value| json!({ "pkg": name, "dep_kinds": [{ "kind": kind }] });
        let mut packages: Vec<Value> = PROGRAMS.iter().map(|name| program(name)).collect();
        packages.extend([other("used"), other("below"), other("tested")]);
        let metadata = json!({ "packages": packages, "resolve": { "nodes": [
            { "id": "syncctl", "deps": [need("used", Value::Null), need("tested", json!("dev"))] },
            { "id": "used", "deps": [need("below", Value::Null)] },
        ] } });
        let lock = "[[package]]\nname = \"used\"\nversion = \"2.0.0\"\nchecksum = \"abc\"\n";
        let list = list(&metadata, &checksums(lock))?;
        let names: Vec<_> = array(&list["components"]).map(|component| text(&component["name"])).collect();
        assert_eq!(names.len(), PROGRAMS.len() + 2, "{names:?}");
        assert!(names.contains(&"below") && !names.contains(&"tested"), "{names:?}");
        let used = array(&list["components"]).find(|component| component["name"] == "used").context("used")?;
        assert_eq!((used["hashes"][0]["content"].as_str(), text(&used["purl"])), (Some("abc"), "pkg:cargo/used@2.0.0"));
        let syncctl = array(&list["components"]).find(|component| component["name"] == "syncctl").context("syncctl")?;
        assert_eq!(syncctl["licenses"][0]["expression"], "MIT OR Apache-2.0");
        let edge =
            array(&list["dependencies"]).find(|edge| edge["ref"] == "pkg:cargo/used@2.0.0").context("no edge")?;
        assert_eq!(edge["dependsOn"], json!(["pkg:cargo/below@2.0.0"]));
        Ok(())
    }
}
