//! The server manager, and graphs for humans.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use super::Server;
use super::config::Unsupported;
use super::operations::{done, is_element};
use super::requests::Step;
use super::wiring::kind_name;
use super::work::{After, Call, ObjectKey};
use crate::fault::Fault;
use crate::model::marshal::{Arguments, register};
use crate::model::{Class, Module, core, descriptor};

/// Longest time over which the use of the processor is measured. The request's connection waits.
const MEASURE_MAX: Duration = Duration::from_secs(5);
/// When the tables of the model were last changed, in the form that the real server's build gives.
const GENERATED: &str = "Nov 23 2026 06:00:00";
/// Bytes of a graph, of which what comes later is left out; as JSON it is some tenths longer, since line feeds and
/// quotation marks are escaped. Too low: large pipelines are cut. Too high: clients refuse messages of over a megabyte.
const DOT_BYTES_MAX: usize = 750_000;

impl Server {
    pub(super) fn call_manager(&self, method: &str, arguments: &Arguments) -> Result<Step, Fault> {
        match method {
            "getKmd" => {
                let module = Module::named(arguments.text("moduleName"));
                let module = module.ok_or_else(|| {
                    let message = "Requested kmd module doesn't exist";
                    Fault::kurento(Fault::MODULE_NOT_FOUND, message)
                })?;
                done(descriptor::of(module, &self.config.version).into())
            }
            "getCpuCount" => done(self.config.cpu_count.into()),
            "getUsedCpu" => {
                let interval = u64::try_from(arguments.integer("interval")).unwrap_or(0);
                let interval = Duration::from_millis(interval).min(MEASURE_MAX);
                Ok(Step::Media {
                    calls: vec![Call::MeasureCpu { interval }],
                    after: After::Measured,
                })
            }
            _ => Ok(Step::Media {
                calls: vec![Call::MeasureMemory],
                after: After::Measured,
            }),
        }
    }

    pub(super) fn manager_property(&self, name: &str) -> Value {
        match name {
            "info" => self.info(),
            "pipelines" => {
                let objects = self.objects.iter();
                let pipelines = objects.filter(|object| object.class.is(&core::MEDIA_PIPELINE));
                pipelines.map(|object| &*object.id).collect()
            }
            "sessions" => {
                let mut names: Vec<_> = self.sessions.names().map(|name| &**name).collect();
                names.sort_unstable();
                names.into_iter().collect()
            }
            "metadata" => self.config.metadata.clone().into(),
            _ => Value::Null,
        }
    }

    fn info(&self) -> Value {
        let modules = Module::ALL.into_iter().map(|module| {
            let mut factories = module.factories();
            if self.config.unsupported == Unsupported::Reject {
                let runs = |name: &&str| Class::creatable(name).is_some_and(|c| !c.is_hollow());
                factories.retain(runs);
            }
            let members = json!({
                "version": self.config.version,
                "name": module.name(),
                "generationTime": GENERATED,
                "factories": factories,
            });
            register("ModuleInfo", members)
        });
        let members = json!({
            "version": self.config.version,
            "modules": modules.collect::<Vec<_>>(),
            "type": "KMS",
            "capabilities": ["transactions"],
        });
        register("ServerInfo", members)
    }

    /// A graph of an object and what is below it, in the language of Graphviz.
    pub(super) fn dot(&self, key: ObjectKey) -> String {
        let mut dot = String::from("digraph pipeline {\n  rankdir=LR;\n");
        let members = self.objects.subtree(key);
        let objects = members.iter().filter_map(|key| self.objects.get(*key));
        let elements: Vec<_> = objects.filter(|object| is_element(object)).collect();
        for element in elements {
            if dot.len() > DOT_BYTES_MAX {
                break;
            }
            let (number, class) = (element.key.0, element.class.name);
            // Writing to a string cannot fail.
            let _ = writeln!(dot, "  e{number} [label=\"{class}\\n{}\"];", element.id);
            for (sink, kind) in self.objects.wires.fed_by(element.key) {
                if dot.len() > DOT_BYTES_MAX {
                    break;
                }
                let (sink, kind) = (sink.0, kind_name(kind));
                let _ = writeln!(dot, "  e{number} -> e{sink} [label=\"{kind}\"];");
            }
        }
        dot.push_str("}\n");
        dot
    }
}
