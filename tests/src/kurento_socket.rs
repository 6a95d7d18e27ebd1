//! The Kurento protocol as an application's driver speaks it, one request after the other: [`KurentoSocket`].

use std::collections::VecDeque;

use serde_json::{Value, json};

use crate::room_socket::{Refusal, RoomSocket};
use crate::server::kurento_url;

/// A connection to `/kurento`, which is JSON-RPC as `/room` is.
#[derive(Debug)]
pub struct KurentoSocket {
    socket: RoomSocket,
    /// That nobody has asked for yet.
    events: VecDeque<Value>,
}

impl KurentoSocket {
    /// Connects to a server with `--kurento ADDRESS`.
    pub async fn connect(address: &str) -> Self {
        Self {
            socket: RoomSocket::connect(&kurento_url(address)).await,
            events: VecDeque::new(),
        }
    }

    /// Makes an object; its id.
    pub async fn create(&mut self, class: &str, parameters: Value) -> String {
        let params = json!({ "type": class, "constructorParams": parameters });
        let made = self.value("create", params).await;
        let made = made.unwrap_or_else(|refusal| panic!("{class}: {refusal:?}"));
        made.as_str().expect("an id").to_owned()
    }

    /// As [`Self::create`], of a class that it refuses.
    pub async fn create_in_vain(&mut self, class: &str, parameters: Value) -> Refusal {
        let params = json!({ "type": class, "constructorParams": parameters });
        let made = self.value("create", params).await;
        made.expect_err("the class is refused")
    }

    /// Calls an operation, which must succeed; what it returns.
    pub async fn invoke(&mut self, object: &str, operation: &str, parameters: Value) -> Value {
        let called = self.try_invoke(object, operation, parameters).await;
        called.unwrap_or_else(|refusal| panic!("{operation} of {object}: {refusal:?}"))
    }

    /// Calls an operation.
    pub async fn try_invoke(
        &mut self,
        object: &str,
        operation: &str,
        parameters: Value,
    ) -> Result<Value, Refusal> {
        let params =
            json!({ "object": object, "operation": operation, "operationParams": parameters });
        self.value("invoke", params).await
    }

    /// Lets media of `source` flow to `sink`.
    pub async fn connect_elements(&mut self, source: &str, sink: &str) {
        self.invoke(source, "connect", json!({ "sink": sink }))
            .await;
    }

    /// Asks for events of one type of an object.
    pub async fn subscribe(&mut self, object: &str, event: &str) {
        let params = json!({ "object": object, "type": event });
        let subscribed = self.value("subscribe", params).await;
        subscribed.unwrap_or_else(|refusal| panic!("{event} of {object}: {refusal:?}"));
    }

    /// Releases an object.
    pub async fn release(&mut self, object: &str) {
        let released = self
            .socket
            .request("release", json!({ "object": object }))
            .await;
        released.expect("releases never fail");
    }

    /// Waits for the next event of that type of an object; its data.
    pub async fn event(&mut self, object: &str, event: &str) -> Value {
        let is_meant = |it: &Value| it["object"] == object && it["type"] == event;
        let kept = self.events.iter().position(is_meant);
        if let Some(mut found) = kept.and_then(|index| self.events.remove(index)) {
            return found["data"].take();
        }
        loop {
            let mut params = self.socket.notification("onEvent").await;
            let mut found = params["value"].take();
            if is_meant(&found) {
                return found["data"].take();
            }
            self.events.push_back(found);
        }
    }

    async fn value(&mut self, method: &str, params: Value) -> Result<Value, Refusal> {
        let mut result = self.socket.request(method, params).await?;
        Ok(result["value"].take())
    }
}
