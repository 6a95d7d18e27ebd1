//! What settings mean together.

use super::*;

#[test]
fn media_servers_follow_from_their_addresses() {
    let config = |media, uris: &[&str], rules: &[&str]| Config {
        media,
        kms_uri: uris.iter().map(|uri| (*uri).to_owned()).collect(),
        media_rule: rules.iter().map(|rule| rule.parse().unwrap()).collect(),
        ..Config::default()
    };
    let uri = "ws://192.0.2.1:8888/kurento";
    assert_eq!(config(None, &[], &[]).media(), MediaServers::Embedded);
    assert_eq!(config(None, &[uri], &[]).media(), MediaServers::Kms);
    let pool = Some(MediaServers::Pool);
    for (config, expected) in [
        (config(None, &[uri], &[]), true),
        (
            config(
                pool,
                &[uri, "wss://kms.example/kurento?access_token=x"],
                &[],
            ),
            true,
        ),
        (
            config(pool, &[uri], &["room:a*=kms", "user:b=embedded"]),
            true,
        ),
        (
            config(pool, &[uri], &["room:a=ws://192.0.2.1:8888/kurento"]),
            true,
        ),
        (
            config(pool, &[uri], &["room:a=ws://192.0.2.2:8888/kurento"]),
            false,
        ),
        (config(None, &[uri], &["room:a=embedded"]), false),
        (config(None, &[], &["room:a=kms"]), false),
        (config(pool, &[], &[]), false),
        (config(Some(MediaServers::Embedded), &[uri], &[]), false),
        (config(None, &["autodiscovery"], &[]), false),
        (config(None, &["http://192.0.2.1"], &[]), false),
        (config(None, &["ws:///kurento"], &[]), false),
    ] {
        let checked = config.check();
        assert_eq!(checked.is_ok(), expected, "{config:?} {checked:?}");
    }
}

#[test]
fn command_line_is_consistent() {
    arguments::command().debug_assert();
}

#[test]
fn variables_that_mean_nothing_are_found() {
    let variables = [
        "TERTULIA_UDP_PORT",
        "TERTULIA_UDP_PROT",
        "TERTULIA_CONFIG",
        "TERTULIA_PORT_8443_TCP",
        "TERTULIA_SERVICE_HOST",
        "HOME",
    ];
    let unknown = unknown_variables(variables.map(str::to_owned));
    assert_eq!(unknown, ["TERTULIA_UDP_PROT"]);
}

#[test]
fn contradictions_are_refused() {
    let cert = Some(PathBuf::from("c"));
    let key = Some(PathBuf::from("k"));
    let table = [
        Config {
            cert: cert.clone(),
            ..Config::default()
        },
        Config {
            key: key.clone(),
            ..Config::default()
        },
        Config {
            cert: cert.clone(),
            key: key.clone(),
            http: true,
            ..Config::default()
        },
        Config {
            video_min_kbps: 700,
            ..Config::default()
        },
        Config {
            max_connections: 0,
            ..Config::default()
        },
        Config {
            max_rooms: 0,
            ..Config::default()
        },
        Config {
            max_endpoints: 0,
            ..Config::default()
        },
        Config {
            admin_token: Some("short".to_owned()),
            ..Config::default()
        },
        Config {
            kurento_token: Some("short".to_owned()),
            ..Config::default()
        },
        Config {
            kurento: Some(([0, 0, 0, 0], 8888).into()),
            ..Config::default()
        },
        Config {
            kurento_secure: Some(([0, 0, 0, 0], 8433).into()),
            ..Config::default()
        },
        Config {
            kurento_max_connections: 0,
            ..Config::default()
        },
    ];
    for config in table {
        assert!(config.check().is_err(), "{config:?}");
    }
    let unbounded = Config {
        video_max_kbps: 0,
        video_min_kbps: 700,
        ..Config::default()
    };
    assert!(unbounded.check().is_ok());
    let secure_behind_proxy = Config {
        cert,
        key,
        http: true,
        kurento_secure: Some(([127, 0, 0, 1], 8433).into()),
        ..Config::default()
    };
    assert!(secure_behind_proxy.check().is_ok());
}

#[test]
fn local_url_is_one_a_browser_can_open() {
    let url = |listen: &str, http| {
        let config = Config {
            http,
            ..Config::default()
        };
        config.local_url(listen.parse().unwrap())
    };
    assert_eq!(url("0.0.0.0:8443", false), "https://localhost:8443");
    assert_eq!(url("[::]:80", true), "http://localhost:80");
    assert_eq!(url("192.0.2.1:443", false), "https://192.0.2.1:443");
    assert_eq!(url("[2001:db8::1]:443", false), "https://[2001:db8::1]:443");
}
