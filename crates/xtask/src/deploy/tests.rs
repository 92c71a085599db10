//! Each check finds its mistake in the real files, and finds none in them as they are.

use super::tree::{CONFIGURATION, Problems, Tree};
use super::{charts, compose, kubernetes, metrics, settings, yaml};
use crate::workspace;
use anyhow::{Context, Result};
use serde_json::{Value, json};

fn tree() -> Result<Tree> {
    let mut problems = Problems::default();
    let tree = Tree::read(&workspace::root(), &mut problems)?;
    assert_eq!(problems.into_lines(), Vec::<String>::new());
    Ok(tree)
}

fn problems(tree: &Tree) -> Result<Vec<String>> {
    let mut problems = Problems::default();
    super::compare_with_source(tree, &workspace::root(), &mut problems)?;
    Ok(problems.into_lines())
}

/// What is wrong once a text of a file is another one.
fn problems_with(file: &str, from: &str, to: &str) -> Result<Vec<String>> {
    let mut tree = tree()?;
    let text = tree.texts.get(file).with_context(|| format!("no {file}"))?;
    assert!(text.contains(from), "{file} does not contain {from}");
    let changed = text.replacen(from, to, 1);
    if tree.parsed.contains_key(file) {
        tree.parsed.insert(file.to_owned(), yaml::read(file, &changed)?);
    }
    tree.texts.insert(file.to_owned(), changed);
    problems(&tree)
}

#[test]
fn the_files_are_in_order() -> Result<()> {
    assert_eq!(problems(&tree()?)?, Vec::<String>::new());
    Ok(())
}

#[test]
fn each_mistake_is_found() -> Result<()> {
    const DASHBOARD: &str = "deploy/grafana/dashboards/interaction.json";
    const COMPOSE: &str = "deploy/compose.yaml";
    const UNIT: &str = "deploy/systemd/sync-consumer.service";
    for (file, from, to, expected) in [
        (charts::RULES, "interaction_likes_total", "like_total", "nothing exports like_total"),
        (charts::RULES, ", part=", ", port=", "has no label port"),
        (charts::RULES, "severity: page }", "severity: loud }", "lacks severity"),
        (charts::RULES, "#redologdown", "#redolog", "RedoLogDown: runbook_url is not docs/OPERATING.md#redologdown"),
        (charts::RULE_TESTS, "alertname: LikesUnavailable", "alertname: LikesGone", "there is no alert LikesGone"),
        (DASHBOARD, "by (outcome)", "by (outcom)", "nothing in it has a label outcom"),
        (
            "deploy/METRICS.md",
            "| `interaction_live_streams` | gauge |",
            "| `interaction_live_streams` | counter |",
            "interaction_live_streams is a counter",
        ),
        (
            "deploy/METRICS.md",
            "| `interaction_live_streams` |",
            "| interaction_live_streams |",
            "lacks interaction_live_streams",
        ),
        (COMPOSE, "stop_grace_period: 40s", "stop_grace_period: 20s", "stop_grace_period is less than"),
        (COMPOSE, "REDIS__URL_FILE", "REDIS__ADDRESS_FILE", "there is no key redis.address_file"),
        (
            COMPOSE,
            "SERVICE__CONSUMER_HTTP_ADDR: 0.0.0.0:8894",
            "SERVICE__CONSUMER_HTTP_ADDR: 0.0.0.0:8884",
            "not at 8894",
        ),
        (COMPOSE, "read_only: true", "read_only: false", "redis: must be read_only"),
        (COMPOSE, "cap_drop: [ALL]", "cap_drop: [NET_RAW]", "prometheus: must be read_only, with cap_drop: [ALL]"),
        (COMPOSE, "mem_limit: 5g", "mem_reservation: 5g", "redis: has no mem_limit"),
        (COMPOSE, "command: [standalone]", "command: [alone]", "there is no program alone"),
        (COMPOSE, "secrets: [tokens]", "secrets: [token]", "secret token is not declared"),
        (COMPOSE, "./prometheus", "./prometheuss", "there is no ./prometheuss"),
        ("deploy/prometheus/prometheus.yml", "port: 8895", "port: 8896", "consistency-checker is not scraped at 8895"),
        ("deploy/make_secrets.sh", "put tokens", "put token", "does not make"),
        ("deploy/Dockerfile", "-p standalone", "-p alone", "does not build standalone"),
        (UNIT, "RestartPreventExitStatus=64", "RestartPreventExitStatus=65", "lacks RestartPreventExitStatus=64"),
        (UNIT, "TimeoutStopSec=", "TimeoutStopSec=1 #", "TimeoutStopSec is less than"),
        (UNIT, "/usr/local/bin/sync-consumer ", "/usr/bin/sync-consumer ", "does not start sync-consumer"),
    ] {
        let found = problems_with(file, from, to)?;
        assert!(found.iter().any(|line| line.contains(expected)), "{file}: {from} as {to}: {found:?}");
    }
    Ok(())
}

