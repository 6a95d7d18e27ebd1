//! Who may call what can do harm.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, HeaderValue, Uri, header};

/// Headers by which proxies tell that the request is not from where it seems, besides those that start
/// with [`FORWARDING_PREFIX`].
const FORWARDING: [&str; 6] = [
    "cf-connecting-ip",
    "forwarded",
    "true-client-ip",
    "via",
    "x-client-ip",
    "x-real-ip",
];
const FORWARDING_PREFIX: &str = "x-forwarded-";

/// True for a request with the token; where there is none, for one from this machine itself.
///
/// With a token, this machine needs it too: many a proxy connects to `localhost` and tells nothing of
/// the client, which makes strangers look local.
pub(crate) fn is_allowed(peer: SocketAddr, headers: &HeaderMap, token: Option<&str>) -> bool {
    match token {
        Some(token) => has_token(headers, token),
        None => is_local(peer, headers),
    }
}

/// True for a request with `Authorization: Bearer` and the token.
pub(crate) fn has_token(headers: &HeaderMap, token: &str) -> bool {
    let given = headers
        .get(header::AUTHORIZATION)
        .map(HeaderValue::as_bytes);
    let given = given.and_then(|value| value.strip_prefix(b"Bearer "));
    given.is_some_and(|given| is_same(given, token))
}

/// True for a target with the token as the parameter `access_token` of its query, as Kurento's clients send it.
/// The characters of a token that is sent like this must need no escaping.
pub(crate) fn has_query_token(uri: &Uri, token: &str) -> bool {
    let pairs = uri.query().unwrap_or_default().split('&');
    let mut given = pairs.filter_map(|pair| pair.strip_prefix("access_token="));
    given.any(|given| is_same(given.as_bytes(), token))
}

/// In constant time, so that the answer's delay does not tell how much was right.
fn is_same(given: &[u8], token: &str) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(given, token.as_bytes()).is_ok()
}

/// True for a program of this machine, and for a page that this machine serves, by whatever port: applications
/// in the browser have their page from elsewhere than their media server. Neither a proxy's request
/// counts, nor that of a page of somebody else.
pub(crate) fn is_program_of_this_machine(peer: SocketAddr, headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let from_elsewhere = headers.get(header::ORIGIN).is_some_and(|origin| {
        let host = origin
            .to_str()
            .ok()
            .and_then(|origin| origin.split_once("://"));
        !host.is_some_and(|(_, host)| is_local_name(host))
    });
    peer.ip().to_canonical().is_loopback()
        && is_local_name(text(header::HOST).unwrap_or_default())
        && !from_elsewhere
        && !headers.keys().any(|name| is_forwarding(name.as_str()))
}

/// A proxy on this machine forwards requests of others, and a page of somebody else makes the browser
/// on this machine send them: neither counts.
fn is_local(peer: SocketAddr, headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let host = text(header::HOST.as_str()).unwrap_or_default();
    let from_page = text("sec-fetch-site")
        .is_some_and(|site| !matches!(site, "same-origin" | "none"))
        || text("origin").is_some_and(|origin| !is_of_host(origin, host))
        || text("referer").is_some_and(|page| !is_of_host(page, host));
    peer.ip().to_canonical().is_loopback()
        && is_local_name(host)
        && !from_page
        && !headers.keys().any(|name| is_forwarding(name.as_str()))
}

fn is_forwarding(name: &str) -> bool {
    name.starts_with(FORWARDING_PREFIX) || FORWARDING.contains(&name)
}

/// True if the URL is of that host and port.
fn is_of_host(url: &str, host: &str) -> bool {
    let authority = url
        .split_once("://")
        .and_then(|(_, rest)| rest.split('/').next());
    authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host))
}

