//! The command line and the environment: what they say, and the text around the settings in `--help`.

use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, CommandFactory as _, FromArgMatches as _, Parser};
use figment::value::{Dict, Value};

use super::settings::{Config, SECTIONS};

/// A WebRTC media server and room server in one binary.
///
/// Without any option it serves a demo at https://localhost:8443, with a certificate of its own
/// that the browser will warn of.
#[derive(Debug, Parser)]
#[command(name = "tertulia", version, max_term_width = 100, after_long_help = EXAMPLES)]
struct Program {
    /// TOML file with any of the long options below as keys, without dashes in front. Or a Kurento Media Server's own
    /// kurento.conf.json, with the files of WebRtcEndpoint, BaseRtpEndpoint and UriEndpoint below modules/kurento
    /// beside it; other files are not looked at, and keys without effect are told.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print the settings that result from flags, environment and file, look whether the files and directories that
    /// they name can be used, and exit.
    #[arg(long)]
    check_config: bool,
    #[command(flatten)]
    settings: Config,
}

const EXAMPLES: &str = "\
Examples:
  tertulia
      On your own machine: open https://localhost:8443 in two tabs.
  tertulia --announce 203.0.113.7
      On a cloud machine whose public address is not on its network interface.
  tertulia --cert fullchain.pem --key privkey.pem --listen 0.0.0.0:443
      With a certificate of your own. SIGHUP loads it again after renewal.
  tertulia --http --listen 127.0.0.1:8080
      Behind a reverse proxy that terminates TLS. The proxy must pass WebSocket upgrades of /room on.
      Set an admin token, or strangers may seem to be on this machine.
  tertulia --media pool --kms-uri ws://10.0.0.5:8888/kurento --media-rule 'room:filter-*=kms'
      With a Kurento Media Server for rooms that need filters, mixing or transcoding.
  tertulia --kurento 127.0.0.1:8888
      As a Kurento Media Server too, for applications on this machine: ws://localhost:8888/kurento.

Ports to open in the firewall:
  TCP 8443 (--listen)                     web pages and signaling
  UDP 7100 (--udp-port)                   media
  TCP 7100                                media for clients whose network blocks UDP
  TCP 8888 (--kurento), and               only to application servers that use this one as their Kurento
      8433 (--kurento-secure)             Media Server
  UDP 20000 to 20999 (--rtp-ports)        only for gateways that speak plain RTP, and only to them

Environment: every option can be set as TERTULIA_ and its name in capitals, dashes as underscores, such as
TERTULIA_UDP_PORT=7200. Lists are separated by commas. Precedence: flag, environment, file, default.";

/// What the command line and the environment say.
#[derive(Debug)]
pub struct Arguments {
    program: Program,
    matches: ArgMatches,
}

impl Arguments {
    /// Those of this process; ends it if they ask for help or make no sense.
    pub fn parse() -> Self {
        let matches = command().get_matches();
        let program = Program::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
        Self { program, matches }
    }

    /// Print the settings, and exit.
    pub fn check_config(&self) -> bool {
        self.program.check_config
    }

    /// The file with further settings.
    pub(super) fn file(&self) -> Option<&PathBuf> {
        self.program.config.as_ref()
    }

    /// The settings that are given, without those that have their default.
    pub(super) fn given(&self) -> Result<Dict, String> {
        let settings = Value::serialize(&self.program.settings);
        let settings = settings.map_err(|error| error.to_string())?;
        let mut settings = settings.into_dict().unwrap_or_default();
        settings.retain(|key, _| {
            let source = self.matches.value_source(&key.replace('-', "_"));
            matches!(
                source,
                Some(ValueSource::CommandLine | ValueSource::EnvVariable)
            )
        });
        Ok(settings)
    }
}

/// The command line, with what all settings have in common: a variable, and a section of `--help`.
pub(super) fn command() -> Command {
    let mut section = None;
    Program::command().mut_args(|argument| {
        let id = argument.get_id().to_string();
        if let Some((_, title)) = SECTIONS.iter().find(|(first, _)| *first == id) {
            section = Some(*title);
        }
        if id == "check_config" {
            return argument;
        }
        let variable = format!("TERTULIA_{}", id.to_uppercase());
        let argument = match argument.get_action() {
            ArgAction::SetTrue => switch(argument),
            _ => argument,
        };
        argument.env(variable).help_heading(section)
    })
}

/// One that can be switched off as well, since the environment or the file may have switched it on.
fn switch(argument: Arg) -> Arg {
    argument
        .action(ArgAction::Set)
        .value_name("BOOL")
        .num_args(0..=1)
        .require_equals(true)
        .default_value("false")
        .default_missing_value("true")
}
