//! Messages on their way to one client, bounded in number and bytes.

use std::collections::VecDeque;

use super::Limits;
use crate::reply::Text;

/// A queue of encoded messages.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    messages: VecDeque<Message>,
    size_bytes: usize,
}

/// An encoded message, and whose it is.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) text: Text,
    /// Belongs to the session and moves with it to its next socket. Answers to pings and the like
    /// belong to the socket.
    pub(crate) of_session: bool,
}

/// The outbox would exceed its limits.
#[derive(Debug)]
pub(crate) struct Overflow;

impl Outbox {
    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    pub(crate) fn push(&mut self, message: Message, limits: &Limits) -> Result<(), Overflow> {
        let size_bytes = self.size_bytes + message.text.len();
        if self.messages.len() >= limits.outbox_frames || size_bytes > limits.outbox_bytes {
            return Err(Overflow);
        }
        self.size_bytes = size_bytes;
        self.messages.push_back(message);
        Ok(())
    }

    pub(crate) fn pop(&mut self) -> Option<Text> {
        let message = self.messages.pop_front()?;
        self.size_bytes -= message.text.len();
        Some(message.text)
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Takes out the messages of the session, in order.
    pub(crate) fn take_of_session(&mut self) -> Self {
        let (of_session, of_socket) = std::mem::take(&mut self.messages)
            .into_iter()
            .partition(|message| message.of_session);
        self.messages = of_socket;
        self.size_bytes = size_bytes(&self.messages);
        Self {
            size_bytes: size_bytes(&of_session),
            messages: of_session,
        }
    }

    /// Adds what another outbox held, beyond the limits, as those held it to them before.
    pub(crate) fn append(&mut self, mut other: Self) {
        self.size_bytes += other.size_bytes;
        self.messages.append(&mut other.messages);
    }

    /// Leaves the messages to the socket: they are sent on it or lost with it.
    pub(crate) fn disown(&mut self) {
        for message in &mut self.messages {
            message.of_session = false;
        }
    }
}

fn size_bytes(messages: &VecDeque<Message>) -> usize {
    messages.iter().map(|message| message.text.len()).sum()
}
