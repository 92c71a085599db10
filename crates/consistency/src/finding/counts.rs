//! What a look at the counters of one resource comes to, in one sentence, and what an operator does about it.

use super::{Finding, Kind, Verdict};
use domain::Resource;

/// The end of a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CountConclusion {
    /// Nobody has to do anything.
    pub fine: bool,
    /// In words.
    pub says: String,
    /// What to do; empty if nothing is to be done.
    pub hint: String,
}

impl CountConclusion {
    /// Of what [`counts_of`](crate::Checker::counts_of) found; none: a store did not answer.
    pub fn of(resource: Resource, findings: Option<&[Finding]>) -> Self {
        let Some(findings) = findings else {
            return Self {
                fine: true,
                says: "its count was not compared, because a store does not answer".to_owned(),
                hint: format!("later: syncctl check {resource}"),
            };
        };
        let (mut says, mut hints) = (Vec::new(), Vec::new());
        for finding in findings {
            says.push(in_words(finding));
            hints.extend(hint(resource, finding.verdict).filter(|hint| !hints.contains(hint)));
        }
        if says.is_empty() {
            says.push("its count is the same in the cache, in the database and by its rows".to_owned());
        }
        let fine = findings.iter().all(|finding| !finding.verdict.is_wrong());
        Self { fine, says: says.join("; "), hint: hints.join("; ") }
    }
}

fn in_words(finding: &Finding) -> String {
    let side = |side: Option<super::Side>| side.map_or_else(|| "none".to_owned(), |side| side.value.to_string());
    let (cache, stored) = (side(finding.cache), side(finding.stored));
    let pending = finding.cache.and_then(|side| side.pending).unwrap_or(0);
    match (finding.kind, finding.verdict) {
        (Kind::StoredCount, _) => format!("its stored count is {cache}, and the likes that hold are {stored}"),
        (_, Verdict::InFlight) => format!("{pending} of its likes on their way to the count"),
        (_, Verdict::Stuck) => format!("{pending} of its likes on their way to the count for too long"),
        (_, Verdict::Orphan) => format!("its cached count waits for {pending} of its likes, which no journal has"),
        (_, Verdict::WentBack) => "its cached count has heard more than the database has".to_owned(),
        _ => format!("its cached count is {cache}, and the likes that hold are {stored}"),
    }
}

fn hint(resource: Resource, verdict: Verdict) -> Option<String> {
    match verdict {
        Verdict::Consistent | Verdict::InFlight => None,
        Verdict::Stuck => Some("find why likes do not reach the database: syncctl status".to_owned()),
        Verdict::WentBack => Some("the database may have gone back in time: syncctl status".to_owned()),
        Verdict::Stale | Verdict::Drift | Verdict::Missing | Verdict::Orphan => {
            Some(format!("the checker repairs the count; at once: syncctl repair --apply {resource}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Side, Subject};
    use super::*;
    use domain::ResourceType;

    fn concluded(found: &[(Kind, Verdict, i64, i64)]) -> CountConclusion {
        let Ok(resource) = Resource::new(ResourceType::Video, 815) else { unreachable!("it is positive") };
        let finding = |(kind, verdict, cache, stored): &(Kind, Verdict, i64, i64)| Finding {
            kind: *kind,
            verdict: *verdict,
            subject: Subject::Resource(resource),
            cache: Some(Side { pending: Some(2), ..Side::from(*cache) }),
            stored: Some(Side::from(*stored)),
            detail: String::new(),
            repair: None,
            event: None,
        };
        let findings: Vec<Finding> = found.iter().map(finding).collect();
        CountConclusion::of(resource, Some(&findings))
    }

    #[test]
    fn a_count_that_is_wrong_anywhere_is_not_fine() {
        let well = concluded(&[]);
        assert!(well.fine && well.says.contains("the same in the cache, in the database and by its rows"), "{well:?}");
        let moving = concluded(&[(Kind::CachedCount, Verdict::InFlight, 32, 30)]);
        assert!(moving.fine && moving.hint.is_empty() && moving.says.contains("2 of its likes"), "{moving:?}");
        let both =
            concluded(&[(Kind::StoredCount, Verdict::Drift, 1030, 30), (Kind::CachedCount, Verdict::Drift, 100, 30)]);
        let says = "its stored count is 1030, and the likes that hold are 30; its cached count is 100, and the likes that hold are 30";
        assert_eq!((both.fine, both.says.as_str()), (false, says));
        assert_eq!(both.hint, "the checker repairs the count; at once: syncctl repair --apply video:815");
        for verdict in [Verdict::Stuck, Verdict::Orphan, Verdict::WentBack, Verdict::Stale] {
            let wrong = concluded(&[(Kind::CachedCount, verdict, 1, 2)]);
            assert!(!wrong.fine && !wrong.hint.is_empty(), "{wrong:?}");
        }
        let Ok(resource) = Resource::new(ResourceType::Video, 1) else { unreachable!("it is positive") };
        let unknown = CountConclusion::of(resource, None);
        assert!(unknown.says.contains("was not compared") && unknown.hint.contains("check video:1"), "{unknown:?}");
    }
}
