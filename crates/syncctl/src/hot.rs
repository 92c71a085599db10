//! `hot`: what is liked and unliked most at the moment, or was liked most within a window.

use crate::Verdict;
use crate::client::{ServerArgs, name, wire_type};
use crate::output::{Format, Row, print};
use anyhow::Context;
use clap::ValueEnum;
use domain::ResourceType;
use interaction_proto::v1;
use serde::Serialize;

/// `--window`.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub(crate) enum HotWindow {
    /// The newest 5,000 likes and unlikes of all.
    #[default]
    Moment,
    /// The last hour.
    Hour,
    /// The last 24 hours.
    Day,
    /// The last seven days.
    Week,
}

impl From<HotWindow> for v1::HotWindow {
    fn from(window: HotWindow) -> Self {
        match window {
            HotWindow::Moment => Self::Unspecified,
            HotWindow::Hour => Self::Hour,
            HotWindow::Day => Self::Day,
            HotWindow::Week => Self::Week,
        }
    }
}

#[derive(Serialize)]
struct HotRow {
    resource: String,
    count: i64,
    recent_changes: i32,
    gained: i64,
    degraded: bool,
}

impl Row for HotRow {
    const HEADERS: &'static [&'static str] = &["RESOURCE", "COUNT", "RECENT CHANGES", "GAINED"];

    fn cells(&self) -> Vec<String> {
        let degraded = if self.degraded { " (degraded)" } else { "" };
        let (changes, gained) = (self.recent_changes.to_string(), self.gained.to_string());
        vec![self.resource.clone(), format!("{}{degraded}", self.count), changes, gained]
    }
}

/// Prints the hottest resources, of one type or of all.
pub(crate) async fn hot(
    server: &ServerArgs,
    kind: Option<ResourceType>,
    window: HotWindow,
    limit: u32,
    format: Format,
) -> anyhow::Result<Verdict> {
    let r#type = kind.map_or(v1::ResourceType::Unspecified.into(), wire_type);
    let limit = i32::try_from(limit).unwrap_or(i32::MAX);
    let request = v1::ListHotResourcesRequest { r#type, limit, window: v1::HotWindow::from(window).into() };
    let mut client = server.connect().await?;
    let answer = client.list_hot_resources(request).await.context("hot resources were refused")?.into_inner();
    let row = |hot: v1::HotResource| HotRow {
        resource: name(hot.resource.as_ref()),
        count: hot.count,
        recent_changes: hot.recent_changes,
        gained: hot.gained,
        degraded: answer.degraded,
    };
    let rows: Vec<_> = answer.resources.into_iter().map(row).collect();
    print(format, &rows)?;
    Ok(Verdict::Fine)
}
