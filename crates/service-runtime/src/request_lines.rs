//! Lines that are logged while a request is worked on carry its id, as if they were logged in a span `request{id=...}`.
//!
//! A span would be made for every request, and hardly any of them logs anything: here the id is only kept, and read when there
//! is something to write.

use axum::http::HeaderValue;
use std::fmt;
use tokio::task::futures::TaskLocalFuture;
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::{DefaultFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::registry::LookupSpan;

tokio::task_local! {
    static ID: HeaderValue;
}

/// Whatever is logged while this future runs, and not by tasks that it spawns, is of the request with this id.
pub(crate) fn of_request<F: Future>(id: HeaderValue, future: F) -> TaskLocalFuture<HeaderValue, F> {
    ID.scope(id, future)
}

/// The same of what runs at once.
pub(crate) fn in_request<T>(id: HeaderValue, work: impl FnOnce() -> T) -> T {
    ID.sync_scope(id, work)
}

/// Calls with the id, if there is a request; ids are checked when they are taken, and have nothing to be escaped.
fn with_id(write: impl FnOnce(&str) -> fmt::Result) -> fmt::Result {
    ID.try_with(|id| write(id.to_str().unwrap_or_default())).unwrap_or(Ok(()))
}

/// What is logged, for people.
pub(crate) fn lines<W>(filter: EnvFilter, writer: W, colours: bool) -> impl Subscriber + Send + Sync + 'static
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_ansi(colours);
    builder.with_target(false).fmt_fields(ForPeople::default()).finish()
}

/// The same as JSON.
pub(crate) fn json_lines<W>(filter: EnvFilter, writer: W) -> impl Subscriber + Send + Sync + 'static
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    builder.json().flatten_event(true).map_event_format(AsJson).finish()
}

/// Fields for people, of an event behind its request.
#[derive(Debug, Default)]
struct ForPeople(DefaultFields);

impl<'writer> FormatFields<'writer> for ForPeople {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'writer>, fields: R) -> fmt::Result {
        with_id(|id| write!(writer, "request{{id={id:?}}}: "))?;
        self.0.format_fields(writer, fields)
    }
}

/// Lines as JSON of this format, with the request behind what it writes.
#[derive(Debug)]
struct AsJson<F>(F);

impl<S, N, F> FormatEvent<S, N> for AsJson<F>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'fields> FormatFields<'fields> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, ctx: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        // In a span of somebody else the key is taken.
        if ID.try_with(|_| ()).is_err() || ctx.lookup_current().is_some() {
            return self.0.format_event(ctx, writer, event);
        }
        let mut line = String::new();
        self.0.format_event(ctx, Writer::new(&mut line), event)?;
        let Some(object) = line.trim_end().strip_suffix('}') else { return writer.write_str(&line) };
        with_id(|id| {
            let span = format_args!("{{\"id\":\"{id}\",\"name\":\"request\"}}");
            writeln!(writer, "{object},\"span\":{span},\"spans\":[{span}]}}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::sync::{Arc, Mutex};

    /// What was logged.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Log {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    /// The lines of a request, of a task that it spawned, and of nobody.
    async fn say() {
        let id = HeaderValue::from_static("checkout-7:1");
        let future = async {
            tokio::task::yield_now().await;
            tracing::warn!(code = 7, "asked");
            tokio::spawn(async { tracing::warn!("spawned") }).await.unwrap();
        };
        in_request(id.clone(), || tracing::warn!("at once"));
        of_request(id, future).await;
        tracing::warn!("after");
    }

    #[tokio::test]
    async fn lines_for_people_name_their_request() {
        let log = Log::default();
        let lines = super::lines(EnvFilter::new("warn"), log.clone(), false);
        let _guard = tracing::subscriber::set_default(lines);
        say().await;
        let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        let ends: Vec<&str> = text.lines().map(|line| line.split_once(" WARN ").unwrap().1).collect();
        let of = "request{id=\"checkout-7:1\"}: ";
        assert_eq!(ends, [&format!("{of}at once"), &format!("{of}asked code=7"), "spawned", "after"], "{text}");
    }

    #[tokio::test]
    async fn lines_as_json_name_their_request_where_a_span_would() {
        let log = Log::default();
        let lines = super::json_lines(EnvFilter::new("warn"), log.clone());
        let _guard = tracing::subscriber::set_default(lines);
        say().await;
        let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let said: Vec<_> =
            lines.iter().map(|line| (line["message"].as_str().unwrap(), line["span"]["id"].as_str())).collect();
        let of = Some("checkout-7:1");
        assert_eq!(said, [("at once", of), ("asked", of), ("spawned", None), ("after", None)], "{text}");
        assert_eq!((&lines[1]["code"], &lines[1]["span"]["name"]), (&7.into(), &"request".into()));
    }
}
