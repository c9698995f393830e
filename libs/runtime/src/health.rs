//! What a cluster's own tools ask of a process by plain HTTP: `/healthz`, `/readyz` and `/metrics`.
//!
//! Healthy means that this process answers, not that a run goes on: a probe that waited for others would keep them from
//! ever joining. Ready means that it does its part of the work.

use std::fmt::{Display, Write};
use std::future::Future;
use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;

/// The media type of Prometheus' text format.
pub const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A process that can be asked how it is.
pub trait Health: Send + Sync + 'static {
    /// Whether it does its part of the work; if not, why not, in a sentence.
    fn ready(&self) -> impl Future<Output = Result<(), String>> + Send;
    /// Its figures.
    fn metrics(&self) -> impl Future<Output = Page> + Send;
}

/// The three pages. Whoever serves them allows HTTP/1.
pub fn pages(of: impl Health) -> Router {
    let of = Arc::new(of);
    let asked = Arc::clone(&of);
    let ready = move || async move {
        match asked.ready().await {
            Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
            Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
        }
    };
    let metrics = move || async move { ([(CONTENT_TYPE, TEXT)], of.metrics().await.0) };
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
}

/// Figures in Prometheus' text format, put down one after the other.
#[derive(Debug, Default)]
pub struct Page(String);

/// Values of one name, told apart by labels.
pub struct Family<'a> {
    page: &'a mut String,
    name: &'a str,
}

impl Page {
    /// What may rise and fall.
    pub fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.gauges(name, help).of(&[], value);
    }

    /// What only rises while the process lives; its name ends in `_total`.
    pub fn counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.counters(name, help).of(&[], value);
    }

    /// Several of what may rise and fall.
    pub fn gauges<'a>(&'a mut self, name: &'a str, help: &str) -> Family<'a> {
        self.family(name, "gauge", help)
    }

    /// Several of what only rises.
    pub fn counters<'a>(&'a mut self, name: &'a str, help: &str) -> Family<'a> {
        self.family(name, "counter", help)
    }

    /// The text so far.
    pub fn text(&self) -> &str {
        &self.0
    }

    fn family<'a>(&'a mut self, name: &'a str, kind: &str, help: &str) -> Family<'a> {
        write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n").expect("a string takes all");
        Family { page: &mut self.0, name }
    }
}

impl Family<'_> {
    /// The value that has these labels, each a name and what it says here.
    pub fn of(&mut self, labels: &[(&str, &str)], value: impl Display) -> &mut Self {
        let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let labels: Vec<_> = labels.iter().map(|(name, says)| format!("{name}=\"{}\"", quoted(says))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        writeln!(self.page, "{}{labels} {value}", self.name).expect("a string takes all");
        self
    }

    /// A value for each thing that one label says.
    pub fn by<'b, V: Display>(&mut self, label: &str, values: impl IntoIterator<Item = (&'b str, V)>) {
        for (says, value) in values {
            self.of(&[(label, says)], value);
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use tower::ServiceExt;

    use super::*;

    struct Busy;

    impl Health for Busy {
        async fn ready(&self) -> Result<(), String> {
            Err("still busy".to_owned())
        }

        async fn metrics(&self) -> Page {
            let mut page = Page::default();
            page.gauge("a", "What a is.", 1.5);
            page.counters("b_total", "What b is.").of(&[("of", "a \"b\"\\\n"), ("at", "")], 2).by("of", [("x", 1)]);
            page
        }
    }

    /// Status, media type and text of a page.
    async fn ask(path: &str) -> (u16, String, String) {
        let request = Request::get(path).body(Body::empty()).expect("a good request");
        let answer = pages(Busy).oneshot(request).await.expect("no page fails");
        let kind = answer.headers()[CONTENT_TYPE].to_str().expect("text").to_owned();
        let status = answer.status().as_u16();
        let body = to_bytes(answer.into_body(), 1 << 20).await.expect("a short page");
        (status, kind, String::from_utf8(body.to_vec()).expect("text"))
    }

    #[tokio::test]
    async fn who_is_not_ready_is_healthy_all_the_same_and_says_why() {
        let (status, _, text) = ask("/healthz").await;
        assert_eq!((status, text.as_str()), (200, "ok\n"));
        let (status, _, text) = ask("/readyz").await;
        assert_eq!((status, text.as_str()), (503, "still busy\n"));
    }

    #[tokio::test]
    async fn figures_are_prometheus_text() {
        let wanted = "# HELP a What a is.\n# TYPE a gauge\na 1.5\n# HELP b_total What b is.\n# TYPE b_total counter\n\
                      b_total{of=\"a \\\"b\\\"\\\\\\n\",at=\"\"} 2\nb_total{of=\"x\"} 1\n";
        assert_eq!(ask("/metrics").await, (200, TEXT.to_owned(), wanted.to_owned()));
    }
}