/// True for `localhost` and loopback addresses, with or without a port. Other names may be made to
/// point here by whoever owns them.
fn is_local_name(host: &str) -> bool {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.split(':').next().unwrap_or_default(),
    };
    let is_loopback = |address: IpAddr| address.is_loopback();
    name.eq_ignore_ascii_case("localhost") || name.parse().is_ok_and(is_loopback)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderName;

    use super::*;

    const TOKEN: &str = "0123456789abcdef";

    fn allowed(peer: &str, headers: &[(&'static str, &'static str)]) -> bool {
        allowed_with(None, peer, headers)
    }

    fn allowed_with(
        token: Option<&str>,
        peer: &str,
        headers: &[(&'static str, &'static str)],
    ) -> bool {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            })
            .collect();
        is_allowed(SocketAddr::new(peer.parse().unwrap(), 1), &headers, token)
    }

    #[test]
    fn this_machine_is_allowed() {
        for (peer, host) in [
            ("127.0.0.1", "localhost:8443"),
            ("127.0.0.1", "127.0.0.1"),
            ("::1", "[::1]:8443"),
            ("::ffff:127.0.0.1", "LOCALHOST"),
        ] {
            assert!(allowed(peer, &[("host", host)]), "{peer} {host}");
        }
        let own_page = [
            ("host", "localhost:8443"),
            ("origin", "https://localhost:8443"),
            ("sec-fetch-site", "same-origin"),
            ("referer", "https://localhost:8443/?room=r"),
        ];
        assert!(allowed("::1", &own_page));
    }

    #[test]
    fn others_are_refused() {
        let localhost = ("host", "localhost");
        for (peer, headers) in [
            ("192.0.2.1", vec![localhost]),
            ("127.0.0.1", vec![]),
            ("127.0.0.1", vec![("host", "rebound.example")]),
            (
                "127.0.0.1",
                vec![localhost, ("x-forwarded-for", "192.0.2.1")],
            ),
            (
                "127.0.0.1",
                vec![localhost, ("sec-fetch-site", "cross-site")],
            ),
            (
                "127.0.0.1",
                vec![localhost, ("origin", "https://evil.example")],
            ),
            (
                "127.0.0.1",
                vec![localhost, ("origin", "http://evil.example://localhost")],
            ),
            (
                "127.0.0.1",
                vec![localhost, ("referer", "https://evil.example/localhost")],
            ),
            ("127.0.0.1", vec![localhost, ("x-forwarded-proto", "https")]),
            (
                "127.0.0.1",
                vec![localhost, ("cf-connecting-ip", "192.0.2.1")],
            ),
            (
                "192.0.2.1",
                vec![("authorization", "Bearer 0123456789abcdef")],
            ),
        ] {
            assert!(!allowed(peer, &headers), "{peer} {headers:?}");
        }
    }

    #[test]
    fn wrong_tokens_are_refused() {
        for given in [
            "Bearer 0123456789abcdeX",
            "Bearer ",
            "Basic 0123456789abcdef",
        ] {
            let headers = [("host", "localhost"), ("authorization", given)];
            assert!(!allowed_with(Some(TOKEN), "192.0.2.1", &headers), "{given}");
        }
    }

    #[test]
    fn where_there_is_a_token_even_this_machine_needs_it() {
        // What nginx sends for a stranger unless it is told to add headers.
        let proxied = [("host", "localhost:8080")];
        assert!(!allowed_with(Some(TOKEN), "127.0.0.1", &proxied));
    }

    #[test]
    fn programs_and_pages_of_this_machine_are_told_from_others() {
        let localhost = ("host", "localhost:8888");
        let check = |peer: &str, more: &[(&'static str, &'static str)], expected| {
            let headers: HeaderMap = std::iter::once(&localhost)
                .chain(more)
                .map(|(name, value)| {
                    let name = HeaderName::from_static(name);
                    (name, HeaderValue::from_static(value))
                })
                .collect();
            let peer = SocketAddr::new(peer.parse().unwrap(), 1);
            let allowed = is_program_of_this_machine(peer, &headers);
            assert_eq!(allowed, expected, "{peer} {more:?}");
        };
        check("127.0.0.1", &[], true);
        check("::1", &[("origin", "https://localhost:8443")], true);
        check("::1", &[("origin", "http://[::1]:8080")], true);
        check("127.0.0.1", &[("origin", "https://evil.example")], false);
        check("127.0.0.1", &[("origin", "null")], false);
        check("127.0.0.1", &[("x-forwarded-for", "192.0.2.1")], false);
        check("192.0.2.1", &[], false);
        let rebound =
            HeaderMap::from_iter([(header::HOST, HeaderValue::from_static("rebound.example"))]);
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        assert!(!is_program_of_this_machine(peer, &rebound));
    }

    #[test]
    fn tokens_are_found_in_queries() {
        for (target, expected) in [
            ("/kurento?access_token=0123456789abcdef", true),
            ("/kurento?a=b&access_token=0123456789abcdef&c", true),
            ("/kurento?access_token=0123456789abcdeX", false),
            ("/kurento?access_token=", false),
            ("/kurento?xaccess_token=0123456789abcdef", false),
            ("/kurento", false),
        ] {
            let uri: Uri = target.parse().unwrap();
            assert_eq!(has_query_token(&uri, TOKEN), expected, "{target}");
        }
    }

    #[test]
    fn token_opens_from_anywhere() {
        let token = [
            ("host", "example.org"),
            ("authorization", "Bearer 0123456789abcdef"),
        ];
        assert!(allowed_with(Some(TOKEN), "192.0.2.1", &token));
        let forwarded = [token[0], token[1], ("x-forwarded-for", "192.0.2.9")];
        assert!(allowed_with(Some(TOKEN), "127.0.0.1", &forwarded));
    }
}
