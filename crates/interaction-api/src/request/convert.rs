//! From messages of gRPC to the domain, and back.

use super::violations::Violations;
use chrono::DateTime;
use domain::{Action, Invalid, LikeIntent, Pair, Resource, ResourceType, UserId, Version};
use event_store::{Window, Within};
use interaction_proto::v1;
use prost_types::Timestamp;
use tonic::Status;
use uuid::Uuid;

/// Most operations or resources in one call.
pub const MAX_ITEMS: usize = 500;

/// Largest page of a list, also for whoever asks for a larger one; 0 asks for [`DEFAULT_PAGE`].
pub const MAX_PAGE: i32 = 100;

/// Page of a caller that does not say.
pub const DEFAULT_PAGE: u32 = 20;

/// A resource type of the wire.
pub fn resource_type(value: i32) -> Result<ResourceType, Invalid> {
    if value == v1::ResourceType::Unspecified as i32 {
        return Err(Invalid::new("type", "must be given"));
    }
    let unknown = |_| Invalid::new("type", format!("unknown value {value}"));
    ResourceType::from_code(u8::try_from(value).unwrap_or_default()).map_err(unknown)
}

/// The window of a ranking; none: at the moment.
pub fn hot_window(value: i32) -> Result<Option<Window>, Invalid> {
    match v1::HotWindow::try_from(value) {
        Ok(v1::HotWindow::Unspecified) => Ok(None),
        Ok(v1::HotWindow::Hour) => Ok(Some(Window::Hour)),
        Ok(v1::HotWindow::Day) => Ok(Some(Window::Day)),
        Ok(v1::HotWindow::Week) => Ok(Some(Window::Week)),
        Err(_) => Err(Invalid::new("window", format!("unknown value {value}"))),
    }
}

