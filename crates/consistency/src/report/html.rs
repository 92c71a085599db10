//! The report as a page: one file, no scripts, nothing loaded from anywhere.

use crate::report::Report;
use std::fmt::Write;

const STYLE: &str = "body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem;color:#222;\
background:#fff}h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:2rem}table{border-collapse:collapse;width:100%}\
th,td{text-align:left;padding:.25rem .6rem;border-bottom:1px solid #ddd;vertical-align:top}td.n,th.n{text-align:right;\
font-variant-numeric:tabular-nums}.tiles{display:flex;flex-wrap:wrap;gap:1rem}.tile{border:1px solid #ddd;border-radius:\
6px;padding:.6rem 1rem}.tile b{display:block;font-size:1.3rem}.good{color:#176d2c}.bad{color:#a4161a}.bar{height:.7rem;\
background:#4a7fb5;min-width:1px}.bar.bad{background:#c0392b}small{color:#555}\
@media(prefers-color-scheme:dark){body{background:#16181c;color:#e6e6e6}th,td,.tile{border-color:#3a3d44}small{color:#aaa}\
.good{color:#6fce86}.bad{color:#ff8a80}}";

/// The page of a report.
pub(crate) fn page(report: &Report) -> String {
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>Consistency, last {hours} h</title><style>{STYLE}</style></head><body>\
         <h1>Consistency of cache and database</h1><p><small>Last {hours} hours, since {since} UTC</small></p>",
        hours = report.hours,
        since = report.since.format("%Y-%m-%d %H:%M:%S"),
    );
    tiles(&mut page, report);
    trend(&mut page, report);
    let kinds = report
        .by_kind
        .iter()
        .map(|kind| vec![text(&kind.kind), text(&kind.verdict), number(kind.found), number(kind.repaired)]);
    table(&mut page, "What was found", &["compared", "verdict", "#found", "#repaired"], kinds);
    let resources = report.by_resource.iter().map(|(name, found)| vec![text(name), number(*found)]);
    table(&mut page, "Where", &["resource", "#findings"], resources);
    let findings = report.latest_findings.iter().map(|one| {
        let user = one.user_id.map_or_else(String::new, |user| format!(" user {user}"));
        let side = |value: Option<i64>| value.map_or_else(|| cell("n", "–"), number);
        vec![
            text(&one.created_at.format("%m-%d %H:%M:%S").to_string()),
            text(&format!("{}:{}{user}", one.resource_type, one.resource_id)),
            text(&one.kind),
            text(&one.verdict),
            side(one.cache_value),
            side(one.stored_value),
            match one.repaired_at {
                Some(at) => cell("good", &at.format("repaired %H:%M:%S").to_string()),
                None => cell("bad", "open"),
            },
        ]
    });
    let columns = ["found at", "subject", "compared", "verdict", "#cache", "#database", "state"];
    table(&mut page, "Newest findings", &columns, findings);
    let runs = report.latest_runs.iter().map(|run| {
        vec![
            text(&run.started_at.format("%m-%d %H:%M:%S").to_string()),
            text(&run.kind),
            text(&run.strategy),
            text(&run.status),
            number(run.checked),
            number(run.inconsistent),
            number(run.repaired),
            cell("n", &run.coverage.map_or_else(|| "–".to_owned(), percent)),
        ]
    });
    let columns = ["began", "kind", "strategy", "status", "#compared", "#inconsistent", "#repaired", "#coverage"];
    table(&mut page, "Newest runs", &columns, runs);
    page.push_str("</body></html>\n");
    page
}

fn tiles(page: &mut String, report: &Report) {
    let state = |good: bool| if good { "good" } else { "bad" };
    let rate = report.consistency_rate.map_or_else(|| "nothing compared".to_owned(), percent);
    let nines = match (report.nines, report.consistency_rate) {
        (Some(nines), _) => format!("{nines:.1} nines"),
        (None, Some(_)) => "nothing was wrong".to_owned(),
        (None, None) => String::new(),
    };
    let coverage = report.coverage.map_or_else(|| "no full sweep".to_owned(), percent);
    let lag = &report.lag;
    let tiles = [
        (state(report.consistency_rate.is_none_or(|rate| rate >= 0.95)), rate, format!("consistent; {nines}")),
        ("", report.checked.to_string(), format!("compared in {} runs", report.runs)),
        (state(report.inconsistent == 0), report.inconsistent.to_string(), "inconsistent".to_owned()),
        ("good", report.repaired.to_string(), "repaired".to_owned()),
        (state(report.open == 0), report.open.to_string(), "open".to_owned()),
        ("", coverage, "covered by the newest full sweep".to_owned()),
        (
            "",
            format!("{} ms", lag.p50_ms),
            format!(
                "lag, median; p95 {}, p99 {}, max {} ms of {} events",
                lag.p95_ms, lag.p99_ms, lag.max_ms, lag.events
            ),
        ),
    ];
    page.push_str("<div class=\"tiles\">");
    for (class, value, label) in tiles {
        put(
            page,
            format_args!("<div class=\"tile\"><b class=\"{class}\">{}</b>{}</div>", escape(&value), escape(&label)),
        );
    }
    page.push_str("</div>");
}

