//! Which request a line belongs to: its id and its trace stand at the end of every line that is logged while it is handled.
//!
//! It is no span: a span is made, named and kept for every request, also for the many that log nothing; this costs something
//! only where there is a line. Invariant: `REQUEST-LINE-1` a line of the task that handles a request has the request's id,
//! a line of another task has none.

use crate::edge::respond::{RequestContext, TraceParent};
use std::fmt;
use std::sync::Arc;
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::registry::LookupSpan;

tokio::task_local! {
    static REQUEST: Arc<RequestContext>;
}

/// Handles a request.
pub(crate) async fn within<F: Future>(request: Arc<RequestContext>, handler: F) -> F::Output {
    REQUEST.scope(request, handler).await
}

/// Writes lines as `format` does, which ends each with a line feed, with what is known of the request.
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
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let Ok(request) = REQUEST.try_with(Clone::clone) else {
            return self.format.format_event(context, writer, event);
        };
        let mut line = String::new();
        self.format.format_event(context, Writer::new(&mut line), event)?;
        let line = line.strip_suffix('\n').unwrap_or(&line);
        // Both are visible ASCII; a quote or a backslash in the id is escaped.
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
