//! Chromium over the Chrome DevTools Protocol. Start with [`Chromium::launch`].

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::sync::mpsc;

use crate::browser::{Page, as_json_text};
use crate::deadline::within;
use crate::process::Process;
use crate::remote_control::RemoteControl;

/// Without the background and renderer flags, hidden pages are throttled; without the networking
/// one, failing look-ups delay it.
const FLAGS: &[&str] = &[
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-crash-reporter",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
    "--allow-loopback-in-peer-connection",
    // Otherwise the upper layers of small pictures are dropped silently.
    "--force-fieldtrials=WebRTC-LegacySimulcastLayerLimit/Disabled/",
    "--window-size=960,600",
    "--remote-debugging-port=0",
];

/// A running Chromium.
#[derive(Debug)]
pub struct Chromium {
    control: Arc<RemoteControl>,
    complaints: Arc<Mutex<Vec<(String, String)>>>,
    process: Process,
    _profile: TempDir,
}

impl Chromium {
    /// Starts a browser with a fresh profile.
    pub async fn launch() -> Self {
        let profile = TempDir::with_prefix("chromium-").expect("a directory for the profile");
        let mut command = Command::new("chromium");
        command
            .args(FLAGS)
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank");
        let process = Process::spawn(command);
        let url = process.line_after("DevTools listening on ").await;
        let (events, event_receiver) = mpsc::unbounded_channel();
        let control = Arc::new(RemoteControl::connect(&url, events).await);
        let complaints = Arc::default();
        // Ends with the connection, which owns the other half of the channel.
        tokio::spawn(collect_complaints(event_receiver, Arc::clone(&complaints)));
        Self {
            control,
            complaints,
            process,
            _profile: profile,
        }
    }

    /// Opens `url` in a window of its own. `name` appears in messages of failures.
    pub async fn open(&self, name: &str, url: &str) -> ChromiumPage {
        let call = |method, params| within(method, self.control.call(method, params, None));
        // Its own context: storage and permissions as another person would have.
        let context = call("Target.createBrowserContext", json!({}))
            .await
            .expect("a browser context");
        let target = call(
            "Target.createTarget",
            json!({ "url": "about:blank", "browserContextId": context["browserContextId"], "newWindow": true }),
        )
        .await
        .expect("a target");
        let attached = call(
            "Target.attachToTarget",
            json!({ "targetId": target["targetId"], "flatten": true }),
        )
        .await
        .expect("a session with the target");
        let page = ChromiumPage {
            name: name.to_owned(),
            control: self.control.clone(),
            complaints: self.complaints.clone(),
            context: text(&context["browserContextId"]),
            session: text(&attached["sessionId"]),
        };
        for domain in ["Runtime.enable", "Log.enable", "Page.enable"] {
            page.call(domain, json!({})).await;
        }
        page.navigate(url).await;
        page
    }

    /// Kills all its processes, as a crash would.
    pub fn kill(&mut self) {
        self.process.kill();
    }
}

/// A page in a [`Chromium`].
#[derive(Debug)]
pub struct ChromiumPage {
    name: String,
    control: Arc<RemoteControl>,
    complaints: Arc<Mutex<Vec<(String, String)>>>,
    context: String,
    session: String,
}

impl ChromiumPage {
    /// Goes to another address, in which the page's state is lost.
    pub async fn navigate(&self, url: &str) {
        let answer = self.call("Page.navigate", json!({ "url": url })).await;
        assert!(answer.get("errorText").is_none(), "{url}: {answer}");
        self.wait_for("document.readyState === 'complete' && location.href !== 'about:blank'")
            .await;
    }

