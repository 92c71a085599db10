//! A rendered kustomization.

use super::compose::is_digest;
use super::keda;
use super::settings::{OPS_KEYS, check_reach, stop_seconds};
use super::tree::{CONFIGURATION, Problems, Tree};
use super::yaml::{entries, items, text};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The objects by their kind.
struct Objects<'a>(&'a [Value]);

impl<'a> Objects<'a> {
    fn of_kind(&self, kind: &str) -> impl Iterator<Item = &'a Value> {
        self.0.iter().filter(move |object| object["kind"] == kind)
    }

    fn named(&self, kind: &str, name: &str) -> Option<&'a Value> {
        self.of_kind(kind).find(|object| object["metadata"]["name"] == name)
    }
}

/// Whether labels match a selector, which must say something.
fn selects(selector: &Value, labels: &Value) -> bool {
    entries(selector).next().is_some() && entries(selector).all(|(name, value)| labels[name] == *value)
}

/// Checks the objects of an overlay; the line says how many there were.
pub(crate) fn check(overlay: &str, documents: &[Value], tree: &Tree, problems: &mut Problems) -> String {
    let objects = Objects(documents);
    let mut names: Vec<_> = objects.of_kind("Deployment").map(|found| text(&found["metadata"]["name"])).collect();
    names.sort();
    let mut expected: Vec<_> = OPS_KEYS.iter().map(|(name, _)| (*name).to_owned()).collect();
    expected.sort();
    if names != expected {
        problems.say(format!("{overlay}: Deployments are {}", names.join(", ")));
    }
    let stop = stop_seconds(tree, problems);
    for deployment in objects.of_kind("Deployment") {
        check_deployment(overlay, deployment, &objects, stop, problems);
    }
    check_scaling(overlay, &objects, tree, problems);
    check_images(overlay, &objects, problems);
    keda::check(overlay, documents, problems);
    for service in objects.of_kind("Service") {
        let selector = &service["spec"]["selector"];
        let selected = |found: &Value| selects(selector, &found["spec"]["template"]["metadata"]["labels"]);
        if !objects.of_kind("Deployment").any(selected) {
            problems.say(format!("{overlay}: Service {} selects nothing", text(&service["metadata"]["name"])));
        }
    }
    let configuration = tree.texts.get(CONFIGURATION);
    let holds = |map: &Value| entries(&map["data"]).any(|(_, held)| held.as_str() == configuration.map(String::as_str));
    if objects.of_kind("ConfigMap").next().is_some() && !objects.of_kind("ConfigMap").any(holds) {
        problems.say(format!("{overlay}: the ConfigMap is not the configuration file"));
    }
    format!("checked {} rendered Kubernetes objects of {overlay}", documents.len())
}

fn check_deployment(overlay: &str, deployment: &Value, objects: &Objects<'_>, stop: f64, problems: &mut Problems) {
    let name = text(&deployment["metadata"]["name"]);
    let place = format!("{overlay}: {name}");
    let mut say = |what: &str| problems.say(format!("{place}: {what}"));
    let template = &deployment["spec"]["template"];
    let (labels, pod) = (&template["metadata"]["labels"], &template["spec"]);
    let container = &pod["containers"][0];
    if container["command"].as_array().is_none_or(|command| *command != [name.as_str()]) {
        say(&format!("starts {}", container["command"]));
    }
    if !selects(&deployment["spec"]["selector"]["matchLabels"], labels) {
        say("does not select its own pods");
    }
    let hook = text(&container["lifecycle"]["preStop"]["exec"]["command"][1]);
    let before_stop: f64 = if hook.is_empty() { 0.0 } else { hook.parse().unwrap_or(f64::INFINITY) };
    if pod["terminationGracePeriodSeconds"].as_f64().is_none_or(|grace| grace < stop + before_stop) {
        say("terminationGracePeriodSeconds is too short");
    }
    let unprivileged = pod["securityContext"]["runAsNonRoot"] == true;
    if !unprivileged || container["securityContext"]["readOnlyRootFilesystem"] != true {
        say("runs as root, or may write");
    }
    for (probe, question) in [
        ("startupProbe", &["health", "--live"][..]),
        ("livenessProbe", &["health", "--live"]),
        ("readinessProbe", &["health"]),
    ] {
        let asked: Vec<_> = items(&container[probe]["exec"]["command"]).iter().map(text).collect();
        if asked.split_first().is_none_or(|(program, rest)| *program != name || rest != question) {
            say(&format!("its {probe} does not ask {}", question.join(" ")));
        }
    }
    if [&container["resources"]["requests"], &container["resources"]["limits"]].iter().any(|part| part.is_null()) {
        say("has no resources");
    }
    check_environment(&name, container, &mut say);
    let volumes = items(&pod["volumes"]).iter().map(|volume| text(&volume["configMap"]["name"]));
    let variables = items(&container["envFrom"]).iter().map(|from| text(&from["configMapRef"]["name"]));
    for map in volumes.chain(variables) {
        if !map.is_empty() && objects.named("ConfigMap", &map).is_none() {
            say(&format!("there is no ConfigMap {map}"));
        }
    }
    let budgeted = |budget: &Value| selects(&budget["spec"]["selector"]["matchLabels"], labels);
    if !objects.of_kind("PodDisruptionBudget").any(budgeted) {
        say("has no PodDisruptionBudget");
    }
    let environment: BTreeMap<_, _> =
        items(&container["env"]).iter().map(|variable| (text(&variable["name"]), text(&variable["value"]))).collect();
    check_reach(&place, &environment, problems);
}

