//! Transactions: requests in one frame, each of which may refer to the results of those before it.

use std::collections::VecDeque;

use serde_json::Value;

use super::Server;
use super::requests::{Answer, Outcome, Params, Step, result};
use super::sessions::SessionName;
use super::work::{After, Call};
use crate::fault::Fault;
use crate::wire::{self, Request};

/// Operations of one transaction. Clients use some dozens.
const OPERATIONS_MAX: usize = 10_000;
/// Bytes of all results, and of all copies of them that references ask for: a small frame can refer to a large result a
/// hundred thousand times. Too low: long transactions fail. Too high: memory for an answer that no outbox takes.
const BYTES_MAX: usize = 16 * 1024 * 1024;
const REFERENCE: &str = "newref:";

/// A transaction that is being run.
#[derive(Debug)]
pub(super) struct Transaction {
    operations: VecDeque<Value>,
    /// Of what was run so far; their number is the index of the next operation.
    responses: Vec<Value>,
    /// Of those, and of what references were replaced by.
    bytes: usize,
    failed: bool,
}

pub(super) enum Progress {
    Done(Answer),
    Wait(Transaction, Vec<Call>, After),
}

impl Transaction {
    /// Notes the answer of the operation that was run last.
    pub(super) fn record(&mut self, answer: Answer, session: &SessionName) {
        self.failed = answer.is_err();
        let id = Value::from(self.responses.len());
        let outcome = answer
            .as_ref()
            .map(|outcome| result(outcome, Some(session)));
        let response = wire::response(&id, outcome);
        self.bytes += weight(&response);
        self.responses.push(response);
    }

    /// Takes the next operation, its references resolved. `None`: nothing more is run.
    fn next(&mut self) -> Option<Result<Request, Fault>> {
        if self.failed {
            return None;
        }
        let operation = self.operations.pop_front()?;
        Some(self.read(operation))
    }

    fn read(&mut self, operation: Value) -> Result<Request, Fault> {
        self.check_bytes()?;
        let index = self.responses.len();
        let id = operation.get("id").and_then(|id| match id {
            Value::String(text) => text.parse().ok(),
            id => id.as_u64(),
        });
        if id.is_none_or(|id| usize::try_from(id) != Ok(index)) {
            return Err(malformed(format!(
                "Id of request '{index}' should be '{index}'"
            )));
        }
        let request = wire::request_of(operation).ok_or_else(wire::invalid_request)?;
        let params = self.resolve(request.params)?;
        Ok(Request { params, ..request })
    }

    /// Replaces references anywhere in a value.
    fn resolve(&mut self, value: Value) -> Result<Value, Fault> {
        Ok(match value {
            Value::String(text) => match text.strip_prefix(REFERENCE) {
                Some(index) if !index.is_empty() => self.result_of(index)?,
                _ => Value::String(text),
            },
            Value::Array(items) => {
                let items = items.into_iter().map(|item| self.resolve(item));
                Value::Array(items.collect::<Result<_, _>>()?)
            }
            Value::Object(members) => {
                let members = members.into_iter();
                let members = members.map(|(name, value)| Ok((name, self.resolve(value)?)));
                Value::Object(members.collect::<Result<_, Fault>>()?)
            }
            other => other,
        })
    }

    fn result_of(&mut self, index: &str) -> Result<Value, Fault> {
        let number: usize = index
            .parse()
            .map_err(|_| malformed(format!("Invalid index of newref '{index}'")))?;
        let response = self.responses.get(number);
        let value = response.and_then(|response| response.pointer("/result/value"));
        let value =
            value.ok_or_else(|| malformed(format!("Result not found on request {number}")))?;
        self.bytes += weight(value);
        let value = value.clone();
        self.check_bytes()?;
        Ok(value)
    }

    fn check_bytes(&self) -> Result<(), Fault> {
        match self.bytes > BYTES_MAX {
            true => Err(Fault::full("bytes of a transaction", BYTES_MAX)),
            false => Ok(()),
        }
    }
}

/// Bytes that a value takes in memory, or a little less.
fn weight(value: &Value) -> usize {
    size_of::<Value>()
        + match value {
            Value::String(text) => text.len(),
            Value::Array(items) => items.iter().map(weight).sum(),
            Value::Object(members) => members
                .iter()
                .map(|(name, value)| name.len() + weight(value))
                .sum(),
            _ => 0,
        }
}

impl Server {
    pub(super) fn read_transaction(mut params: Params) -> Result<Transaction, Fault> {
        let operations = match params.members.remove("operations") {
            None => {
                let message = "'operations' parameter is required";
                return Err(Fault::rpc(Fault::PARAMETER, message));
            }
            Some(Value::Array(operations)) => operations,
            Some(_) => {
                let message = "'operations' parameter should be an array";
                return Err(Fault::rpc(Fault::PARAMETER, message));
            }
        };
        if operations.len() > OPERATIONS_MAX {
            return Err(Fault::full("operations", OPERATIONS_MAX));
        }
        Ok(Transaction {
            operations: operations.into(),
            responses: Vec::new(),
            bytes: 0,
            failed: false,
        })
    }

    /// Runs operations until one fails or has to wait.
    pub(super) fn run_transaction(
        &mut self,
        mut transaction: Transaction,
        session: &SessionName,
    ) -> Progress {
        while let Some(request) = transaction.next() {
            let request = match request {
                Ok(request) => request,
                Err(fault) => return Progress::Done(Err(fault)),
            };
            match self.run_operation(request, session) {
                Step::Done(answer) => transaction.record(answer, session),
                Step::Media { calls, after } => return Progress::Wait(transaction, calls, after),
            }
        }
        Progress::Done(Ok(Outcome::Value(transaction.responses.into())))
    }

    fn run_operation(&mut self, request: Request, session: &SessionName) -> Step {
        let members = match request.params {
            Value::Object(members) => members,
            _ => serde_json::Map::new(),
        };
        match request.method.as_str() {
            "transaction" => Step::Done(Err(malformed(
                "A transaction cannot contain another".to_owned(),
            ))),
            method => self.run(method, &Params::new(members), Some(session)),
        }
    }
}

fn malformed(message: String) -> Fault {
    Fault::kurento(Fault::MALFORMED_TRANSACTION, message)
}
