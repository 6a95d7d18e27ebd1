//! The drivers themselves, on pages that need no server.

use tests::browser::Page;
use tests::chromium::Chromium;
use tests::firefox::Firefox;
use tests::turn;

const PAGE: &str = "data:text/html,<title>page</title><input autofocus>";

#[tokio::test]
async fn chromium_evaluates_types_and_reports() {
    let _turn = turn::take().await;
    let browser = Chromium::launch().await;
    let page = browser.open("somebody", PAGE).await;
    assert_eq!(
        page.evaluate("Promise.resolve({ a: [1, 'é'] })")
            .await
            .to_string(),
        r#"{"a":[1,"é"]}"#
    );
    assert!(
        page.run("Promise.reject(new Error('no'))")
            .await
            .unwrap_err()
            .contains("Error: no")
    );
    page.evaluate("document.querySelector('input').focus()")
        .await;
    page.type_text("Ana ñ").await;
    page.wait_for("document.querySelector('input').value === 'Ana ñ'")
        .await;
    page.evaluate("console.error('odd', 1)").await;
    page.evaluate("void setTimeout(() => { throw new Error('later'); })")
        .await;
    page.wait_for("new Promise((resolve) => setTimeout(() => resolve(true)))")
        .await;
    let complaints = page.complaints().join("\n");
    assert!(
        complaints.contains("console: odd 1") && complaints.contains("Error: later"),
        "{complaints}"
    );
    assert!(page.screenshot("driver").await.metadata().unwrap().len() > 100);
}

#[tokio::test]
async fn firefox_evaluates_and_reports() {
    let _turn = turn::take().await;
    let page = Firefox::launch("somebody", PAGE).await;
    assert_eq!(
        page.evaluate("Promise.resolve({ a: [1, 'é'] })")
            .await
            .to_string(),
        r#"{"a":[1,"é"]}"#
    );
    assert!(
        page.run("Promise.reject(new Error('no'))")
            .await
            .unwrap_err()
            .contains("no")
    );
    page.evaluate("console.error('odd', 1)").await;
    page.wait_for("document.title === 'page'").await;
    assert!(page.complaints().join("\n").contains("odd 1"));
}
