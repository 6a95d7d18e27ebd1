//! Classes of the module `filters`.

use super::core::{FILTER, IN_PIPELINE};
use super::table::{class, default, fixed, method, required};
use super::{Class, Kind, enumerations as e, events};

/// Bases before what derives from them.
pub(crate) static CLASSES: &[&Class] = &[
    &OPEN_CV_FILTER,
    &GSTREAMER_FILTER,
    &FACE_OVERLAY_FILTER,
    &IMAGE_OVERLAY_FILTER,
    &ZBAR_FILTER,
];

const TEXT: Kind = Kind::Text;

pub(crate) static OPEN_CV_FILTER: Class = class("OpenCVFilter", &FILTER);

pub(crate) static GSTREAMER_FILTER: Class = Class {
    constructor: Some(&[
        IN_PIPELINE,
        required("command", TEXT),
        default(
            "filterType",
            Kind::Enumeration(&e::FILTER_TYPE),
            r#""AUTODETECT""#,
        ),
    ]),
    properties: &[fixed("command", TEXT)],
    methods: &[method(
        "setElementProperty",
        &[
            required("propertyName", TEXT),
            required("propertyValue", TEXT),
        ],
        None,
    )],
    ..class("GStreamerFilter", &FILTER)
};

pub(crate) static FACE_OVERLAY_FILTER: Class = Class {
    constructor: Some(&[IN_PIPELINE]),
    methods: &[
        method("unsetOverlayedImage", &[], None),
        method(
            "setOverlayedImage",
            &[
                required("uri", TEXT),
                required("offsetXPercent", Kind::Float),
                required("offsetYPercent", Kind::Float),
                required("widthPercent", Kind::Float),
                required("heightPercent", Kind::Float),
            ],
            None,
        ),
    ],
    ..class("FaceOverlayFilter", &FILTER)
};

pub(crate) static IMAGE_OVERLAY_FILTER: Class = Class {
    constructor: Some(&[IN_PIPELINE]),
    methods: &[
        method("removeImage", &[required("id", TEXT)], None),
        method(
            "addImage",
            &[
                required("id", TEXT),
                required("uri", TEXT),
                required("offsetXPercent", Kind::Float),
                required("offsetYPercent", Kind::Float),
                required("widthPercent", Kind::Float),
                required("heightPercent", Kind::Float),
                required("keepAspectRatio", Kind::Flag),
                required("center", Kind::Flag),
            ],
            None,
        ),
    ],
    ..class("ImageOverlayFilter", &FILTER)
};

pub(crate) static ZBAR_FILTER: Class = Class {
    constructor: Some(&[IN_PIPELINE]),
    events: &[&events::CODE_FOUND],
    ..class("ZBarFilter", &FILTER)
};