fn trend(page: &mut String, report: &Report) {
    let most = report.trend.iter().map(|hour| hour.checked).max().unwrap_or(0).max(1);
    let hours = report.trend.iter().map(|hour| {
        let width = |part: i64| part.clamp(0, most) * 100 / most;
        let bars = format!(
            "<td style=\"width:40%\"><div class=\"bar\" style=\"width:{}%\"></div>{}</td>",
            width(hour.checked),
            if hour.inconsistent > 0 {
                format!("<div class=\"bar bad\" style=\"width:{}%\"></div>", width(hour.inconsistent))
            } else {
                String::new()
            }
        );
        vec![
            text(&hour.hour),
            number(hour.runs),
            number(hour.checked),
            number(hour.inconsistent),
            number(hour.repaired),
            bars,
        ]
    });
    table(page, "By hour (UTC)", &["hour", "#runs", "#compared", "#inconsistent", "#repaired", ""], hours);
}

/// Columns that begin with `#` are numbers; cells are HTML.
fn table(page: &mut String, heading: &str, columns: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    put(page, format_args!("<h2>{heading}</h2>"));
    let mut rows = rows.peekable();
    if rows.peek().is_none() {
        page.push_str("<p>nothing</p>");
        return;
    }
    page.push_str("<table><tr>");
    for column in columns {
        match column.strip_prefix('#') {
            Some(name) => put(page, format_args!("<th class=\"n\">{name}</th>")),
            None => put(page, format_args!("<th>{column}</th>")),
        }
    }
    page.push_str("</tr>");
    for row in rows {
        put(page, format_args!("<tr>{}</tr>", row.concat()));
    }
    page.push_str("</table>");
}

fn put(page: &mut String, what: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = page.write_fmt(what);
}

fn cell(class: &str, content: &str) -> String {
    format!("<td class=\"{class}\">{}</td>", escape(content))
}

fn text(content: &str) -> String {
    format!("<td>{}</td>", escape(content))
}

fn number(value: impl std::fmt::Display) -> String {
    cell("n", &value.to_string())
}

/// Cut off, not rounded: what is not all is not 100%.
fn percent(part: f64) -> String {
    format!("{:.4}%", (part * 1e6).floor() / 1e4)
}

fn escape(content: &str) -> String {
    let mut escaped = String::with_capacity(content.len());
    for character in content.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LagReport;
    use event_store::{HourRecord, KindRecord};

    #[test]
    fn a_page_shows_its_numbers_and_nothing_runs_in_it() {
        let mut report = Report {
            hours: 24,
            since: chrono::DateTime::UNIX_EPOCH,
            runs: 3,
            checked: 1_234_567,
            inconsistent: 2,
            repaired: 1,
            open: 1,
            consistency_rate: Some(0.999_999_9),
            nines: Some(7.0),
            coverage: Some(1.0),
            by_kind: vec![KindRecord { kind: "<script>".into(), verdict: "drift".into(), found: 2, repaired: 1 }],
            by_resource: vec![("video:1".into(), 2)],
            lag: LagReport::default(),
            trend: vec![HourRecord { hour: "1970-01-01 00".into(), runs: 3, checked: 9, inconsistent: 2, repaired: 1 }],
            latest_runs: Vec::new(),
            latest_findings: Vec::new(),
        };
        let html = page(&report);
        for shown in ["1234567", "99.9999%", "7.0 nines", "video:1", "&lt;script&gt;", "100.0000%", "1970-01-01 00"] {
            assert!(html.contains(shown), "{shown}: {html}");
        }
        for never in ["<script", "http:", "https:", "src="] {
            assert!(!html.contains(never), "{never}: {html}");
        }
        report.consistency_rate = None;
        assert!(page(&report).contains("nothing compared"));
    }
}