/// A resource for the wire.
pub fn wire_resource(resource: Resource) -> v1::Resource {
    v1::Resource { r#type: resource.kind as i32, id: resource.id.get() }
}

/// One resource; violations are noted under `prefix`.
pub fn resource(violations: &mut Violations, prefix: &str, given: Option<v1::Resource>) -> Option<Resource> {
    let (kind, id) = parts(violations, prefix, given);
    violations.resource(prefix, kind, id)
}

/// Type and id of a resource, so far as they can be read.
pub fn parts(
    violations: &mut Violations,
    prefix: &str,
    given: Option<v1::Resource>,
) -> (Option<ResourceType>, Option<i64>) {
    let Some(given) = given else { return (None, None) };
    (violations.take(&format!("{prefix}resource."), resource_type(given.r#type)), Some(given.id))
}

/// 1 to `most` resources.
pub fn resources(violations: &mut Violations, given: Vec<v1::Resource>, most: usize) -> Vec<Resource> {
    if !bounded(violations, "resources", given.len(), most) {
        return Vec::new();
    }
    let mut resources = Vec::with_capacity(given.len());
    for (i, given) in given.into_iter().enumerate() {
        // Names are made for what is wrong only.
        match resource_type(given.r#type).and_then(|kind| Resource::new(kind, given.id)) {
            Ok(valid) => resources.push(valid),
            Err(_) => resources.extend(resource(violations, &format!("resources[{i}]."), Some(given))),
        }
    }
    resources
}

/// A user and 1 to [`MAX_ITEMS`] resources, if nothing was wrong before.
pub fn own(
    mut violations: Violations,
    user_id: i64,
    given: Vec<v1::Resource>,
) -> Result<(UserId, Vec<Resource>), Status> {
    let user = user(&mut violations, user_id);
    let resources = resources(&mut violations, given, MAX_ITEMS);
    Ok((violations.given(user)?, resources))
}

/// A user.
pub fn user(violations: &mut Violations, id: i64) -> Option<UserId> {
    violations.take("", UserId::new(id))
}

/// The version that counts must contain; 0 asks for none.
pub fn least_version(violations: &mut Violations, given: i64) -> Version {
    if given < 0 {
        violations.add("least_version", format!("must not be negative, got {given}"));
    }
    Version(given)
}

/// An operation as the engine takes it.
pub fn intent(
    violations: &mut Violations,
    prefix: &str,
    user: i64,
    given: Option<v1::Resource>,
    action: Action,
    key: String,
) -> Option<LikeIntent> {
    let user = violations.take(prefix, UserId::new(user));
    let resource = resource(violations, prefix, given);
    intended(violations, prefix, user, resource, action, key)
}

/// The same of what was read before, in whatever form.
pub fn intended(
    violations: &mut Violations,
    prefix: &str,
    user: Option<UserId>,
    resource: Option<Resource>,
    action: Action,
    key: String,
) -> Option<LikeIntent> {
    if key.len() > LikeIntent::MAX_KEY_LEN {
        let reason = format!("must be at most {} bytes, got {}", LikeIntent::MAX_KEY_LEN, key.len());
        violations.add(format!("{prefix}idempotency_key"), reason);
    }
    // The database compares texts without the spaces at their end.
    if key.ends_with(' ') {
        violations.add(format!("{prefix}idempotency_key"), "must not end with a space");
    }
    Some(LikeIntent {
        id: Uuid::now_v7(),
        pair: Pair { resource: resource?, user: user? },
        action,
        idempotency_key: (!key.is_empty()).then_some(key),
        trace: None,
    })
}

/// The operation that stands at this place of a call.
pub fn operation(place: usize, given: v1::LikeOperation) -> Result<LikeIntent, Status> {
    let v1::LikeOperation { user_id, resource, action, idempotency_key } = given;
    let mut violations = Violations::default();
    let prefix = format!("operations[{place}].");
    let known = match v1::Action::try_from(action) {
        Ok(v1::Action::Like) => Some(Action::Like),
        Ok(v1::Action::Unlike) => Some(Action::Unlike),
        Ok(v1::Action::Unspecified) => {
            violations.add(format!("{prefix}action"), "must be given");
            None
        }
        Err(_) => {
            violations.add(format!("{prefix}action"), format!("unknown value {action}"));
            None
        }
    };
    let action = known.unwrap_or(Action::Like);
    let intent = intent(&mut violations, &prefix, user_id, resource, action, idempotency_key);
    violations.given(intent)
}

/// Which likes of a list, by their times.
pub fn within(violations: &mut Violations, since: Option<Timestamp>, until: Option<Timestamp>) -> Within {
    let mut version = |field: &str, given: Option<Timestamp>| {
        let given = given?;
        let nanos = u32::try_from(given.nanos).ok();
        let time = nanos.and_then(|nanos| DateTime::from_timestamp(given.seconds, nanos));
        if time.is_none() {
            violations.add(field, "is not a time");
        }
        time.map(|time| Version(time.timestamp_micros()))
    };
    Within { since: version("since", since), until: version("until", until) }
}

/// A page size, or the length of a list: never more than [`MAX_PAGE`], whatever is asked for.
pub fn page_size(violations: &mut Violations, field: &str, given: i32) -> u32 {
    match given {
        0 => DEFAULT_PAGE,
        1.. => given.min(MAX_PAGE).unsigned_abs(),
        _ => {
            violations.add(field, format!("must not be negative, got {given}"));
            DEFAULT_PAGE
        }
    }
}

/// Whether there are 1 to `most` items; else that is noted.
pub fn bounded(violations: &mut Violations, field: &str, len: usize, most: usize) -> bool {
    let fits = (1..=most).contains(&len);
    if !fits {
        violations.add(field, format!("must have 1 to {most} items, got {len}"));
    }
    fits
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic_types::StatusExt;

    fn video(id: i64) -> v1::Resource {
        v1::Resource { r#type: v1::ResourceType::Video.into(), id }
    }

    fn violated(check: impl FnOnce(&mut Violations)) -> Vec<String> {
        let mut violations = Violations::default();
        check(&mut violations);
        let Err(status) = violations.finish() else { return Vec::new() };
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
        let details = status.get_error_details();
        details.bad_request().unwrap().field_violations.iter().map(|v| v.field.clone()).collect()
    }

    #[test]
    fn every_mistake_is_named_at_once() {
        let fields = violated(|v| drop(intent(v, "", 0, Some(video(-1)), Action::Like, "k".repeat(129))));
        assert_eq!(fields, ["user_id", "resource.id", "idempotency_key"]);
        let fields = violated(|v| drop(intent(v, "", 1, Some(video(1)), Action::Like, "k ".to_owned())));
        assert_eq!(fields, ["idempotency_key"]);
        assert_eq!(violated(|v| _ = resource(v, "", None)), ["resource"]);
    }

    #[test]
    fn batches_are_bounded_and_their_items_numbered() {
        assert_eq!(violated(|v| drop(resources(v, Vec::new(), MAX_ITEMS))), ["resources"]);
        assert_eq!(violated(|v| drop(resources(v, vec![video(1); MAX_ITEMS + 1], MAX_ITEMS))), ["resources"]);
        assert_eq!(violated(|v| drop(resources(v, vec![video(1), video(0)], MAX_ITEMS))), ["resources[1].resource.id"]);
        let wrong =
            v1::LikeOperation { user_id: 0, resource: Some(video(1)), action: 7, idempotency_key: String::new() };
        let status = operation(3, wrong).unwrap_err();
        let details = status.get_error_details();
        let fields: Vec<_> = details.bad_request().unwrap().field_violations.iter().map(|v| v.field.as_str()).collect();
        assert_eq!(fields, ["operations[3].action", "operations[3].user_id"]);
    }

    #[test]
    fn times_of_a_list() {
        let time = |seconds, nanos| Some(Timestamp { seconds, nanos });
        let mut violations = Violations::default();
        let read = within(&mut violations, time(1_760_000_000, 1_000), None);
        assert_eq!(read, Within { since: Some(Version(1_760_000_000_000_001)), until: None });
        assert!(violations.finish().is_ok());
        assert_eq!(violated(|v| _ = within(v, time(i64::MAX, 0), time(0, -1))), ["since", "until"]);
    }

    #[test]
    fn unknown_types_and_page_sizes() {
        let unknown = v1::Resource { r#type: 9, id: 1 };
        assert_eq!(violated(|v| _ = resource(v, "", Some(unknown))), ["resource.type"]);
        assert_eq!(violated(|v| _ = page_size(v, "page_size", -1)), ["page_size"]);
        assert_eq!(violated(|v| _ = page_size(v, "page_size", i32::MIN)), ["page_size"]);
        for (given, expected) in [(0, DEFAULT_PAGE), (1, 1), (100, 100), (101, 100), (i32::MAX, 100)] {
            assert!(violated(|v| assert_eq!(page_size(v, "page_size", given), expected)).is_empty());
        }
    }
}