#[test]
fn who_listens_for_others_needs_tokens() {
    let place = |variables: &[(&str, &str)]| {
        let mut problems = Problems::default();
        let environment = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        settings::check_reach("here", &environment, &mut problems);
        problems.into_lines().len()
    };
    let listens = ("INTERACTION__SERVICE__HTTP_ADDR", "0.0.0.0:8893");
    assert_eq!(place(&[listens]), 1);
    assert_eq!(place(&[listens, ("INTERACTION__SERVICE__ACCESS__TOKENS_FILE", "")]), 1);
    assert_eq!(place(&[listens, ("INTERACTION__SERVICE__ACCESS__TOKENS_FILE", "/run/secrets/tokens")]), 0);
    assert_eq!(place(&[("INTERACTION__SERVICE__HTTP_ADDR", "127.0.0.1:8893")]), 0);
}

#[test]
fn metrics_that_nobody_shows_are_found() -> Result<()> {
    let tree = tree()?;
    let mut problems = Problems::default();
    let mut source = metrics::Source::read(&workspace::root(), &mut problems)?;
    source.metrics.insert("hidden_total".into(), metrics::Metric { kind: "counter".into(), ..Default::default() });
    charts::check(&tree, &source, &mut problems);
    assert_eq!(problems.into_lines(), ["deploy/grafana/dashboards: no panel shows hidden_total"]);
    Ok(())
}

const IMAGE: &str =
    "registry.example.com/interaction-sync@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// One good deployment of each service, as kustomize would render them.
fn rendered(tree: &Tree) -> Vec<Value> {
    let mut objects = vec![json!({
        "kind": "ConfigMap",
        "metadata": { "name": "configuration" },
        "data": { "event_driven_sync.yml": tree.texts.get(CONFIGURATION) },
    })];
    for (name, key) in settings::OPS_KEYS {
        let labels = json!({ "app": name });
        let container = json!({
            "command": [name],
            "image": IMAGE,
            "env": [
                { "name": format!("INTERACTION__SERVICE__{}", key.to_uppercase()), "value": "0.0.0.0:9000" },
                { "name": "INTERACTION__SERVICE__ACCESS__TOKENS_FILE", "value": "/run/secrets/tokens" },
            ],
            "ports": [{ "name": "ops", "containerPort": 9000 }],
            "lifecycle": { "preStop": { "exec": { "command": ["sleep", "5"] } } },
            "securityContext": { "readOnlyRootFilesystem": true },
            "startupProbe": { "exec": { "command": [name, "health", "--live"] } },
            "livenessProbe": { "exec": { "command": [name, "health", "--live"] } },
            "readinessProbe": { "exec": { "command": [name, "health"] } },
            "resources": { "requests": { "cpu": 1 }, "limits": { "memory": "1Gi" } },
        });
        let pod = json!({
            "terminationGracePeriodSeconds": 35,
            "securityContext": { "runAsNonRoot": true },
            "containers": [container],
            "volumes": [{ "configMap": { "name": "configuration" } }],
        });
        objects.push(json!({
            "kind": "Deployment",
            "metadata": { "name": name },
            "spec": { "selector": { "matchLabels": labels }, "template": { "metadata": { "labels": labels }, "spec": pod } },
        }));
        objects.push(json!({
            "kind": "PodDisruptionBudget",
            "metadata": { "name": name },
            "spec": { "selector": { "matchLabels": labels } },
        }));
        objects.push(json!({ "kind": "Service", "metadata": { "name": name }, "spec": { "selector": labels } }));
    }
    objects.push(json!({
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": { "name": "scaled" },
        "spec": {
            "scaleTargetRef": { "name": "sync-consumer" },
            "minReplicaCount": 2,
            "triggers": [{
                "type": "rabbitmq",
                "metadata": { "queueName": "interaction.likes", "mode": "QueueLength", "value": "200" },
                "authenticationRef": { "name": "authentication" },
            }],
        },
    }));
    objects.push(json!({
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "TriggerAuthentication",
        "metadata": { "name": "authentication" },
        "spec": { "secretTargetRef": [{ "parameter": "host", "name": "secret", "key": "url" }] },
    }));
    objects
}

