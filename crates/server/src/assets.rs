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
#[exclude = "demo.png"]
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
    let client = path.strip_prefix("js/").and_then(Client::get);
    let is_client = client.is_some();
    let page = || Demo::get(if path.is_empty() { "index.html" } else { path });
    let Some(file) = client.or_else(page) else {
        return (StatusCode::NOT_FOUND, "not found\n").into_response();
    };
    let mut response = respond(path, &file, &headers);
    if is_client {
        // Pages of any origin import the client as a module, which browsers fetch with CORS.
        let anyone = HeaderValue::from_static("*");
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, anyone);
    }
    response
}

fn respond(path: &str, file: &EmbeddedFile, headers: &HeaderMap) -> Response {
    let etag = etag(file);
    let known = headers
        .get(header::IF_NONE_MATCH)
        .and_then(|value| value.to_str().ok());
    if known.is_some_and(|known| known.contains(&etag)) {
        return ([(header::ETAG, etag)], StatusCode::NOT_MODIFIED).into_response();
    }
    let mut response = Response::new(Body::from(file.data.to_vec()));
    // By its ending a declaration file would be a video.
    let mime_type = match path.ends_with(".d.ts") {
        true => "text/plain; charset=utf-8",
        false => file.metadata.mimetype(),
    };
    let content_type = HeaderValue::from_str(mime_type);
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
