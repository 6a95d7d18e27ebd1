//! Refusals, with the codes and names that applications switch on.

use serde_json::{Map, Value, json};

/// A refused request, as it goes over the wire.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message} ({code})")]
pub struct Fault {
    /// The number applications switch on.
    pub code: i32,
    /// The text they show.
    pub message: String,
    /// `data` of the error, absent for the JSON-RPC layer.
    pub data: Option<Value>,
}

/// Codes of the JSON-RPC layer (JSON-RPC 2.0, section 5.1).
impl Fault {
    /// Not JSON.
    pub const PARSE_ERROR: i32 = -32700;
    /// JSON, but no request.
    pub const INVALID_REQUEST: i32 = -32600;
    /// No such method.
    pub const METHOD_NOT_FOUND: i32 = -32601;
    /// `params` missing.
    pub const INVALID_PARAMS: i32 = -32602;
    /// The server failed.
    pub const INTERNAL: i32 = -32603;
    /// A parameter of the method is missing or mistyped.
    pub const PARAMETER: i32 = -32000;
}

/// Codes of the Kurento layer, with the names they go by.
macro_rules! codes {
    ($($(#[$doc:meta])* $constant:ident = $code:literal $symbol:literal;)*) => {
        impl Fault {
            $($(#[$doc])* pub const $constant: i32 = $code;)*

            fn symbol(code: i32) -> &'static str {
                match code {
                    $($code => $symbol,)*
                    Self::INVALID_PARAMS => "INVALID_PARAMS",
                    _ => "UNDEFINED",
                }
            }
        }
    };
}

codes! {
    /// An argument cannot be read.
    MARSHALL = 40001 "MARSHALL_ERROR";
    /// Anything unforeseen.
    UNEXPECTED = 40003 "UNEXPECTED_ERROR";
    /// Elements cannot be connected.
    CONNECT = 40004 "CONNECT_ERROR";
    /// A hub does not do that medium.
    UNSUPPORTED_MEDIA_TYPE = 40005 "UNSUPPORTED_MEDIA_TYPE";
    /// Known, but not made.
    NOT_IMPLEMENTED = 40006 "NOT_IMPLEMENTED";
    /// The session does not exist, or no longer.
    INVALID_SESSION = 40007 "INVALID_SESSION";
    /// A transaction is inconsistent, or an operation does not exist.
    MALFORMED_TRANSACTION = 40008 "MALFORMED_TRANSACTION";
    /// The server is full.
    NOT_ENOUGH_RESOURCES = 40009 "NOT_ENOUGH_RESOURCES";
    /// No object has that id.
    OBJECT_NOT_FOUND = 40101 "MEDIA_OBJECT_NOT_FOUND";
    /// The class has no such event.
    EVENT_NOT_SUPPORTED = 40106 "MEDIA_OBJECT_EVENT_NOT_SUPPORTED";
    /// An argument has a value that makes no sense.
    ILLEGAL_PARAMETER = 40107 "MEDIA_OBJECT_ILLEGAL_PARAM_ERROR";
    /// No such class, or it cannot be made.
    NOT_AVAILABLE = 40108 "MEDIA_OBJECT_NOT_AVAILABLE";
    /// A reference into a transaction, outside of one.
    OUTSIDE_TRANSACTION = 40109 "MEDIA_OBJECT_NOT_FOUND_TRANSACTION_NO_COMMIT";
    /// The object has no tag of that name.
    TAG_NOT_FOUND = 40110 "MEDIA_OBJECT_TAG_KEY_NOT_FOUND";
    /// The object cannot do that, or not now.
    OPERATION_NOT_SUPPORTED = 40111 "MEDIA_OBJECT_OPERATION_NOT_SUPPORTED";
    /// A session description cannot be made.
    SDP_CREATE = 40200 "SDP_CREATE_ERROR";
    /// A session description cannot be read.
    SDP_PARSE = 40201 "SDP_PARSE_ERROR";
    /// There is no local description yet.
    NO_LOCAL_SDP = 40202 "SDP_END_POINT_NO_LOCAL_SDP_ERROR";
    /// There is no remote description yet.
    NO_REMOTE_SDP = 40203 "SDP_END_POINT_NO_REMOTE_SDP_ERROR";
    /// No offer could be made.
    GENERATE_OFFER = 40204 "SDP_END_POINT_GENERATE_OFFER_ERROR";
    /// The offer was refused.
    PROCESS_OFFER = 40205 "SDP_END_POINT_PROCESS_OFFER_ERROR";
    /// The answer was refused.
    PROCESS_ANSWER = 40206 "SDP_END_POINT_PROCESS_ANSWER_ERROR";
    /// An endpoint negotiates once.
    ALREADY_NEGOTIATED = 40208 "SDP_END_POINT_ALREADY_NEGOTIATED";
    /// An answer without an offer.
    OFFER_NOT_GENERATED = 40209 "SDP_END_POINT_NOT_OFFER_GENERATED";
    /// A second answer. The name is misspelt on the wire.
    ANSWER_ALREADY_PROCESSED = 40210 "SDP_END_POINT_ANSWER_ALREADY_PROCCESED";
    /// Candidates could not be gathered.
    GATHER_CANDIDATES = 40400 "ICE_GATHER_CANDIDATES_ERROR";
    /// A candidate was refused.
    ADD_CANDIDATE = 40401 "ICE_ADD_CANDIDATE_ERROR";
    /// No module has that name. It has no symbol on the wire.
    MODULE_NOT_FOUND = 40500 "UNDEFINED";
    /// A player cannot go there.
    SEEK = 40700 "PLAYER_SEEK_FAIL";
}

impl Fault {
    /// A refusal of the Kurento layer, which names itself in `data`.
    pub fn kurento(code: i32, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            data: Some(json!({ "type": Self::symbol(code) })),
        }
    }

    /// A refusal of the JSON-RPC layer.
    pub fn rpc(code: i32, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            data: None,
        }
    }

    /// An argument cannot be read.
    pub fn marshall(message: impl Into<String>) -> Self {
        Self::kurento(Self::MARSHALL, message)
    }

    /// No object has that id.
    pub fn object_not_found(id: &str) -> Self {
        Self::kurento(Self::OBJECT_NOT_FOUND, format!("Object '{id}' not found"))
    }

    /// A named bound was reached.
    pub fn full(what: &str, limit: usize) -> Self {
        let message = format!("Reached KMS {what} limit: {limit}");
        Self::kurento(Self::NOT_ENOUGH_RESOURCES, message)
    }

    /// What a media server refused.
    pub fn of_media(error: &media::Error) -> Self {
        use media::Error as E;
        let code = match error {
            E::PipelineNotFound(_) | E::ElementNotFound(_) => Self::OBJECT_NOT_FOUND,
            E::Unsupported { .. } => Self::OPERATION_NOT_SUPPORTED,
            E::AlreadyNegotiated => Self::ALREADY_NEGOTIATED,
            E::NoOffer => Self::OFFER_NOT_GENERATED,
            E::Sdp(_) => Self::SDP_PARSE,
            E::Candidate(_) => Self::ADD_CANDIDATE,
            E::DifferentPipelines => Self::CONNECT,
            E::Full(_) => Self::NOT_ENOUGH_RESOURCES,
            E::Refused { code, .. } => *code,
            _ => Self::UNEXPECTED,
        };
        Self::kurento(code, error.to_string())
    }

    /// The `error` member of a response.
    pub fn to_value(&self) -> Value {
        let mut error = Map::new();
        error.insert("code".to_owned(), self.code.into());
        if let Some(data) = &self.data {
            error.insert("data".to_owned(), data.clone());
        }
        error.insert("message".to_owned(), self.message.clone().into());
        Value::Object(error)
    }

    /// Reads the `error` member of a response; whatever is missing becomes empty.
    pub fn from_value(error: &Value) -> Self {
        let code = error.get("code").and_then(Value::as_i64).unwrap_or(0);
        let message = error.get("message").and_then(Value::as_str);
        Self {
            code: i32::try_from(code).unwrap_or(0),
            message: message.unwrap_or_default().to_owned(),
            data: error.get("data").cloned(),
        }
    }

    /// The name in `data`, if there is one.
    pub fn kind(&self) -> Option<&str> {
        self.data.as_ref()?.get("type")?.as_str()
    }
}
