//! The program as its users start it: settings, errors, signals.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

fn tertulia(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tertulia"));
    command.args(arguments).env_remove("RUST_LOG");
    command
}

fn run(command: &mut Command) -> Output {
    command.output().unwrap()
}

fn settings(command: &mut Command) -> String {
    let output = run(command.arg("--check-config"));
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn complaint(command: &mut Command) -> String {
    let output = run(command);
    assert!(!output.status.success(), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

fn file(name: &str, content: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, content).unwrap();
    path
}

#[test]
fn flag_beats_environment_beats_file_beats_default() {
    let path = file(
        "precedence.toml",
        "udp-port = 1\ngrace-seconds = 1\nvideo-max-kbps = 2000\nannounce = [\"192.0.2.1\"]\n",
    );
    let path = path.to_str().unwrap();
    let mut command = tertulia(&["--config", path, "--udp-port", "3"]);
    command
        .env("TERTULIA_UDP_PORT", "2")
        .env("TERTULIA_GRACE_SECONDS", "2")
        .env("TERTULIA_HTTP", "true");
    let settings = settings(&mut command);
    for line in [
        "udp-port = 3",
        "grace-seconds = 2",
        "video-max-kbps = 2000",
        "announce = [\"192.0.2.1\"]",
        "http = true",
        "video-min-kbps = 300",
        "listen = \"0.0.0.0:8443\"",
    ] {
        assert!(
            settings.lines().any(|shown| shown == line),
            "{line} in {settings}"
        );
    }
}

#[test]
fn lists_may_be_repeated_or_separated_by_commas() {
    let expected = "announce = [\"192.0.2.1\",\"2001:db8::1\"]";
    let repeated = settings(&mut tertulia(&[
        "--announce",
        "192.0.2.1",
        "--announce",
        "2001:db8::1",
    ]));
    assert!(repeated.contains(expected), "{repeated}");
    let mut command = tertulia(&[]);
    let separated = settings(command.env("TERTULIA_ANNOUNCE", "192.0.2.1,2001:db8::1"));
    assert!(separated.contains(expected), "{separated}");
}

#[test]
fn shown_settings_are_a_valid_file_and_hide_secrets() {
    let mut command = tertulia(&[
        "--http",
        "--preferred-video-codec",
        "h264",
        "--log-format=json",
    ]);
    let shown = settings(command.env("TERTULIA_ADMIN_TOKEN", "0123456789abcdef"));
    assert!(!shown.contains("0123456789abcdef"));
    let shown = shown.replace("(hidden)", "0123456789abcdef");
    let path = file("shown.toml", &shown);
    let again = settings(&mut tertulia(&["--config", path.to_str().unwrap()]));
    assert_eq!(again.replace("(hidden)", "0123456789abcdef"), shown);
}

#[test]
fn kurento_is_off_and_listens_on_this_machine_unless_told_otherwise() {
    let off = settings(&mut tertulia(&[]));
    assert!(!off.contains("kurento ="), "{off}");
    let on = settings(&mut tertulia(&["--kurento"]));
    assert!(on.contains("kurento = \"127.0.0.1:8888\"\n"), "{on}");
    let on = settings(&mut tertulia(&["--kurento-secure"]));
    assert!(on.contains("kurento-secure = \"127.0.0.1:8433\"\n"), "{on}");
    let secret = "0123456789abcdef";
    let mut public = tertulia(&["--kurento", "0.0.0.0:1", "--kurento-token", secret]);
    let public = settings(&mut public);
    assert!(public.contains("kurento = \"0.0.0.0:1\"\n"), "{public}");
    assert!(!public.contains(secret), "{public}");
}

#[test]
fn keys_of_the_original_are_understood() {
    let path = file(
        "original.toml",
        "updateSpeakerInterval = 900\n\
         [kms]\nuris = [\"ws://192.0.2.1:8888/kurento\", \"ws://192.0.2.2:8888/kurento?access_token=s\"]\n\
         [demo]\nkmsLimit = 7\nloopback = { remote = false, andLocal = true }\n",
    );
    let path = path.to_str().unwrap();
    let settings = settings(&mut tertulia(&["--config", path, "--kms-max-rooms", "8"]));
    for line in [
        "kms-uri = [\"ws://192.0.2.1:8888/kurento\",\"ws://192.0.2.2:8888/kurento?(hidden)\"]",
        "kms-max-rooms = 8",
        "speaker-interval-ms = 900",
        "loopback-remote = false",
        "loopback-and-local = true",
    ] {
        assert!(
            settings.lines().any(|shown| shown == line),
            "{line} in {settings}"
        );
    }
    let unknown = file("original-unknown.toml", "[demo]\nauthRegex = \".*\"\n");
    let complaint = complaint(&mut tertulia(&["--config", unknown.to_str().unwrap()]));
    assert!(complaint.contains("unknown key `demo`"), "{complaint}");
}

#[test]
fn configuration_of_a_kurento_media_server_is_understood() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("etc-kurento");
    std::fs::create_dir_all(folder.join("modules/kurento")).unwrap();
    for (name, content) in [
        (
            "kurento.conf.json",
            r#"{ "mediaServer": { "net": { "websocket": { "port": 8888, "threads": 10 } } }, "metadata": { "rack": 7 } }"#,
        ),
        (
            "modules/kurento/BaseRtpEndpoint.conf.ini",
            "; ports\nminPort=40000\nmaxPort=40999\n",
        ),
        (
            "modules/kurento/WebRtcEndpoint.conf.json",
            r#"{ "externalIPv4": "203.0.113.7" }"#,
        ),
    ] {
        std::fs::write(folder.join(name), content).unwrap();
    }
    let path = folder.join("kurento.conf.json");
    let path = path.to_str().unwrap();
    // Unlike there, whoever comes from elsewhere must show a token.
    let complaint = complaint(&mut tertulia(&["--config", path]));
    assert!(complaint.contains("kurento-token"), "{complaint}");
    let token = ["--kurento-token", "0123456789abcdef"];
    let mut told = tertulia(&["--config", path, "--udp-port", "7200", token[0], token[1]]);
    let output = run(told.arg("--check-config"));
    let complaint = String::from_utf8(output.stderr).unwrap();
    let ignored = "`mediaServer.net.websocket.threads` of Kurento has no effect here";
    assert!(complaint.contains(ignored), "{complaint}");
    let settings = String::from_utf8(output.stdout).unwrap();
    for line in [
        "kurento = \"[::]:8888\"",
        "kurento-metadata = \"{\\\"rack\\\":7}\"",
        "announce = [\"203.0.113.7\"]",
        "udp-port = 7200",
        "rtp-ports = \"40001-40999\"",
    ] {
        assert!(
            settings.lines().any(|shown| shown == line),
            "{line} in {settings}"
        );
    }
}

#[test]
fn media_rules_are_read_from_flags_environment_and_file() {
    let path = file("rules.toml", "media-rule = [\"room:a*=kms\"]\n");
    let uri = [
        "--media",
        "pool",
        "--kms-uri",
        "ws://192.0.2.1:8888/kurento",
    ];
    let shown = |command: &mut Command| {
        let settings = settings(command.args(uri));
        let line = settings.lines().find(|line| line.starts_with("media-rule"));
        line.unwrap_or_default().to_owned()
    };
    let mut from_file = tertulia(&["--config", path.to_str().unwrap()]);
    assert_eq!(shown(&mut from_file), "media-rule = [\"room:a*=kms\"]");
    let rules = [
        "--media-rule",
        "user:b=embedded",
        "--media-rule",
        "room:c=kms",
    ];
    let from_flags = shown(&mut tertulia(&rules));
    assert_eq!(
        from_flags,
        "media-rule = [\"user:b=embedded\",\"room:c=kms\"]"
    );
    let wrong = complaint(tertulia(&["--media-rule", "lab=kms"]).args(uri));
    assert!(wrong.contains("`lab=kms` is no rule"), "{wrong}");
}

#[test]
fn unknown_key_is_refused_by_name_and_file() {
    let path = file("unknown.toml", "udp_prt = 1\n");
    let complaint = complaint(&mut tertulia(&["--config", path.to_str().unwrap()]));
    for part in ["udp_prt", "unknown.toml", "udp-port"] {
        assert!(complaint.contains(part), "{part} in {complaint}");
    }
}

#[test]
fn unusable_settings_are_explained() {
    let wrong_type = file("type.toml", "udp-port = \"many\"\n");
    let no_toml = file("syntax.toml", "udp-port = \n");
    let port_only = file("port-only.toml", "listen = 9443\n");
    for (arguments, part) in [
        (
            vec!["--config", wrong_type.to_str().unwrap()],
            "`udp-port` in",
        ),
        (vec!["--config", no_toml.to_str().unwrap()], "syntax.toml"),
        (
            vec!["--config", "/does/not/exist.toml"],
            "/does/not/exist.toml",
        ),
        (vec!["--cert", "c.pem"], "`cert` and `key` go together"),
        (vec!["--udp-port", "many"], "--udp-port"),
        (vec!["--listen", "9443"], "say 0.0.0.0:9443"),
        (vec!["--kurento", "9443"], "say 0.0.0.0:9443"),
        (vec!["--config", port_only.to_str().unwrap()], "`listen` in"),
        (vec!["--kurento", "0.0.0.0:8888"], "set `kurento-token`"),
        (
            vec!["--kurento-secure", "0.0.0.0:8433"],
            "set `kurento-token`",
        ),
        (vec!["--media", "kms"], "at least one kms url"),
        (
            vec![
                "--kms-uri",
                "wss://192.0.2.1/kurento",
                "--kms-ca",
                "/no/ca.pem",
            ],
            "cannot read /no/ca.pem (--kms-ca)",
        ),
        (
            vec![
                "--cert",
                "/no/c.pem",
                "--key",
                "/no/k.pem",
                "--udp-port",
                "0",
            ],
            "cannot read /no/c.pem (--cert)",
        ),
    ] {
        let complaint = complaint(&mut tertulia(&arguments));
        assert!(complaint.contains(part), "{part} in {complaint}");
    }
}

#[test]
fn files_that_a_start_needs_are_looked_at_with_the_settings() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let no_folder = file("no-folder", "");
    let no_folder = no_folder.to_str().unwrap();
    let below = format!("{no_folder}/below");
    let cert = ["--cert", "/no/c.pem", "--key", "/no/k.pem"];
    for (arguments, parts) in [
        (
            &cert[..],
            &["/no/c.pem", "--cert", "name a file that exists"][..],
        ),
        (
            &["--recordings", no_folder],
            &[no_folder, "--recordings", "name a directory"],
        ),
        (&["--recordings", &below], &["--recordings"]),
        (&["--data-dir", &below], &["--data-dir"]),
        (
            &[
                "--kms-uri",
                "wss://192.0.2.1/kurento",
                "--kms-ca",
                "/no/ca.pem",
            ],
            &["/no/ca.pem", "--kms-ca"],
        ),
        (
            &[
                "--kms-uri",
                "wss://192.0.2.1/kurento",
                "--kms-ca",
                no_folder,
            ],
            &[no_folder, "(--kms-ca)", "those of the authorities"],
        ),
    ] {
        let output = run(tertulia(arguments).arg("--check-config"));
        let complaint = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {complaint}");
        for part in parts {
            assert!(complaint.contains(part), "{part} in {complaint}");
        }
    }
    let missing = folder.join("no-recordings-yet");
    // Of the last run, whose start has made it.
    let _ = std::fs::remove_dir(&missing);
    let mut command = tertulia(&["--recordings", missing.to_str().unwrap(), "--data-dir"]);
    let output = run(command.arg(&folder).arg("--check-config"));
    assert!(output.status.success(), "{output:?}");
    let remark = String::from_utf8(output.stderr).unwrap();
    let told = "does not exist, the start makes it";
    assert!(remark.contains(told), "{remark}");
    assert!(!missing.exists());
    // It is no reason to warn. This start fails later, by the port.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let output = run(tertulia(&["--http", "--listen", &taken, "--recordings"]).arg(&missing));
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8(said).unwrap();
    let line = said.lines().find(|line| line.contains(told));
    assert!(line.is_some_and(|line| line.contains("INFO")), "{said}");
}