    /// Loads the page again; what it kept in storage stays.
    pub async fn reload(&self) {
        self.evaluate("window.isFormer = true").await;
        self.call("Page.reload", json!({})).await;
        // Asked in the former document, it is answered by an error when that ends.
        let loaded = "new Promise((resolve) => {
            const look = () => !window.isFormer && document.readyState === 'complete' && resolve(true);
            addEventListener('load', look);
            look();
        })";
        within(format!("{}: reload", self.name), async {
            while self.run(loaded).await.is_err() {}
        })
        .await;
    }

    /// Presses keys one by one: a character, or a name such as `Enter` or `Tab`.
    pub async fn press(&self, key: &str) {
        let (code, typed) = match key {
            "Enter" => (13, "\r"),
            "Tab" => (9, ""),
            "Escape" => (27, ""),
            _ => (0, key),
        };
        for kind in ["keyDown", "keyUp"] {
            let mut event = json!({ "type": kind, "key": key, "windowsVirtualKeyCode": code });
            if kind == "keyDown" && !typed.is_empty() {
                event["text"] = typed.into();
            }
            self.call("Input.dispatchKeyEvent", event).await;
        }
    }

    /// Types text into the element that has the focus.
    pub async fn type_text(&self, text: &str) {
        for character in text.chars() {
            self.press(&character.to_string()).await;
        }
    }

    /// Saves what the page looks like to `target/screenshots/{name}.png`.
    pub async fn screenshot(&self, name: &str) -> PathBuf {
        let answer = self
            .call("Page.captureScreenshot", json!({ "format": "png" }))
            .await;
        let picture = BASE64_STANDARD
            .decode(text(&answer["data"]))
            .expect("a picture in base64");
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/screenshots");
        std::fs::create_dir_all(&directory).expect("a directory for pictures");
        let path = directory.join(format!("{name}.png"));
        std::fs::write(&path, picture).expect("a file for the picture");
        path
    }

    /// Closes the page as a user does, and everything it had.
    pub async fn close(self) {
        let params = json!({ "browserContextId": self.context });
        let closed = self
            .control
            .call("Target.disposeBrowserContext", params, None);
        within("closing a page", closed)
            .await
            .expect("the page is open");
    }

    async fn call(&self, method: &str, params: Value) -> Value {
        within(
            format!("{}: {method}", self.name),
            self.control.call(method, params, Some(&self.session)),
        )
        .await
        .unwrap_or_else(|error| panic!("{}: {method}: {error}", self.name))
    }
}

#[async_trait]
impl Page for ChromiumPage {
    fn name(&self) -> &str {
        &self.name
    }

    async fn run(&self, expression: &str) -> Result<Value, String> {
        let params = json!({
            "expression": as_json_text(expression),
            "awaitPromise": true,
            "returnByValue": true,
            "userGesture": true,
        });
        let answer = self
            .control
            .call("Runtime.evaluate", params, Some(&self.session))
            .await?;
        if let Some(exception) = answer.get("exceptionDetails") {
            return Err(exception["exception"]["description"]
                .as_str()
                .unwrap_or("unknown exception")
                .to_owned());
        }
        serde_json::from_str(&text(&answer["result"]["value"])).map_err(|error| error.to_string())
    }

    fn complaints(&self) -> Vec<String> {
        let complaints = self.complaints.lock().expect("no panic while locked");
        complaints
            .iter()
            .filter(|(session, _)| *session == self.session)
            .map(|(_, text)| text.clone())
            .collect()
    }
}

async fn collect_complaints(
    mut events: mpsc::UnboundedReceiver<Value>,
    complaints: Arc<Mutex<Vec<(String, String)>>>,
) {
    while let Some(event) = events.recv().await {
        let params = &event["params"];
        let complaint = match event["method"].as_str() {
            Some("Runtime.exceptionThrown") => {
                let details = &params["exceptionDetails"];
                let description = details["exception"]["description"].as_str();
                description.map_or_else(|| details.to_string(), str::to_owned)
            }
            Some("Runtime.consoleAPICalled")
                if matches!(params["type"].as_str(), Some("error" | "warning")) =>
            {
                let arguments = params["args"].as_array().map_or(&[][..], Vec::as_slice);
                let texts = arguments.iter().map(|value| {
                    let value = value
                        .get("value")
                        .or_else(|| value.get("description"))
                        .unwrap_or(value);
                    value
                        .as_str()
                        .map_or_else(|| value.to_string(), str::to_owned)
                });
                format!("console: {}", texts.collect::<Vec<_>>().join(" "))
            }
            Some("Log.entryAdded") if params["entry"]["level"] == "error" => {
                format!(
                    "log: {} {}",
                    text(&params["entry"]["text"]),
                    params["entry"]["url"]
                )
            }
            _ => continue,
        };
        let session = text(&event["sessionId"]);
        complaints
            .lock()
            .expect("no panic while locked")
            .push((session, complaint));
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
