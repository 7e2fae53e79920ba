//! From a request to its response.

use std::sync::Arc;

use hyper::header::{
    ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue,
    REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use hyper::{Method, Request, Response, StatusCode};

use super::body::Content;
use crate::service::facts::Facts;
use crate::service::metrics::{Format, Pieces};
use crate::service::overview;

const TEXT: &str = "text/plain; charset=utf-8";

/// Answers `request`; what it would send is not looked at.
pub(super) fn respond<B>(
    request: &Request<B>,
    facts: impl FnOnce() -> Arc<Facts>,
) -> Response<Content> {
    let path = request.uri().path();
    if !matches!(path, "/" | "/metrics") {
        let text = "403: there are only / and /metrics here\n";
        return response(StatusCode::FORBIDDEN, TEXT, text.to_owned());
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let text = "405: only GET and HEAD are answered here\n";
        let mut refusal = response(StatusCode::METHOD_NOT_ALLOWED, TEXT, text.to_owned());
        let allowed = HeaderValue::from_static("GET, HEAD");
        refusal.headers_mut().insert(ALLOW, allowed);
        return refusal;
    }
    let facts = facts();
    if path == "/" {
        let page = overview::page(&facts);
        return response(StatusCode::OK, "text/html; charset=utf-8", page);
    }
    let accept = request.headers().get(ACCEPT);
    let accept = accept.and_then(|accept| accept.to_str().ok());
    let format = Format::accepted(accept.unwrap_or_default());
    let content = Content::of(Pieces::new(facts, format));
    let mut answer = response(StatusCode::OK, format.content_type(), content);
    let depends = HeaderValue::from_static("accept");
    answer.headers_mut().insert(VARY, depends);
    answer
}

fn response(
    status: StatusCode,
    content_type: &'static str,
    content: impl Into<Content>,
) -> Response<Content> {
    let mut response = Response::new(content.into());
    *response.status_mut() = status;
    for (name, value) in [
        (CONTENT_TYPE, content_type),
        (CACHE_CONTROL, "no-store"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
        // Nothing is loaded and nothing runs; the page's own style is the one exception.
        (
            CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        ),
    ] {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use hyper::body::Body as _;

    use super::*;
    use crate::service::facts::sample;

    fn ask(method: &str, path: &str) -> Response<Content> {
        let request = Request::builder().method(method).uri(path).body(());
        respond(&request.unwrap(), || Arc::new(sample::facts()))
    }

    #[test]
    fn there_are_two_paths_and_two_methods() {
        for (method, path, status) in [
            ("GET", "/", 200),
            ("HEAD", "/metrics", 200),
            ("GET", "/metrics?x=1", 200),
            ("GET", "/metrics/", 403),
            ("GET", "/favicon.ico", 403),
            ("GET", "/../../etc/passwd", 403),
            ("DELETE", "/anything", 403),
            ("POST", "/metrics", 405),
            ("OPTIONS", "/", 405),
            ("CONNECT", "host:80", 403),
        ] {
            let answer = ask(method, path);
            assert_eq!(answer.status().as_u16(), status, "{method} {path}");
            assert!(answer.headers().contains_key(CONTENT_SECURITY_POLICY));
        }
        assert_eq!(ask("PUT", "/").headers()[ALLOW], "GET, HEAD");
    }

    #[test]
    fn much_is_sent_in_pieces_and_little_as_a_whole() {
        assert!(ask("GET", "/").body().size_hint().exact().is_some());
        let mut facts = sample::facts();
        let one = facts.servers[0].clone();
        facts.servers = vec![one; 200];
        let request = Request::builder().uri("/metrics").body(()).unwrap();
        let answer = respond(&request, || Arc::new(facts));
        assert!(answer.body().size_hint().exact().is_none());
    }
}
