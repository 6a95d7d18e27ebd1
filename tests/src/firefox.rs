//! Firefox over WebDriver BiDi. Start with [`Firefox::launch`].

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::sync::mpsc;

use crate::browser::{Page, as_json_text};
use crate::deadline::within;
use crate::process::Process;
use crate::remote_control::RemoteControl;

/// A fake camera and microphone without a question, plain loopback candidates, and no traffic of
/// its own.
const PREFERENCES: &str = r#"
user_pref("media.navigator.streams.fake", true);
user_pref("media.navigator.permission.disabled", true);
user_pref("media.autoplay.default", 0);
user_pref("media.autoplay.blocking_policy", 0);
user_pref("media.peerconnection.ice.loopback", true);
user_pref("media.peerconnection.ice.obfuscate_host_addresses", false);
user_pref("media.gmp-manager.updateEnabled", false);
user_pref("app.update.enabled", false);
user_pref("app.normandy.enabled", false);
user_pref("browser.shell.checkDefaultBrowser", false);
user_pref("browser.startup.page", 0);
user_pref("browser.aboutwelcome.enabled", false);
user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("toolkit.telemetry.enabled", false);
user_pref("network.captive-portal-service.enabled", false);
user_pref("network.connectivity-service.enabled", false);
user_pref("services.settings.server", "http://127.0.0.1:1/");
user_pref("extensions.update.enabled", false);
user_pref("dom.min_background_timeout_value", 10);
"#;

/// A running Firefox with one page.
#[derive(Debug)]
pub struct Firefox {
    name: String,
    control: RemoteControl,
    context: String,
    complaints: Arc<Mutex<Vec<String>>>,
    _process: Process,
    _profile: TempDir,
}

impl Firefox {
    /// Starts a browser with a fresh profile and opens `url`.
    pub async fn launch(name: &str, url: &str) -> Self {
        let profile = TempDir::with_prefix("firefox-").expect("a directory for the profile");
        std::fs::write(profile.path().join("user.js"), PREFERENCES)
            .expect("the profile is writable");
        let mut command = Command::new("firefox-esr");
        command
            .args([
                "--headless",
                "--no-remote",
                "--remote-debugging-port=0",
                "--profile",
            ])
            .arg(profile.path())
            .arg("about:blank")
            .env("MOZ_CRASHREPORTER_DISABLE", "1");
        let process = Process::spawn(command);
        let address = process.line_after("WebDriver BiDi listening on ").await;
        let (events, event_receiver) = mpsc::unbounded_channel();
        let control = RemoteControl::connect(&format!("{address}/session"), events).await;
        let complaints = Arc::default();
        // Ends with the connection, which owns the other half of the channel.
        tokio::spawn(collect_complaints(event_receiver, Arc::clone(&complaints)));
        let call = |method, params| within(method, control.call(method, params, None));
        call("session.new", json!({ "capabilities": {} }))
            .await
            .expect("a session");
        call("session.subscribe", json!({ "events": ["log.entryAdded"] }))
            .await
            .expect("a subscription");
        let created = call("browsingContext.create", json!({ "type": "window" }))
            .await
            .expect("a window");
        let context = created["context"]
            .as_str()
            .expect("the window has an id")
            .to_owned();
        let params = json!({ "context": context, "url": url, "wait": "complete" });
        call("browsingContext.navigate", params)
            .await
            .unwrap_or_else(|error| panic!("{url}: {error}"));
        Self {
            name: name.to_owned(),
            control,
            context,
            complaints,
            _process: process,
            _profile: profile,
        }
    }
}

#[async_trait]
impl Page for Firefox {
    fn name(&self) -> &str {
        &self.name
    }

    async fn run(&self, expression: &str) -> Result<Value, String> {
        let params = json!({
            "expression": as_json_text(expression),
            "target": { "context": self.context },
            "awaitPromise": true,
            "userActivation": true,
        });
        let answer = self.control.call("script.evaluate", params, None).await?;
        if let Some(exception) = answer.get("exceptionDetails") {
            return Err(exception["text"]
                .as_str()
                .unwrap_or("unknown exception")
                .to_owned());
        }
        serde_json::from_str(answer["result"]["value"].as_str().unwrap_or_default())
            .map_err(|error| error.to_string())
    }

    fn complaints(&self) -> Vec<String> {
        self.complaints
            .lock()
            .expect("no panic while locked")
            .clone()
    }
}

async fn collect_complaints(
    mut events: mpsc::UnboundedReceiver<Value>,
    complaints: Arc<Mutex<Vec<String>>>,
) {
    while let Some(event) = events.recv().await {
        if matches!(event["params"]["level"].as_str(), Some("error" | "warn")) {
            let text = event["params"]["text"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            complaints.lock().expect("no panic while locked").push(text);
        }
    }
}
