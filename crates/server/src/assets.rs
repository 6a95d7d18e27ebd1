//! The demo and the JavaScript client, embedded in the binary.
//!
//! Debug builds read them from the source tree at every request, so that editing a page needs no
//! rebuild. For pages without modules, `script` makes one of all, which [`prepare`] keeps.

mod script;

use std::borrow::Cow;
use std::sync::LazyLock;

use aws_lc_rs::digest::{SHA256, digest};
use axum::body::{Body, Bytes};
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
#[exclude = "tests/*"]
#[exclude = "*.json"]
struct Client;

/// The client for pages without modules, once and for all.
static SCRIPT: LazyLock<Option<File>> = LazyLock::new(File::script);

/// Does what would otherwise be done at a request.
pub(crate) fn prepare() {
    if !cfg!(debug_assertions) {
        LazyLock::force(&SCRIPT);
    }
}

/// A file as it is served.
#[derive(Clone)]
struct File {
    /// Clones share it.
    data: Bytes,
    mime_type: String,
    sha256: [u8; 32],
}

impl File {
    /// What lies at a path below `/js/`.
    fn client(path: &str) -> Option<Self> {
        match path == script::NAME {
            false => Client::get(path).map(|file| Self::embedded(path, file)),
            // The modules may have been edited.
            true if cfg!(debug_assertions) => Self::script(),
            true => SCRIPT.clone(),
        }
    }

    fn script() -> Option<Self> {
        let text = script::compose(|name| Some(Client::get(name)?.data))?;
        let hash = digest(&SHA256, text.as_bytes());
        Some(Self {
            data: text.into(),
            mime_type: "text/javascript".to_owned(),
            sha256: hash.as_ref().try_into().ok()?,
        })
    }

    /// What lies at a path below `/`.
    fn page(path: &str) -> Option<Self> {
        let path = if path.is_empty() { "index.html" } else { path };
        Demo::get(path).map(|file| Self::embedded(path, file))
    }

    fn embedded(path: &str, file: EmbeddedFile) -> Self {
        // By its ending a declaration file would be a video.
        let mime_type = match path.ends_with(".d.ts") {
            true => "text/plain; charset=utf-8",
            false => file.metadata.mimetype(),
        };
        Self {
            mime_type: mime_type.to_owned(),
            sha256: file.metadata.sha256_hash(),
            data: match file.data {
                Cow::Borrowed(data) => Bytes::from_static(data),
                Cow::Owned(data) => data.into(),
            },
        }
    }

    /// The first 64 bits of the content's hash in quotes: enough to tell versions of one file apart.
    fn etag(&self) -> String {
        let digits = self.sha256[..8].iter().map(|byte| format!("{byte:02x}"));
        format!("\"{}\"", digits.collect::<String>())
    }
}

/// Answers any path that nothing else answers.
pub(crate) async fn serve(uri: Uri, headers: HeaderMap) -> Response {
    let path = uri.path().trim_start_matches('/');
    let client = path.strip_prefix("js/").and_then(File::client);
    let is_client = client.is_some();
    let Some(file) = client.or_else(|| File::page(path)) else {
        return (StatusCode::NOT_FOUND, "not found\n").into_response();
    };
    let mut response = respond(file, &headers);
    if is_client {
        // Pages of any origin import the client as a module, which browsers fetch with CORS.
        let anyone = HeaderValue::from_static("*");
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, anyone);
    }
    response
}

fn respond(file: File, headers: &HeaderMap) -> Response {
    let etag = file.etag();
    let known = headers
        .get(header::IF_NONE_MATCH)
        .and_then(|value| value.to_str().ok());
    if known.is_some_and(|known| known.contains(&etag)) {
        return ([(header::ETAG, etag)], StatusCode::NOT_MODIFIED).into_response();
    }
    let content_type = HeaderValue::from_str(&file.mime_type);
    let mut response = Response::new(Body::from(file.data));
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