#[test]
fn each_mistake_in_rendered_objects_is_found() -> Result<()> {
    let tree = tree()?;
    let check = |objects: &[Value]| {
        let mut problems = Problems::default();
        kubernetes::check("production", objects, &tree, &mut problems);
        problems.into_lines()
    };
    assert_eq!(check(&rendered(&tree)), Vec::<String>::new());
    const POD: &str = "/spec/template/spec";
    const CONTAINER: &str = "/spec/template/spec/containers/0";
    // Of the first service's objects: 1 is its Deployment, 2 its PodDisruptionBudget, 3 its Service.
    for (object, pointer, value, expected) in [
        (0, "/data/event_driven_sync.yml".to_owned(), json!("other"), "the ConfigMap is not the configuration file"),
        (1, "/metadata/name".to_owned(), json!("other"), "Deployments are"),
        (1, "/spec/selector/matchLabels/app".to_owned(), json!("other"), "does not select its own pods"),
        (1, format!("{POD}/terminationGracePeriodSeconds"), json!(34), "terminationGracePeriodSeconds is too short"),
        (1, format!("{POD}/securityContext/runAsNonRoot"), json!(false), "runs as root"),
        (1, format!("{CONTAINER}/image"), json!("interaction-sync:0.1.0"), "is not named by its digest"),
        (1, format!("{CONTAINER}/image"), json!(IMAGE.replace('0', "1")), "different images"),
        (1, format!("{CONTAINER}/image"), json!(IMAGE.replace('a', "A")), "is not named by its digest"),
        (1, format!("{POD}/volumes/0/configMap/name"), json!("other"), "there is no ConfigMap other"),
        (1, format!("{CONTAINER}/command/0"), json!("other"), "starts [\"other\"]"),
        (1, format!("{CONTAINER}/securityContext/readOnlyRootFilesystem"), json!(false), "may write"),
        (
            1,
            format!("{CONTAINER}/readinessProbe/exec/command/0"),
            json!("other"),
            "its readinessProbe does not ask health",
        ),
        (
            1,
            format!("{CONTAINER}/livenessProbe/exec/command/1"),
            json!("--live"),
            "its livenessProbe does not ask health",
        ),
        (1, format!("{CONTAINER}/startupProbe"), Value::Null, "its startupProbe does not ask health --live"),
        (1, format!("{CONTAINER}/resources/limits"), Value::Null, "has no resources"),
        (1, format!("{CONTAINER}/ports/0/containerPort"), json!(9001), "ops HTTP listens at 0.0.0.0:9000, not at 9001"),
        (1, format!("{CONTAINER}/env/1/name"), json!("INTERACTION__REDIS__URL"), "holds a secret in plain text"),
        (1, format!("{CONTAINER}/env/1/value"), json!(""), "listens for others without"),
        (2, "/spec/selector/matchLabels/app".to_owned(), json!("other"), "has no PodDisruptionBudget"),
        (3, "/spec/selector/app".to_owned(), json!("other"), "selects nothing"),
        (10, "/spec/scaleTargetRef/name".to_owned(), json!("other"), "its Deployment is missing"),
        (10, "/spec/triggers/0/metadata/queueName".to_owned(), json!("other"), "the queue is called interaction.likes"),
        (10, "/spec/triggers/0/authenticationRef/name".to_owned(), json!("other"), "no such TriggerAuthentication"),
        (10, "/apiVersion".to_owned(), json!("keda.sh/v1"), "apiVersion is"),
        (10, "/spec/minReplicaCount".to_owned(), json!("2"), "KEDA does not take \"2\""),
        (10, "/spec/triggers".to_owned(), Value::Null, "KEDA does not take null"),
        (10, "/spec/triggers/0/metadata/value".to_owned(), json!(200), "KEDA does not take"),
        (10, "/spec/triggers/0/metadata/mode".to_owned(), json!("Length"), "has no mode \"Length\""),
        (10, "/spec/triggers/0/metadata".to_owned(), json!({ "queue": "interaction.likes" }), "has no parameter queue"),
        (10, "/spec".to_owned(), json!({ "scaleTarget": {}, "triggers": [] }), "KEDA has no field scaleTarget"),
        (11, "/spec/secretTargetRef/0".to_owned(), json!({ "parameter": "host", "name": "secret" }), "key is missing"),
    ] {
        let mut objects = rendered(&tree);
        *objects[object].pointer_mut(&pointer).with_context(|| format!("no {pointer}"))? = value;
        let found = check(&objects);
        assert!(found.iter().any(|line| line.contains(expected)), "{pointer}: {found:?}, expected {expected}");
    }
    Ok(())
}

