//! The demo and the JavaScript client, embedded in the binary.
//!
//! Debug builds read them from the source tree at every request, so that editing a page needs no
//! rebuild.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use rust_embed::{Embed, EmbeddedFile};

/// Pages, at `/`.
#[derive(Embed)]
#[folder = "../../web-demo"]
#[exclude = "package.json"]
#[allow_missing = true]
struct Demo;

/// The client, at `/js/`.
#[derive(Embed)]
#[folder = "../room-client/js"]
#[exclude = "test/*"]
#[exclude = "*.json"]
#[exclude = "build.mjs"]
struct Client;

/// Answers any path that nothing else answers.
pub(crate) async fn serve(uri: Uri, headers: HeaderMap) -> Response {
    let path = uri.path().trim_start_matches('/');
    let file = match path.strip_prefix("js/") {
        Some(name) => Client::get(name).or_else(|| Demo::get(path)),
        None if path.is_empty() => Demo::get("index.html"),
        None => Demo::get(path),
    };
    match file {
        Some(file) => respond(&file, &headers),
        None => (StatusCode::NOT_FOUND, "not found\n").into_response(),
    }
}

fn respond(file: &EmbeddedFile, headers: &HeaderMap) -> Response {
    let etag = etag(file);
    let known = headers
        .get(header::IF_NONE_MATCH)
        .and_then(|value| value.to_str().ok());
    if known.is_some_and(|known| known.contains(&etag)) {
        return ([(header::ETAG, etag)], StatusCode::NOT_MODIFIED).into_response();
    }
    let mut response = Response::new(Body::from(file.data.to_vec()));
    let content_type = HeaderValue::from_str(file.metadata.mimetype());
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        content_type.unwrap_or(HeaderValue::from_static("application/octet-stream")),
    );
    // Ask each time: a new binary may have other pages, and the answer is mostly "not modified".
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        headers.insert(header::ETAG, etag);
    }
    response
}

/// The first 64 bits of the content's hash in quotes: enough to tell versions of one file apart.
fn etag(file: &EmbeddedFile) -> String {
    let hash = file.metadata.sha256_hash();
    let digits: String = hash[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("\"{digits}\"")
}