#[test]
fn a_system_that_trusts_nobody_is_told_once_with_the_settings_and_at_the_start() {
    let nobody = file("no-authorities.pem", "");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (uri, last, told) in [
        ("wss://192.0.2.1/kurento", "--check-config", 1),
        // It fails later, by the port.
        ("wss://192.0.2.1/kurento", "--http", 1),
        ("ws://192.0.2.1/kurento", "--check-config", 0),
    ] {
        let mut command = tertulia(&["--listen", &taken, "--kms-uri", uri, last]);
        let command = command.env("SSL_CERT_FILE", &nobody);
        let output = run(command.env_remove("SSL_CERT_DIR"));
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8(said).unwrap();
        let remark = "trusts no certificate authority: wss:// fails until --kms-ca";
        assert_eq!(said.matches(remark).count(), told, "{uri} {last}: {said}");
    }
}

#[test]
fn taken_port_is_explained_by_its_own_setting() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let port = taken.local_addr().unwrap().port().to_string();
    let data = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("taken-port");
    for (setting, value) in [
        ("--listen", &address),
        ("--kurento", &address),
        ("--kurento-secure", &address),
        ("--udp-port", &port),
    ] {
        let mut command = tertulia(&["--http", "--workers", "1", "--data-dir"]);
        command.arg(&data).args([setting, value]);
        for (other, value) in [("--listen", "127.0.0.1:0"), ("--udp-port", "0")] {
            if other != setting {
                command.args([other, value]);
            }
        }
        let complaint = complaint(&mut command);
        for part in [
            format!("({setting})"),
            format!("{port} "),
            format!("is it running already? {setting} takes another port"),
        ] {
            assert!(complaint.contains(&part), "{part} in {complaint}");
        }
    }
}

#[test]
fn help_teaches() {
    let help = run(&mut tertulia(&["--help"]));
    let help = String::from_utf8(help.stdout).unwrap();
    for part in [
        "Examples:",
        "Ports to open",
        "--announce",
        "TERTULIA_UDP_PORT",
    ] {
        assert!(help.contains(part), "{part} in {help}");
    }
}

#[test]
fn program_tells_where_to_look_and_stops_on_sigterm() {
    let arguments = [
        "--http",
        "--listen",
        "127.0.0.1:0",
        "--udp-port",
        "0",
        "--workers",
        "1",
        "--kurento",
        "127.0.0.1:0",
    ];
    let mut child = tertulia(&arguments).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap())
        .lines()
        .map(Result::unwrap);
    let line = lines.find(|line| line.contains("in a browser")).unwrap();
    assert!(line.contains("http://localhost:"), "{line}");
    let line = lines.find(|line| line.contains("(--kurento)")).unwrap();
    assert!(line.contains("programs of this machine"), "{line}");
    let signalled = Command::new("kill")
        .args(["-TERM", &child.id().to_string()])
        .status();
    assert!(signalled.unwrap().success());
    assert!(lines.any(|line| line.contains("stopped")));
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
