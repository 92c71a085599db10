//! `CheckConsistency`: whether cache and database agree on one resource. `POST /consistency/check` stands in [`consistency`],
//! because the checker's process has it too.

use super::Admin;
use crate::request::Violations;
use crate::request::convert::{self, wire_resource};
use crate::status;
use consistency::{CheckConsistency, CheckOutcome, Finding, RepairNote, Side, Subject, Verdict};
use interaction_proto::v1;
use tonic::Status;

pub(super) async fn grpc(
    admin: &Admin,
    request: v1::CheckConsistencyRequest,
) -> Result<v1::CheckConsistencyResponse, Status> {
    let v1::CheckConsistencyRequest { resource, dry_run } = request;
    let mut violations = Violations::default();
    let resource = convert::resource(&mut violations, "", resource);
    let request = CheckConsistency { resource: violations.given(resource)?, dry_run };
    let outcome = request.call(&admin.checker).await;
    outcome.map(answer).map_err(|error| status::stores(error.is_unavailable(), "the check", &error))
}

fn answer(outcome: CheckOutcome) -> v1::CheckConsistencyResponse {
    v1::CheckConsistencyResponse {
        resource: Some(wire_resource(outcome.resource)),
        verdict: verdict(outcome.verdict).into(),
        run_id: outcome.run_id.to_string(),
        leader: outcome.leader,
        findings: outcome.findings.into_iter().map(finding).collect(),
    }
}

const fn verdict(verdict: Verdict) -> v1::ConsistencyVerdict {
    match verdict {
        Verdict::Consistent => v1::ConsistencyVerdict::Consistent,
        Verdict::InFlight => v1::ConsistencyVerdict::InFlight,
        Verdict::Stuck => v1::ConsistencyVerdict::Stuck,
        Verdict::Stale => v1::ConsistencyVerdict::Stale,
        Verdict::Drift => v1::ConsistencyVerdict::Drift,
        Verdict::Missing => v1::ConsistencyVerdict::Missing,
        Verdict::Orphan => v1::ConsistencyVerdict::Orphan,
        Verdict::WentBack => v1::ConsistencyVerdict::WentBack,
    }
}

fn finding(finding: Finding) -> v1::ConsistencyFinding {
    let user_id = match finding.subject {
        Subject::Pair(pair) => Some(pair.user.get()),
        Subject::Resource(_) | Subject::Shard { .. } => None,
    };
    v1::ConsistencyFinding {
        kind: finding.kind.name().to_owned(),
        verdict: verdict(finding.verdict).into(),
        user_id,
        cache: finding.cache.map(side),
        stored: finding.stored.map(side),
        detail: finding.detail,
        repair: finding.repair.map(repair),
    }
}

fn side(side: Side) -> v1::ConsistencySide {
    v1::ConsistencySide {
        value: side.value,
        version: side.version.map(|version| version.0),
        revision: side.revision,
        pending: side.pending,
    }
}

fn repair(note: RepairNote) -> v1::ConsistencyRepair {
    v1::ConsistencyRepair {
        action: note.action.name().to_owned(),
        outcome: note.outcome.name().to_owned(),
        before: note.before.map(side),
        after: note.after.map(side),
    }
}