/// What is applied names one image for all programs; an example of production by what it holds, whatever becomes of its tag.
fn check_images(overlay: &str, objects: &Objects<'_>, problems: &mut Problems) {
    let workloads = objects.of_kind("Deployment").chain(objects.of_kind("Job"));
    let containers = workloads.flat_map(|object| items(&object["spec"]["template"]["spec"]["containers"]));
    let images: BTreeSet<_> = containers.map(|container| text(&container["image"])).collect();
    if images.len() > 1 {
        problems.say(format!("{overlay}: different images: {}", images.iter().cloned().collect::<Vec<_>>().join(", ")));
    }
    if overlay.starts_with("production") {
        for image in images.iter().filter(|image| !is_digest(image)) {
            problems.say(format!("{overlay}: {image} is not named by its digest"));
        }
    }
}

fn check_environment(name: &str, container: &Value, say: &mut impl FnMut(&str)) {
    let variables = items(&container["env"]);
    let key = OPS_KEYS.iter().find(|(service, _)| *service == name).map(|(_, key)| key.to_ascii_uppercase());
    let address = key.and_then(|key| {
        let wanted = format!("INTERACTION__SERVICE__{key}");
        variables.iter().find(|variable| variable["name"] == wanted.as_str()).map(|variable| text(&variable["value"]))
    });
    let port =
        items(&container["ports"]).iter().find(|port| port["name"] == "ops").map(|port| text(&port["containerPort"]));
    let listens = address.as_deref().and_then(|address| address.rsplit_once(':')).map(|(_, port)| port.to_owned());
    if port.is_none() || port != listens {
        let at = address.filter(|address| !address.is_empty()).unwrap_or_else(|| "loopback".into());
        say(&format!("ops HTTP listens at {at}, not at {}", port.unwrap_or_else(|| "a port called ops".into())));
    }
    for variable in variables.iter().filter(|variable| !variable["value"].is_null()) {
        let variable = text(&variable["name"]);
        if ["URL", "PASSWORD", "TOKEN", "SECRET"].iter().any(|end| variable.ends_with(end)) {
            say(&format!("{variable} holds a secret in plain text"));
        }
    }
}

fn check_scaling(overlay: &str, objects: &Objects<'_>, tree: &Tree, problems: &mut Problems) {
    for kind in ["HorizontalPodAutoscaler", "ScaledObject"] {
        for scaler in objects.of_kind(kind) {
            let target = objects.named("Deployment", &text(&scaler["spec"]["scaleTargetRef"]["name"]));
            if target.is_none_or(|target| !target["spec"]["replicas"].is_null()) {
                let name = text(&scaler["metadata"]["name"]);
                problems.say(format!("{overlay}: {kind} {name}: its Deployment is missing or has replicas of its own"));
            }
        }
    }
    let queue = format!("{}.likes", text(&tree.document(CONFIGURATION)["rabbitmq"]["prefix"]));
    for trigger in objects.of_kind("ScaledObject").flat_map(|scaler| items(&scaler["spec"]["triggers"])) {
        if trigger["metadata"]["queueName"] != queue.as_str() {
            problems.say(format!("{overlay}: ScaledObject: the queue is called {queue}"));
        }
        if objects.named("TriggerAuthentication", &text(&trigger["authenticationRef"]["name"])).is_none() {
            problems.say(format!("{overlay}: ScaledObject: there is no such TriggerAuthentication"));
        }
    }
}
