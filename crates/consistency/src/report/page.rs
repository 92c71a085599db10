//! The report as a page: one file, no scripts, nothing loaded from anywhere; the template is `templates/report.html`.

use crate::report::Report;
use askama::Template;
use event_store::{FindingLife, FindingRecord};

/// The page of a report.
///
/// # Errors
/// None that a string could give; the library's type all the same.
pub(crate) fn page(report: &Report) -> Result<String, askama::Error> {
    let most = report.trend.iter().map(|hour| hour.checked).max().unwrap_or(0).max(1);
    let mut page = Page { report, tiles: tiles(report), most }.render()?;
    // The library takes the last line end of a template away.
    page.push('\n');
    Ok(page)
}

#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    report: &'a Report,
    tiles: [Tile; 6],
    /// Of the hour in which most was compared.
    most: i64,
}

struct Tile {
    class: &'static str,
    value: String,
    label: String,
}

impl Page<'_> {
    /// Of the longest bar, in percent.
    fn width(&self, part: &i64) -> i64 {
        part.clamp(&0, &self.most) * 100 / self.most
    }

    #[expect(clippy::unused_self, reason = "templates call methods")]
    fn side(&self, value: &Option<i64>) -> String {
        value.map_or_else(|| "–".to_owned(), |value| value.to_string())
    }

    /// What a recovery says of itself.
    #[expect(clippy::unused_self, reason = "templates call methods")]
    fn recovery(&self, one: &FindingRecord) -> Option<String> {
        if one.resource_type != "database" {
            return None;
        }
        let details: serde_json::Value = serde_json::from_str(&one.details).ok()?;
        details["detail"].as_str().map(str::to_owned)
    }

    #[expect(clippy::unused_self, reason = "templates call methods")]
    fn ended(&self, outcome: &Option<String>) -> String {
        let seen =
            |outcome: &str| if outcome == "consistent" { "seen consistent".to_owned() } else { outcome.to_owned() };
        outcome.as_deref().map_or_else(|| "closed".to_owned(), seen)
    }

    /// Until the latest look that saw it.
    #[expect(clippy::unused_self, reason = "templates call methods")]
    fn open_for(&self, life: &FindingLife) -> String {
        let minutes = (life.seen_at - life.opened_at).num_minutes();
        if minutes < 120 { format!("{minutes} min") } else { format!("{} h", minutes / 60) }
    }

    /// How often the same was found before.
    #[expect(clippy::unused_self, reason = "templates call methods")]
    fn before(&self, life: &FindingLife) -> String {
        match life.earlier {
            0 => String::new(),
            1 => "; found once before".to_owned(),
            times => format!("; found {times} times before"),
        }
    }

    #[expect(clippy::unused_self, reason = "templates call methods")]
    fn share(&self, part: &Option<f64>) -> String {
        part.map_or_else(|| "–".to_owned(), percent)
    }
}

fn tiles(report: &Report) -> [Tile; 6] {
    let state = |good: bool| if good { "good" } else { "bad" };
    let rate = report.consistency_rate.map_or_else(|| "nothing compared".to_owned(), percent);
    let nines = match (report.nines, report.consistency_rate) {
        // Cut off, not rounded: 4.95 is not five nines.
        (Some(nines), _) => format!("{:.1} nines", (nines * 10.0).floor() / 10.0),
        (None, Some(_)) => "nothing was wrong".to_owned(),
        (None, None) => String::new(),
    };
    let coverage = report.coverage.map_or_else(|| "no full sweep".to_owned(), percent);
    let lag = &report.lag;
    let within = lag.within_s;
    let (lag_value, lags) = match lag.events {
        0 => ("–".to_owned(), format!("lag: no like of the last {within} s arrived at the first attempt")),
        events => {
            let likes = plural(events as u64, "like", "likes");
            let (p95, p99, max, newest) = (lag.p95_ms, lag.p99_ms, lag.max_ms, lag.newest_ms);
            let rest = format!("p95 {p95}, p99 {p99}, max {max}, newest {newest} ms");
            (format!("{} ms", lag.p50_ms), format!("lag over the last {within} s, median; {rest}; {likes}"))
        }
    };
    [
        (state(report.consistency_rate.is_none_or(|rate| rate >= 0.95)), rate, format!("consistent; {nines}")),
        ("", report.checked.to_string(), format!("compared in {}", plural(report.runs.unsigned_abs(), "run", "runs"))),
        (state(report.open == 0), report.open.to_string(), "open now: subjects with something wrong".to_owned()),
        ("", format!("{} / {}", report.opened, report.closed), "findings opened / closed".to_owned()),
        ("", coverage, "covered by the newest full sweep".to_owned()),
        ("", lag_value, lags),
    ]
    .map(|(class, value, label)| Tile { class, value, label })
}

