//! A WebSocket of the web framework as a [`Link`].

use axum::Error;
use axum::extract::ws::{CloseFrame, Message, WebSocket};
use futures_util::{SinkExt as _, StreamExt as _};
use kurento::{Frame, Link, LinkError};

pub(super) fn link(socket: WebSocket) -> Link {
    let (sink, stream) = socket.split();
    let incoming = stream.filter_map(|message| {
        let frame = match message {
            Ok(message) => frame(message).map(Ok),
            Err(error) => Some(Err(lost(&error))),
        };
        std::future::ready(frame)
    });
    let outgoing = sink
        .sink_map_err(|error| lost(&error))
        .with(|frame| std::future::ready(Ok(message(frame))));
    Link::new(incoming, outgoing)
}

/// Control frames are answered below.
fn frame(message: Message) -> Option<Frame> {
    match message {
        Message::Text(text) => Some(Frame::Text(text.as_str().to_owned())),
        Message::Binary(bytes) => Some(Frame::Binary(bytes.into())),
        Message::Close(frame) => {
            let (code, reason) = frame.map_or((1005, String::new()), |frame| {
                (frame.code, frame.reason.as_str().to_owned())
            });
            Some(Frame::Close { code, reason })
        }
        Message::Ping(_) | Message::Pong(_) => None,
    }
}

fn message(frame: Frame) -> Message {
    match frame {
        Frame::Text(text) => Message::Text(text.into()),
        Frame::Binary(bytes) => Message::Binary(bytes.into()),
        Frame::Close { code, reason } => Message::Close(Some(CloseFrame {
            code,
            reason: reason.into(),
        })),
    }
}

fn lost(error: &Error) -> LinkError {
    use tungstenite::Error;
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<Error>());
    match cause {
        Some(Error::Capacity(_)) => LinkError::TooBig,
        _ => LinkError::Lost(error.to_string()),
    }
}
