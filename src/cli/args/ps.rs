//! Options of `ps`.

use clap::Args;

use super::ListFormat;

// `ps`. All arguments after the id are for ps(1), also those that look like options, so one list has both.
#[derive(Args, Debug)]
#[command(override_usage = "emergence-runc ps [OPTIONS] <container-id> [ps options]")]
pub(crate) struct PsArgs {
    /// Output format
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    pub format: ListFormat,
    /// The container, then options for ps(1) [default: -ef]
    #[arg(value_name = "container-id", trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    pub words: Vec<String>,
}
