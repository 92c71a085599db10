//! The Compose file, the image and the secrets that both need.

use super::metrics::PROGRAMS;
use super::settings::{check_reach, stop_seconds};
use super::tree::{Problems, Tree};
use super::yaml::{entries, items, seconds, text};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

const COMPOSE: &str = "deploy/compose.yaml";
const DOCKERFILE: &str = "deploy/Dockerfile";
/// What `pin_images.sh` writes; not everybody has it.
pub(crate) const PINNED: &str = "deploy/compose.images.yaml";

pub(crate) fn check(tree: &Tree, root: &Path, problems: &mut Problems) {
    let compose = tree.document(COMPOSE);
    let stop = stop_seconds(tree, problems);
    for (name, service) in entries(&compose["services"]) {
        check_service(compose, name, service, stop, root, problems);
    }
    let script = tree.text("deploy/make_secrets.sh", problems);
    let names = script.lines().filter_map(|line| {
        let words = line.strip_prefix("put ").or_else(|| line.strip_prefix("made_of "))?;
        words.split_whitespace().next()
    });
    let made: BTreeSet<_> = names.collect();
    for (name, secret) in entries(&compose["secrets"]) {
        let file = text(&secret["file"]);
        if !file.rsplit('/').next().is_some_and(|file| made.contains(file)) {
            problems.say(format!("{COMPOSE}: make_secrets.sh does not make {file} ({name})"));
        }
    }
    check_image(tree.text(DOCKERFILE, problems), root, problems);
    if tree.parsed.contains_key(PINNED) {
        check_pinned(compose, tree, problems);
    }
}

/// Whether an image is named by what it holds.
pub(crate) fn is_digest(image: &str) -> bool {
    let digest = image.split_once("@sha256:").map_or("", |(_, digest)| digest);
    digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// Every image has its digest, found by the tag that the Compose file names now.
fn check_pinned(compose: &Value, tree: &Tree, problems: &mut Problems) {
    let pinned = &tree.document(PINNED)["services"];
    let text = tree.texts.get(PINNED).map_or("", String::as_str);
    for (name, service) in entries(&compose["services"]).filter(|(_, service)| service["build"].is_null()) {
        let tag = service["image"].as_str().unwrap_or_default();
        let found = pinned[name]["image"].as_str().unwrap_or_default();
        if !is_digest(found) || !text.lines().any(|line| line.ends_with(&format!("image: {found} # {tag}"))) {
            problems.say(format!("{PINNED}: {name}: no digest of {tag}; deploy/pin_images.sh finds it"));
        }
    }
    for (name, _) in entries(pinned).filter(|(name, _)| compose["services"][name].is_null()) {
        problems.say(format!("{PINNED}: {name}: there is no such service"));
    }
}

fn check_service(compose: &Value, name: &str, service: &Value, stop: f64, root: &Path, problems: &mut Problems) {
    let mut say = |what: String| problems.say(format!("{COMPOSE}: {name}: {what}"));
    if service["healthcheck"].is_null() && name != "otel-collector" {
        say("no healthcheck".into());
    }
    // Of every container, stores and monitoring among them.
    let drops: Vec<_> = items(&service["cap_drop"]).iter().map(text).collect();
    let options: Vec<_> = items(&service["security_opt"]).iter().map(text).collect();
    if service["read_only"] != true || drops != ["ALL"] || options != ["no-new-privileges:true"] {
        say("must be read_only, with cap_drop: [ALL] and no-new-privileges".into());
    }
    for limit in ["mem_limit", "pids_limit"] {
        if service[limit].is_null() {
            say(format!("has no {limit}"));
        }
    }
    for (other, how) in entries(&service["depends_on"]) {
        if how["condition"] == "service_healthy" && compose["services"][other]["healthcheck"].is_null() {
            say(format!("{other} never becomes healthy"));
        }
    }
    for volume in items(&service["volumes"]) {
        let volume = text(volume);
        let origin = volume.split(':').next().unwrap_or_default();
        if origin.starts_with('.') && !root.join("deploy").join(origin).exists() {
            say(format!("there is no {origin}"));
        }
        // A declared volume has no settings: its key is there, its value is null.
        let declared = compose["volumes"].as_object().is_some_and(|volumes| volumes.contains_key(origin));
        if !origin.starts_with(['.', '/']) && !declared {
            say(format!("volume {origin} is not declared"));
        }
    }
    for secret in items(&service["secrets"]) {
        let secret = if secret.is_string() { text(secret) } else { text(&secret["source"]) };
        if compose["secrets"][&secret].is_null() {
            say(format!("secret {secret} is not declared"));
        }
    }
    if service["build"].is_null() {
        return;
    }
    let grace = &service["stop_grace_period"];
    // Compose's own default is ten seconds.
    if (if grace.is_null() { Ok(10.0) } else { seconds(grace) }).is_ok_and(|grace| grace < stop) {
        say(format!("stop_grace_period is less than {stop} s"));
    }
    let program = text(&service["command"][0]);
    // It does one thing and ends.
    if program == "syncctl" {
        return;
    }
    if !PROGRAMS.iter().any(|(_, known)| *known == program) {
        say(format!("there is no program {program}"));
    }
    let asked: Vec<_> = items(&service["healthcheck"]["test"]).iter().map(text).collect();
    if asked != ["CMD", program.as_str(), "health"] {
        say(format!("its healthcheck does not ask {program}"));
    }
    let environment = entries(&service["environment"]).map(|(name, value)| (name.to_owned(), text(value)));
    check_reach(&format!("{COMPOSE}: {name}"), &environment.collect(), problems);
}

/// What it copies exists, and it builds every program.
fn check_image(dockerfile: &str, root: &Path, problems: &mut Problems) {
    for line in dockerfile.lines().filter_map(|line| line.strip_prefix("COPY ")) {
        let words: Vec<_> = line.split_whitespace().collect();
        if words.iter().any(|word| word.starts_with("--from")) {
            continue;
        }
        if let [origin, _] = words.iter().filter(|word| !word.starts_with("--")).collect::<Vec<_>>().as_slice()
            && !root.join(origin).exists()
        {
            problems.say(format!("{DOCKERFILE}: there is no {origin}"));
        }
    }
    for (_, program) in PROGRAMS {
        let built = dockerfile.contains(&format!("-p {program}"));
        if !built || !root.join("crates").join(program).join("src/main.rs").exists() {
            problems.say(format!("{DOCKERFILE}: does not build {program}"));
        }
    }
}