#[test]
fn a_service_without_what_compose_needs_is_found() -> Result<()> {
    let mut tree = tree()?;
    let compose = tree.parsed.get_mut("deploy/compose.yaml").and_then(|documents| documents.first_mut());
    let services = &mut compose.context("no compose file")?["services"];
    services["redis"]["healthcheck"] = Value::Null;
    services["mysql"]["volumes"] = json!(["elsewhere:/var/lib/mysql"]);
    services["sync-consumer"]["healthcheck"]["test"] = json!(["CMD", "interaction-server", "health"]);
    let mut problems = Problems::default();
    compose::check(&tree, &workspace::root(), &mut problems);
    let found = problems.into_lines();
    for expected in [
        "redis: no healthcheck",
        "redis never becomes healthy",
        "volume elsewhere is not declared",
        "its healthcheck does not ask sync-consumer",
    ] {
        assert!(found.iter().any(|line| line.contains(expected)), "{expected}: {found:?}");
    }
    Ok(())
}

/// What `pin_images.sh` wrote when the Compose file named other images does not pass for today's.
#[test]
fn digests_of_other_tags_are_found() -> Result<()> {
    let mut tree = tree()?;
    let digest = "0123456789abcdef".repeat(4);
    let mut lines = vec!["services:".to_owned()];
    for (name, service) in yaml::entries(&tree.document("deploy/compose.yaml")["services"]) {
        if let (Some(tag), true) = (service["image"].as_str(), service["build"].is_null()) {
            let repository = tag.split(':').next().unwrap_or(tag);
            lines.push(format!("  {name}:\n    image: docker.io/library/{repository}@sha256:{digest} # {tag}"));
        }
    }
    let good = lines.join("\n");
    let mut found_with = |text: &str| {
        tree.parsed.insert(compose::PINNED.to_owned(), yaml::read(compose::PINNED, text)?);
        tree.texts.insert(compose::PINNED.to_owned(), text.to_owned());
        problems(&tree)
    };
    assert_eq!(found_with(&good)?, Vec::<String>::new());
    for (from, to, expected) in [
        ("# mysql:", "# mysql:1", "mysql: no digest of mysql:"),
        ("redis@sha256:0", "redis@sha256:", "redis: no digest of redis:"),
        ("redis@sha256:", "redis:", "redis: no digest of redis:"),
        ("  rabbitmq:\n", "  broker:\n", "rabbitmq: no digest of"),
        ("  rabbitmq:\n", "  broker:\n", "broker: there is no such service"),
    ] {
        assert!(good.contains(from), "{from}");
        let found = found_with(&good.replacen(from, to, 1))?;
        assert!(found.iter().any(|line| line.contains(expected)), "{from} as {to}: {found:?}");
    }
    Ok(())
}
