//! Adds the request id and the trace id to every line that is logged while a request is handled.
//!
//! A span would be created for every request, although most log nothing; this costs something only
//! for lines that are written.
//!
//! `REQUEST-LINE-1`: lines of the task that handles a request carry its id; lines of other tasks
//! carry none.

use crate::http::request_context::{TraceParent, current};
use std::fmt;
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::registry::LookupSpan;

/// Formats lines with `format` and appends the ids of the current request. `format` must end each
/// line with a line feed.
pub(super) struct WithRequest<F> {
    pub(super) format: F,
    pub(super) is_json: bool,
}

impl<S, N, F> FormatEvent<S, N> for WithRequest<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let Some(request) = current() else {
            return self.format.format_event(context, writer, event);
        };
        let mut line = String::new();
        self.format.format_event(context, Writer::new(&mut line), event)?;
        let line = line.strip_suffix('\n').unwrap_or(&line);
        // Both ids are visible ASCII; the JSON encoder escapes quotes and backslashes.
        let id = request.request_id.as_str();
        let trace = request.trace_parent.as_ref().map(TraceParent::trace_id);
        if self.is_json {
            write!(
                writer,
                "{},\"request_id\":{}",
                line.strip_suffix('}').unwrap_or(line),
                serde_json::Value::from(id)
            )?;
            if let Some(trace) = trace {
                write!(writer, ",\"trace_id\":\"{trace}\"")?;
            }
            return writer.write_str("}\n");
        }
        write!(writer, "{line} request_id={id}")?;
        if let Some(trace) = trace {
            write!(writer, " trace_id={trace}")?;
        }
        writer.write_char('\n')
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::respond::{Responder, around};
    use axum::body::Body;
    use axum::routing::get;
    use std::io;
    use std::sync::{Arc, Mutex, MutexGuard};
    use tower::ServiceExt as _;
    use tracing_subscriber::fmt::MakeWriter;
    use tracing_subscriber::layer::SubscriberExt as _;
    use triggers_cluster_config::NodeOptions;
    use triggers_protocol::Environment;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    struct Writer<'a>(MutexGuard<'a, Vec<u8>>);

    impl io::Write for Writer<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Written {
        type Writer = Writer<'a>;

        fn make_writer(&'a self) -> Writer<'a> {
            Writer(self.0.lock().unwrap())
        }
    }

    /// `tracing` remembers for each call site whether a subscriber wants it. A subscriber that ends
    /// in one thread may make it forget one of another thread, so there is one at a time.
    static SUBSCRIBED: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

    /// Logs one line inside a request and one outside, and returns both.
    async fn lines(
        subscriber: impl Subscriber + Send + Sync + 'static,
        written: Written,
    ) -> Vec<String> {
        let _guard = SUBSCRIBED.lock().await;
        let _current = tracing::subscriber::set_default(subscriber);
        let handler = || async { tracing::info!(answer = %"{}", "inside") };
        let responder = Responder::new(Environment::system(), &NodeOptions::default());
        let router = around(axum::Router::new().route("/", get(handler)), responder);
        let request = axum::http::Request::get("/")
            .header("x-request-id", r#"a"b"#)
            .header("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
        router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        tracing::info!("outside");
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        text.lines().filter(|line| line.contains("side")).map(str::to_owned).collect()
    }

    #[tokio::test]
    async fn a_line_ends_with_the_ids_of_its_request() {
        let written = Written::default();
        let layer = tracing_subscriber::fmt::layer().with_writer(written.clone()).with_ansi(false);
        let layer = layer.map_event_format(|format| WithRequest { format, is_json: false });
        let text = lines(tracing_subscriber::registry().with(layer), written).await;
        assert!(
            text[0].ends_with(
                "inside answer={} request_id=a\"b trace_id=4bf92f3577b34da6a3ce929d0e0e4736"
            ),
            "REQUEST-LINE-1: {text:?}"
        );
        assert!(text[1].ends_with("outside"), "REQUEST-LINE-1: {text:?}");
    }

    #[tokio::test]
    async fn a_json_line_stays_valid_json() {
        let written = Written::default();
        let layer = tracing_subscriber::fmt::layer()
            .with_writer(written.clone())
            .json()
            .flatten_event(true);
        let layer = layer.map_event_format(|format| WithRequest { format, is_json: true });
        let text = lines(tracing_subscriber::registry().with(layer), written).await;
        let inside: serde_json::Value = serde_json::from_str(&text[0]).unwrap();
        assert_eq!(
            (&inside["request_id"], &inside["answer"]),
            (&"a\"b".into(), &"{}".into()),
            "REQUEST-LINE-1"
        );
        assert_eq!(inside["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
        let outside: serde_json::Value = serde_json::from_str(&text[1]).unwrap();
        assert!(outside.get("request_id").is_none(), "REQUEST-LINE-1: {outside}");
    }
}