fn plural(count: u64, one: &str, more: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { more })
}

/// Cut off, not rounded: what is not all is not 100%.
fn percent(part: f64) -> String {
    format!("{:.4}%", (part * 1e6).floor() / 1e4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LagReport, ProcessState};
    use event_store::{HourRecord, KindRecord};
    use sync_engine::stores::standing::{Trouble, TroubleKind};

    fn life(verdict: &str, outcome: Option<&str>) -> FindingLife {
        let at = |seconds| chrono::DateTime::from_timestamp(seconds, 0).unwrap();
        FindingLife {
            kind: "ledger".into(),
            verdict: verdict.into(),
            resource_type: "video".into(),
            resource_id: 9,
            user_id: Some(4),
            cache_value: Some(1),
            stored_value: None,
            details: "{}".into(),
            sightings: 5,
            opened_at: at(0),
            seen_at: at(50),
            outcome: outcome.map(str::to_owned),
            closed_at: outcome.map(|_| at(60)),
            earlier: i64::from(outcome.is_none()),
        }
    }

    fn process(service: &str, age_ms: i64) -> ProcessState {
        ProcessState {
            service: service.into(),
            instance: "c-1".into(),
            version: "1".into(),
            status: "degraded".into(),
            detail: Some("redis: unreachable".into()),
            seen_at: chrono::DateTime::UNIX_EPOCH,
            age_ms,
        }
    }

    #[test]
    fn a_page_shows_its_numbers_and_nothing_runs_in_it() {
        let mut report = Report {
            hours: 24,
            max_age_ms: 1_234,
            since: chrono::DateTime::UNIX_EPOCH,
            runs: 3,
            checked: 1_234_567,
            inconsistent: 2,
            repaired: 1,
            open: 1,
            opened: 2,
            closed: 1,
            troubles: vec![Trouble {
                kind: TroubleKind::DeadEvents,
                detail: "33 accepted likes are dead".into(),
                hint: "replay them",
            }],
            consistency_rate: Some(0.999_999_9),
            nines: Some(7.0),
            coverage: Some(1.0),
            by_kind: vec![KindRecord { kind: "<script>".into(), verdict: "drift".into(), found: 2, repaired: 1 }],
            by_resource: vec![("video:1".into(), 2)],
            lag: LagReport::of(None),
            trend: vec![HourRecord { hour: "1970-01-01 00".into(), runs: 3, checked: 9, inconsistent: 2, repaired: 1 }],
            latest_runs: Vec::new(),
            latest_findings: Vec::new(),
            findings: vec![life("stuck", None), life("drift", Some("repaired"))],
            processes: vec![process("<sync-consumer>", 27_400)],
        };
        let html = page(&report).unwrap();
        for shown in [
            "1234567",
            "read from a replica, at most 1234 ms old",
            "99.9999%",
            "7.0 nines",
            "video:1",
            "&#60;script&#62;",
            "100.0000%",
            "1970-01-01 00",
            "33 accepted likes are dead",
            "video:9 user 4",
            "open for 0 min; found once before",
            "no like of the last 60 s arrived at the first attempt",
            "repaired 00:01:00",
            "&#60;sync-consumer&#62;",
            "27 s ago",
        ] {
            assert!(html.contains(shown), "{shown}: {html}");
        }
        for never in ["<script", "http:", "https:", "src="] {
            assert!(!html.contains(never), "{never}: {html}");
        }
        report.troubles.clear();
        assert!(page(&report).unwrap().contains("Nothing is wrong now"));
        report.consistency_rate = None;
        assert!(page(&report).unwrap().contains("nothing compared"));
    }
}
