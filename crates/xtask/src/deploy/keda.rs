//! Objects of KEDA against its reference (keda.sh, ScaledObject and TriggerAuthentication, version v1alpha1).
//!
//! Clusters without KEDA cannot check them, and those with it drop unknown fields without a word. The shapes hold what the
//! reference documents, and no field more.

use super::tree::Problems;
use super::yaml::{entries, items, text};
use serde_json::Value;

#[derive(Clone, Copy)]
enum Shape {
    Text,
    /// A whole number that is not negative.
    Number,
    Flag,
    /// Texts by name.
    Texts,
    Fields(&'static [Field]),
    List(&'static Self),
    /// Kubernetes' own, or of no interest here.
    Any,
}

#[derive(Clone, Copy)]
struct Field(&'static str, Presence, Shape);

#[derive(Clone, Copy, PartialEq)]
enum Presence {
    Required,
    Optional,
}

use Presence::{Optional, Required};

const SCALED_OBJECT: &[Field] = &[
    Field(
        "scaleTargetRef",
        Required,
        Shape::Fields(&[
            Field("name", Required, Shape::Text),
            Field("kind", Optional, Shape::Text),
            Field("apiVersion", Optional, Shape::Text),
            Field("envSourceContainerName", Optional, Shape::Text),
        ]),
    ),
    Field("pollingInterval", Optional, Shape::Number),
    Field("initialCooldownPeriod", Optional, Shape::Number),
    Field("cooldownPeriod", Optional, Shape::Number),
    Field("idleReplicaCount", Optional, Shape::Number),
    Field("minReplicaCount", Optional, Shape::Number),
    Field("maxReplicaCount", Optional, Shape::Number),
    Field(
        "fallback",
        Optional,
        Shape::Fields(&[
            Field("failureThreshold", Required, Shape::Number),
            Field("replicas", Required, Shape::Number),
            Field("behavior", Optional, Shape::Text),
        ]),
    ),
    Field(
        "advanced",
        Optional,
        Shape::Fields(&[
            Field("restoreToOriginalReplicaCount", Optional, Shape::Flag),
            Field("horizontalPodAutoscalerConfig", Optional, Shape::Any),
            Field("scalingModifiers", Optional, Shape::Any),
        ]),
    ),
    Field(
        "triggers",
        Required,
        Shape::List(&Shape::Fields(&[
            Field("type", Required, Shape::Text),
            Field("metadata", Required, Shape::Texts),
            Field("name", Optional, Shape::Text),
            Field("metricType", Optional, Shape::Text),
            Field("useCachedMetrics", Optional, Shape::Flag),
            Field(
                "authenticationRef",
                Optional,
                Shape::Fields(&[Field("name", Required, Shape::Text), Field("kind", Optional, Shape::Text)]),
            ),
        ])),
    ),
];

const TRIGGER_AUTHENTICATION: &[Field] = &[
    Field(
        "secretTargetRef",
        Optional,
        Shape::List(&Shape::Fields(&[
            Field("parameter", Required, Shape::Text),
            Field("name", Required, Shape::Text),
            Field("key", Required, Shape::Text),
        ])),
    ),
    Field("podIdentity", Optional, Shape::Any),
    Field("env", Optional, Shape::Any),
    Field("configMapTargetRef", Optional, Shape::Any),
    Field("filePath", Optional, Shape::Text),
];

/// Parameters of the trigger `rabbitmq` that are not those of authentication.
const RABBITMQ: &[&str] = &[
    "host",
    "hostFromEnv",
    "queueName",
    "mode",
    "value",
    "activationValue",
    "protocol",
    "vhostName",
    "useRegex",
    "pageSize",
    "operation",
    "timeout",
    "excludeUnacknowledged",
    "unsafeSsl",
];

const MODES: &[&str] =
    &["QueueLength", "MessageRate", "DeliverGetRate", "PublishedToDeliveredRatio", "ExpectedQueueConsumptionTime"];

/// Says what KEDA would not take, or would not heed.
pub(crate) fn check(overlay: &str, objects: &[Value], problems: &mut Problems) {
    for object in objects {
        let kind = text(&object["kind"]);
        let fields = match kind.as_str() {
            "ScaledObject" => SCALED_OBJECT,
            "TriggerAuthentication" => TRIGGER_AUTHENTICATION,
            _ => continue,
        };
        let place = format!("{overlay}: {kind} {}", text(&object["metadata"]["name"]));
        if object["apiVersion"] != "keda.sh/v1alpha1" {
            problems.say(format!("{place}: apiVersion is {}", object["apiVersion"]));
        }
        check_shape(&format!("{place}: spec"), &object["spec"], Shape::Fields(fields), problems);
        for trigger in items(&object["spec"]["triggers"]) {
            check_trigger(&place, trigger, problems);
        }
    }
}

fn check_shape(place: &str, value: &Value, shape: Shape, problems: &mut Problems) {
    let fits = match shape {
        Shape::Text => value.is_string(),
        Shape::Number => value.is_u64(),
        Shape::Flag => value.is_boolean(),
        Shape::Texts => value.is_object() && entries(value).all(|(_, value)| value.is_string()),
        Shape::Fields(_) => value.is_object(),
        Shape::List(_) => value.is_array(),
        Shape::Any => true,
    };
    if !fits {
        problems.say(format!("{place}: KEDA does not take {value}"));
        return;
    }
    match shape {
        Shape::Fields(fields) => {
            for (name, value) in entries(value) {
                match fields.iter().find(|field| field.0 == name) {
                    Some(field) => check_shape(&format!("{place}.{name}"), value, field.2, problems),
                    None => problems.say(format!("{place}: KEDA has no field {name}")),
                }
            }
            for field in fields.iter().filter(|field| field.1 == Required && value[field.0].is_null()) {
                problems.say(format!("{place}: {} is missing", field.0));
            }
        }
        Shape::List(shape) => {
            for (at, value) in items(value).iter().enumerate() {
                check_shape(&format!("{place}[{at}]"), value, *shape, problems);
            }
        }
        _ => {}
    }
}

fn check_trigger(place: &str, trigger: &Value, problems: &mut Problems) {
    let metadata = &trigger["metadata"];
    if trigger["type"] != "rabbitmq" {
        problems.say(format!("{place}: a trigger of type {}", trigger["type"]));
        return;
    }
    for (name, _) in entries(metadata).filter(|(name, _)| !RABBITMQ.contains(name)) {
        problems.say(format!("{place}: the trigger rabbitmq has no parameter {name}"));
    }
    if !MODES.contains(&text(&metadata["mode"]).as_str()) {
        problems.say(format!("{place}: the trigger rabbitmq has no mode {}", metadata["mode"]));
    }
    if text(&metadata["value"]).parse::<f64>().is_err() {
        problems.say(format!("{place}: the trigger's value is {}", metadata["value"]));
    }
}
