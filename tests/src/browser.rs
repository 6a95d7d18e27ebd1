//! What a scenario does with a page, in whichever browser it is open.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;

use crate::deadline::{PATIENCE, within_time};

/// A page open in a browser.
#[async_trait]
pub trait Page: Send + Sync {
    /// What the person behind the page is called in messages of failures.
    fn name(&self) -> &str;

    /// The JSON text of what `expression` gives after its promise is settled, or what it threw.
    async fn run(&self, expression: &str) -> Result<Value, String>;

    /// What the page complained about since it was opened.
    fn complaints(&self) -> Vec<String>;

    /// The value of a JavaScript expression, whose promise is awaited; `undefined` is null.
    async fn evaluate(&self, expression: &str) -> Value {
        let limit = PATIENCE + Duration::from_secs(10);
        within_time(
            limit,
            format!("{}: {expression}", self.name()),
            self.run(expression),
        )
        .await
        .unwrap_or_else(|error| {
            panic!(
                "{}: {expression}\n{error}\n{}",
                self.name(),
                self.complaints().join("\n")
            )
        })
    }

    /// Waits inside the page until `condition`, an expression that may give a promise, is true-ish,
    /// and gives its value. What it threw last, and what the page shows, are part of the message of a failure.
    async fn wait_for(&self, condition: &str) -> Value {
        self.wait_for_within(condition, PATIENCE).await
    }

    /// As [`Page::wait_for`], with another limit.
    async fn wait_for_within(&self, condition: &str, limit: Duration) -> Value {
        let script = format!(
            "new Promise((resolve, reject) => {{
                const end = performance.now() + {limit_ms};
                let last;
                const check = async () => {{
                    try {{
                        last = await ({condition});
                        if (last) return resolve(last);
                    }} catch (error) {{ last = error; }}
                    if (performance.now() > end) {{
                        const text = last instanceof Error ? last.stack : JSON.stringify(last);
                        const shown = document.body?.innerText;
                        return reject(new Error(`not in time; last: ${{text}}; the page shows: ${{shown}}`));
                    }}
                    setTimeout(check, 50);
                }};
                check();
            }})",
            limit_ms = limit.as_millis(),
        );
        within_time(
            limit + Duration::from_secs(10),
            format!("{}: {condition}", self.name()),
            self.run(&script),
        )
        .await
        .unwrap_or_else(|error| {
            panic!(
                "{} waits for: {condition}\n{error}\n{}",
                self.name(),
                self.complaints().join("\n")
            )
        })
    }
}

/// An expression whose value is the JSON text of `expression`: both protocols describe other values
/// each in its own way.
pub(crate) fn as_json_text(expression: &str) -> String {
    format!("(async () => JSON.stringify((await ({expression})) ?? null))()")
}
